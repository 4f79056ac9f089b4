"""The event outbox and the notification ledger of Pilotis in PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.faces import lazily

if TYPE_CHECKING:
    from pilotis_store_postgres.ledger import PostgresLedger, PostgresLedgerOptions
    from pilotis_store_postgres.outbox import PostgresOutbox, PostgresOutboxOptions

__all__ = ["PostgresLedger", "PostgresLedgerOptions", "PostgresOutbox", "PostgresOutboxOptions"]

__getattr__ = lazily(
    globals(),
    {
        "pilotis_store_postgres.ledger": "PostgresLedger PostgresLedgerOptions",
        "pilotis_store_postgres.outbox": "PostgresOutbox PostgresOutboxOptions",
    },
)
