"""The PostgreSQL provider does what every locking provider must do, in each of its modes."""

from __future__ import annotations

from typing import Any

import pytest
from pilotis_locking_postgres import PostgresLocks, PostgresLocksOptions
from pilotis_testing.locking import LockingConformance


class TestTransactionLocks(LockingConformance):
    @pytest.fixture
    def provider(self, locks_url: str) -> PostgresLocks:
        return PostgresLocks(PostgresLocksOptions(url=locks_url))


@pytest.mark.slow
class TestSessionLocks(LockingConformance):
    @pytest.fixture
    def provider(self, locks_url: str) -> PostgresLocks:
        return PostgresLocks(PostgresLocksOptions(url=locks_url, mode="session"))


@pytest.mark.slow
class TestTableLocks(LockingConformance):
    @pytest.fixture
    def clock(self, stopped_clock: Any) -> Any:
        return stopped_clock

    @pytest.fixture
    def provider(self, locks_url: str) -> PostgresLocks:
        return PostgresLocks(PostgresLocksOptions(url=locks_url, mode="table"))
