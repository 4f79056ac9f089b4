"""The event outbox and the notification ledger of Pilotis in SQLite."""

from __future__ import annotations

from pilotis_store_sqlite.ledger import SqliteLedger, SqliteLedgerOptions
from pilotis_store_sqlite.outbox import SqliteOutbox, SqliteOutboxOptions

__all__ = ["SqliteLedger", "SqliteLedgerOptions", "SqliteOutbox", "SqliteOutboxOptions"]
