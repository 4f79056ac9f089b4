"""Processes that are killed and paused inside of critical sections, on a PostgreSQL that is restarted and cut off."""

from __future__ import annotations

from pathlib import Path

import pytest
from pilotis.bridge import blocking
from pilotis_locking_postgres import PostgresLocks, PostgresLocksOptions
from pilotis_testing.chaos import FULL, size
from pilotis_testing.locking_chaos import battle
from pilotis_testing.postgres import PostgresServer, tell

pytestmark = [pytest.mark.campaign, pytest.mark.slow, pytest.mark.timeout(3600 if FULL else 180)]

CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IS NOT NULL"


@pytest.mark.parametrize("mode", ["transaction", "session", "table"] if FULL else ["transaction", "table"])
def test_critical_sections_exclude_one_another(tmp_path: Path, own_postgres: PostgresServer, mode: str) -> None:
    """Whatever becomes of their processes, of the server and of their connections."""
    migrate(own_postgres.url)

    def cut() -> None:
        tell(own_postgres.url, CUT)

    def crash() -> None:
        own_postgres.kill()
        own_postgres.start()

    happenings = [own_postgres.restart, cut, crash] * size(1, 10)
    with battle(tmp_path, {"url": own_postgres.url, "mode": mode, "ttl": 1}) as fight:
        fight.win(sections=size(80, 20_000), kills=size(1, 40), pauses=size(1, 40), others=happenings)


def migrate(url: str) -> None:
    """Make what every mode needs."""
    provider = PostgresLocks(PostgresLocksOptions(url=url, mode="table"))
    blocking(PostgresLocks.migrate)(provider)
    blocking(PostgresLocks.close)(provider)
