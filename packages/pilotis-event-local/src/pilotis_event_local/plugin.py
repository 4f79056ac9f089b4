"""What Pilotis finds by the entry point `local`."""

from __future__ import annotations

from pilotis.providers import EventProvider, hookimpl


@hookimpl
def pilotis_provider() -> type[EventProvider]:
    """Return the provider, imported only when it is chosen."""
    from pilotis_event_local.provider import LocalEvents

    return LocalEvents
