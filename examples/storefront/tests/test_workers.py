"""The shop with worker processes, one of which is killed while it trades."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from pilotis_testing.chaos import Team, eventually, team
from pilotis_testing.redis import tell
from storefront import main
from storefront.app import app
from storefront.books import check_books
from storefront.database import VARIABLE
from storefront.gateway import gateway
from storefront.reading import read_shop
from storefront.records import records
from storefront.trading import trade

ORDERS = 120
"""Of the own shop."""


@pytest.fixture
def workers(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Team]:
    """Two worker processes that Redis knows, and settings for this one that are the same."""
    gateway.clear()
    for name, value in (
        ("PILOTIS_EVENT", redis_url),
        ("PILOTIS_EVENT__LIVENESS", "2"),
        (VARIABLE, str(tmp_path / "shop.db")),
    ):
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "pilotis", "worker", "--app", "storefront.app:app"]
    with team(command, tmp_path / "printed", os.environ) as lent:
        for _ in range(2):
            lent.start()
        eventually(lambda: tell(redis_url, "ZCARD", "{pilotis:events}:w") == 2)
        yield lent
    records.database.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_books_balance_although_a_worker_is_killed(workers: Team, tmp_path: Path) -> None:
    """Each event has its effect once, whoever handles it; on a second day with the same Redis, too."""
    whole = read_shop(main.OWN_SHOP)
    shop = whole._replace(orders=whole.orders[:ORDERS])
    killed, survivor = workers.members
    for day in ("monday", "tuesday"):
        places = {
            "file": {"root": str(tmp_path / day / "files")},
            "notification": {"outbox_dir": str(tmp_path / day / "mails")},
        }
        gateway.clear()
        with app.override(places):
            outcome = trade(shop, lambda: kill_at_work(workers, killed.pid))
            assert [] == check_books(shop, outcome)
        handled = Counter(records.handled.values())
        assert handled[survivor.pid] > 0
        assert (handled[killed.pid] > 0) == (day == "monday")
    assert [survivor] == workers.members


def kill_at_work(workers: Team, pid: int) -> None:
    """Kill a worker as soon as it has handled some events."""
    for worker in list(workers.members):
        if worker.pid == pid and Counter(records.handled.values())[pid] > 20:
            workers.kill(worker)
