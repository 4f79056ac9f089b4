"""A server that is silent or away, many contenders, many cancellations."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from pilotis import Pilotis
from pilotis.bridge import run_blocking
from pilotis.errors import ConnectionFailedError, LockLostError, OperationTimeoutError
from pilotis_testing.chaos import size
from pilotis_testing.colours import Colour
from pilotis_testing.interrupts import interrupted
from pilotis_testing.postgres import PostgresServer, tell

MakeApp = Callable[..., Pilotis]

pytestmark = pytest.mark.slow

PATIENCE = 60.0
MODES = pytest.mark.parametrize("mode", ["transaction", "session", "table"])
LEFT = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
ROWS = "SELECT (SELECT count(*) FROM pilotis_locks) + (SELECT count(*) FROM pilotis_locks_queue)"


@pytest.fixture
def own_app(own_postgres: PostgresServer, make_app: MakeApp) -> Callable[..., Any]:
    """Make an app on a server of the test's own."""

    def make(mode: str) -> Pilotis:
        app = make_app(own_postgres.url, mode=mode, timeout=3, connect_timeout=2, reconnects=0)
        app.locking.migrate()
        return app

    return make


@MODES
async def test_a_silent_server_loses_the_lease(
    own_postgres: PostgresServer, own_app: Callable[..., Any], mode: str, colour: Colour
) -> None:
    """The holder learns it by its own clock; when the server is back, others have the lock, with a higher token."""
    locking = colour.voice((await run_blocking(own_app, mode)).locking)
    lost: list[Any] = []

    async def hold() -> None:
        async with locking.hold("order:1", ttl=2) as lease:
            lost.append(lease)
            own_postgres.pause()
            assert await lease.lost.wait(PATIENCE)
            own_postgres.resume()

    with pytest.raises(LockLostError):
        await hold()
    later = await locking.acquire("order:1", wait=PATIENCE)
    assert later.token > lost[0].token
    assert await later.release() is True


@MODES
async def test_a_server_that_is_away_is_told_of(
    own_postgres: PostgresServer, own_app: Callable[..., Any], mode: str, colour: Colour
) -> None:
    """Whoever asks for a lock hears at once that there is no server, and gets the lock when it is back."""
    locking = colour.voice((await run_blocking(own_app, mode)).locking)
    await (await locking.acquire("order:1")).release()
    own_postgres.stop()
    for _ in range(3):
        with pytest.raises((ConnectionFailedError, OperationTimeoutError)):
            await locking.acquire("order:1", wait=PATIENCE)
    own_postgres.start()
    assert await (await locking.acquire("order:1", wait=PATIENCE)).release() is True


@pytest.mark.campaign
@MODES
def test_contenders_have_fair_shares(locks_url: str, make_app: MakeApp, mode: str) -> None:
    """Ten who name two keys in either order never wait in a circle, and none gets less than half of its share."""
    app = make_app(locks_url, mode=mode)
    most = size(300, 10_000)
    shares: Counter[int] = Counter()
    inside: list[int] = []
    begin = threading.Barrier(10)

    def contend(number: int) -> None:
        keys = ["a", "b"] if number % 2 else ["b", "a"]
        begin.wait()
        while shares.total() < most:
            with app.locking.hold(*keys, wait=PATIENCE, ttl=PATIENCE):
                inside.append(number)
                assert inside == [number]
                shares[number] += 1
                inside.clear()

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(shares) == 10
    mean = shares.total() / 10
    assert mean / 2 <= min(shares.values()) <= max(shares.values()) <= mean * 2


@pytest.mark.campaign
@MODES
def test_many_cancellations_leave_no_orphan(locks_url: str, make_app: MakeApp, mode: str) -> None:
    """At every await of acquire, hold and release."""
    app = make_app(locks_url, mode=mode)

    async def hold() -> None:
        async with app.locking.hold("a", "b", wait=PATIENCE, ttl=PATIENCE):
            await asyncio.sleep(0)

    async def cancel(turns: int) -> None:
        others = [asyncio.ensure_future(hold()) for _ in range(2)]
        for _ in range(turns):
            await asyncio.sleep(0)
        others[turns % 2].cancel()
        await asyncio.wait(others)
        assert others[1 - turns % 2].exception() is None

    async def scenario() -> None:
        for number in range(size(60, 1000)):
            await cancel(number % 50)

    asyncio.run(scenario())
    assert tell(locks_url, LEFT) == [(0,)]
    assert tell(locks_url, ROWS) == [(0,)]


@pytest.mark.campaign
@MODES
def test_many_interrupts_leave_no_orphan(locks_url: str, make_app: MakeApp, mode: str) -> None:
    """Wherever Ctrl-C finds a thread that waits for a lock."""
    app = make_app(locks_url, mode=mode)
    holder = app.locking.acquire("b", ttl=3600)
    for number in range(size(10, 1000)):
        with interrupted(0.02 + number % 10 / 1000):
            app.locking.acquire(["a", "b"], wait=PATIENCE)
        app.locking.acquire("a").release()
    assert holder.release() is True
    app.locking.acquire(["a", "b"]).release()
