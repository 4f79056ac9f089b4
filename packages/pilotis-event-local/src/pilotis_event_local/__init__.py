"""Events within one process, for Pilotis."""

from __future__ import annotations

from pilotis_event_local.provider import LocalEvents, LocalEventsOptions

__all__ = ["LocalEvents", "LocalEventsOptions"]
