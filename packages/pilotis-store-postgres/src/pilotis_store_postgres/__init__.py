"""The event outbox and the notification ledger of Pilotis in PostgreSQL."""

from __future__ import annotations

__all__: list[str] = []
