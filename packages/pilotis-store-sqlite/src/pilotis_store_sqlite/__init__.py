"""The event outbox and the notification ledger of Pilotis in SQLite."""

from __future__ import annotations

from pilotis_store_sqlite.ledger import SqliteLedger, SqliteLedgerOptions

__all__ = ["SqliteLedger", "SqliteLedgerOptions"]
