"""The ledger in SQLite keeps what every ledger in a database keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pilotis.providers import Context
from pilotis_store_sqlite import SqliteLedger, SqliteLedgerOptions
from pilotis_testing import ManualClock
from pilotis_testing.ledger import DurableLedgerConformance, MakeLedger


class TestSqliteLedger(DurableLedgerConformance):
    @pytest.fixture
    def ledger(self, tmp_path: Path, clock: ManualClock) -> MakeLedger:
        def make(*, name: str = "shop", **options: Any) -> SqliteLedger:
            made = SqliteLedger(SqliteLedgerOptions(url=f"sqlite:///{tmp_path}/shop.db", timeout=30, **options))
            made.context = Context(clock=clock, name=name)
            return made

        return make
