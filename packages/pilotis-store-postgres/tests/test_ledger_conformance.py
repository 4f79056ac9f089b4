"""The ledger in PostgreSQL keeps what every ledger in a database keeps."""

from __future__ import annotations

from typing import Any

import pytest
from pilotis.providers import Context
from pilotis_store_postgres import PostgresLedger, PostgresLedgerOptions
from pilotis_testing import ManualClock
from pilotis_testing.ledger import DurableLedgerConformance, MakeLedger


class TestPostgresLedger(DurableLedgerConformance):
    @pytest.fixture
    def ledger(self, postgres_url: str, clock: ManualClock) -> MakeLedger:
        def make(*, name: str = "shop", **options: Any) -> PostgresLedger:
            made = PostgresLedger(PostgresLedgerOptions(url=postgres_url, **options))
            made.context = Context(clock=clock, name=name)
            return made

        return make
