"""What the tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from pilotis import Pilotis
from pilotis.bridge import drive
from pilotis_locking_postgres import PostgresLocks, PostgresLocksOptions
from pilotis_testing.clock import ManualClock
from pilotis_testing.postgres import tell

WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND NOT granted"
STILL = """
CREATE TABLE still (moment timestamptz);
INSERT INTO still VALUES (to_timestamp({now}));
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT moment FROM public.still';
DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database());
END $$;
"""
"""Time stands still for the functions of the table: a slow machine changes nothing."""
ADVANCE = "UPDATE still SET moment = moment + make_interval(secs => %s)"


class PostgresClock(ManualClock):
    """A manual clock that the database goes by, too. Who waits in the server waits on it."""

    def __init__(self, url: str) -> None:
        super().__init__()
        tell(url, STILL.format(now=self.time()))
        self._connection = psycopg.connect(url, autocommit=True)

    @property
    def waiting(self) -> int:
        row = self._connection.execute(WAITING).fetchone()
        assert row is not None
        return super().waiting + row[0]

    def advance(self, seconds: float) -> None:
        self._connection.execute(ADVANCE, (seconds,))
        super().advance(seconds)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def migrated(postgres_url: str) -> None:
    """Make what every mode needs."""
    migrate(postgres_url)


def migrate(url: str) -> list[str]:
    """Make what every mode needs, and tell what that was."""
    provider = PostgresLocks(PostgresLocksOptions(url=url, mode="table"))
    try:
        return drive(provider.migrate(), "migrate")
    finally:
        drive(provider.close(), "close")


@pytest.fixture
def clock(postgres_url: str, migrated: None) -> Iterator[PostgresClock]:
    """A clock that takes what is in the database along."""
    clock = PostgresClock(postgres_url)
    yield clock
    clock.close()


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
