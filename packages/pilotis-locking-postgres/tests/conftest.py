"""What the tests share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from pilotis import Pilotis
from pilotis.bridge import drive
from pilotis_locking_postgres import PostgresLocks, PostgresLocksOptions
from pilotis_testing.clock import ManualClock
from pilotis_testing.postgres import VARIABLE, Database, tell

WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND NOT granted"
STOPPED = """
CREATE SCHEMA stopped;
CREATE TABLE stopped.clock AS SELECT clock_timestamp() AS moment;
CREATE FUNCTION stopped.clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
AS 'SELECT moment FROM stopped.clock';
"""
"""A clock that stands still, so that a slow machine changes nothing."""
STOP = """
DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET search_path = public, stopped, pg_catalog', current_database());
END $$;
"""
CLEAN = """
DELETE FROM pilotis_locks;
DELETE FROM pilotis_locks_queue;
DROP TABLE IF EXISTS kept;
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET ALL', current_database()); END $$;
"""


class PostgresClock(ManualClock):
    """A manual clock that knows who waits in the server."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.connection = psycopg.connect(url, autocommit=True)

    @property
    def waiting(self) -> int:
        row = self.connection.execute(WAITING).fetchone()
        assert row is not None
        return super().waiting + row[0]


class StoppedClock(PostgresClock):
    """One that the functions of the database go by, too."""

    def __init__(self, url: str) -> None:
        tell(url, STOP)
        super().__init__(url)
        self.connection.execute("UPDATE stopped.clock SET moment = to_timestamp(%s)", (self.time(),))

    def advance(self, seconds: float) -> None:
        self.connection.execute("UPDATE stopped.clock SET moment = moment + make_interval(secs => %s)", (seconds,))
        super().advance(seconds)


@pytest.fixture(scope="session")
def _locks_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database that has what every mode needs."""
    lasting = os.environ.get(VARIABLE)
    database = Database(lasting or request.getfixturevalue("postgres_server").url, "locks")
    database.make()
    migrate(database.url)
    tell(database.url, STOPPED)
    yield database
    if lasting:
        database.remove()


@pytest.fixture
def locks_url(_locks_database: Database) -> str:
    """The URL of a database that has what every mode needs, and no locks."""
    _locks_database.reset(CLEAN)
    return _locks_database.url


@pytest.fixture
def clock(locks_url: str) -> Iterator[PostgresClock]:
    """A clock that knows who waits in the server."""
    clock = PostgresClock(locks_url)
    yield clock
    clock.connection.close()


@pytest.fixture
def stopped_clock(locks_url: str) -> Iterator[StoppedClock]:
    """A clock that the database goes by, too."""
    clock = StoppedClock(locks_url)
    yield clock
    clock.connection.close()


def migrate(url: str) -> list[str]:
    """Make what every mode needs, and tell what that was."""
    provider = PostgresLocks(PostgresLocksOptions(url=url, mode="table"))
    try:
        return drive(provider.migrate(), "migrate")
    finally:
        drive(provider.close(), "close")


@pytest.fixture
def migrated(postgres_url: str) -> None:
    """Make what every mode needs in the database of `postgres_url`."""
    migrate(postgres_url)


@pytest.fixture
def make_app() -> Iterator[Callable[..., Pilotis]]:
    """Make apps of one name, with these options of locking; they are closed in the end."""
    made: list[Pilotis] = []

    def make(url: str, **options: Any) -> Pilotis:
        made.append(Pilotis({"name": "shop", "locking": {"url": url, **options}}))
        return made[-1]

    yield make
    for app in made:
        app.close()
