"""The PostgreSQL provider does what every locking provider must do, in each of its modes."""

from __future__ import annotations

import pytest
from pilotis_locking_postgres import PostgresLocks, PostgresLocksOptions
from pilotis_testing.locking import LockingConformance


@pytest.mark.usefixtures("migrated")
class TestTransactionLocks(LockingConformance):
    @pytest.fixture
    def provider(self, postgres_url: str) -> PostgresLocks:
        return PostgresLocks(PostgresLocksOptions(url=postgres_url))


@pytest.mark.slow
@pytest.mark.usefixtures("migrated")
class TestSessionLocks(LockingConformance):
    @pytest.fixture
    def provider(self, postgres_url: str) -> PostgresLocks:
        return PostgresLocks(PostgresLocksOptions(url=postgres_url, mode="session"))


@pytest.mark.slow
@pytest.mark.usefixtures("migrated")
class TestTableLocks(LockingConformance):
    @pytest.fixture
    def provider(self, postgres_url: str) -> PostgresLocks:
        return PostgresLocks(PostgresLocksOptions(url=postgres_url, mode="table"))
