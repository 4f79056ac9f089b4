"""The ledger in SQLite keeps what every ledger keeps."""

from __future__ import annotations

from pathlib import Path

import pytest
from pilotis_store_sqlite import SqliteLedger, SqliteLedgerOptions
from pilotis_testing.ledger import LedgerConformance


class TestSqliteLedger(LedgerConformance):
    @pytest.fixture
    def provider(self, tmp_path: Path) -> SqliteLedger:
        return SqliteLedger(SqliteLedgerOptions(url=f"sqlite:///{tmp_path}/shop.db"))
