"""The event outbox and the notification ledger of Pilotis in SQLite."""

from __future__ import annotations

__all__: list[str] = []
