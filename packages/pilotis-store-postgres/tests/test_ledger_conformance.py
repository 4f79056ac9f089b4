"""The ledger in PostgreSQL keeps what every ledger keeps."""

from __future__ import annotations

import pytest
from pilotis_store_postgres import PostgresLedger, PostgresLedgerOptions
from pilotis_testing.ledger import LedgerConformance


class TestPostgresLedger(LedgerConformance):
    @pytest.fixture
    def provider(self, postgres_url: str) -> PostgresLedger:
        return PostgresLedger(PostgresLedgerOptions(url=postgres_url))
