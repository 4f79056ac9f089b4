"""The PostgreSQL provider does what every locking provider must do, in each of its modes."""

from __future__ import annotations

from typing import Any

import pytest
from pilotis_locking_postgres import PostgresLocks, PostgresLocksOptions
from pilotis_testing.locking import LockingConformance
from pilotis_testing.moments import WAITS_OF_THE_BRIDGE

WAITS = WAITS_OF_THE_BRIDGE | {"read", "_wait_conn"}
"""Where a blocking call stands that waits for an answer, or for a connection."""


class TestTransactionLocks(LockingConformance):
    waits = WAITS

    @pytest.fixture
    def provider(self, locks_url: str) -> PostgresLocks:
        return PostgresLocks(PostgresLocksOptions(url=locks_url))


@pytest.mark.slow
class TestSessionLocks(LockingConformance):
    waits = WAITS

    @pytest.fixture
    def provider(self, locks_url: str) -> PostgresLocks:
        return PostgresLocks(PostgresLocksOptions(url=locks_url, mode="session"))


@pytest.mark.slow
class TestTableLocks(LockingConformance):
    waits = WAITS

    @pytest.fixture
    def clock(self, stopped_clock: Any) -> Any:
        return stopped_clock

    @pytest.fixture
    def provider(self, locks_url: str) -> PostgresLocks:
        return PostgresLocks(PostgresLocksOptions(url=locks_url, mode="table"))
