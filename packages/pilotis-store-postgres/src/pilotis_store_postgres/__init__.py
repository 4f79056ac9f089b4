"""The event outbox and the notification ledger of Pilotis in PostgreSQL."""

from __future__ import annotations

from pilotis_store_postgres.ledger import PostgresLedger, PostgresLedgerOptions
from pilotis_store_postgres.outbox import PostgresOutbox, PostgresOutboxOptions

__all__ = ["PostgresLedger", "PostgresLedgerOptions", "PostgresOutbox", "PostgresOutboxOptions"]
