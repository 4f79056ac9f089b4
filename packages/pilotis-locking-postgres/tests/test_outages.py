"""A server that is silent or away, many contenders, many cancellations."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from pilotis import Pilotis
from pilotis.bridge import run_blocking
from pilotis.errors import (
    ConnectionFailedError,
    LockLostError,
    LockNotAcquiredError,
    OperationError,
    OperationTimeoutError,
)
from pilotis_testing.chaos import FULL, size
from pilotis_testing.clock import until
from pilotis_testing.colours import Colour, together
from pilotis_testing.interrupts import interrupted
from pilotis_testing.locking_cancelling import hold
from pilotis_testing.moments import WAITS_OF_THE_BRIDGE, Moments, struck_at
from pilotis_testing.postgres import PostgresServer, tell

MakeApp = Callable[..., Pilotis]

pytestmark = pytest.mark.slow

PATIENCE = 60.0
MODES = pytest.mark.parametrize("mode", ["transaction", "session", "table"])
LEFT = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
WAITING = f"{LEFT} AND NOT granted"
QUEUED = "SELECT count(*) FROM pilotis_locks_queue WHERE NOT reserved"
CONNECTED = "SELECT pid FROM pg_stat_activity WHERE application_name = 'pilotis' AND datname = current_database()"
TOLD = (LockNotAcquiredError, OperationTimeoutError, ConnectionFailedError)
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
@pytest.mark.parametrize("mode", ["transaction", "session", "table"] if FULL else ["transaction", "table"])
def test_a_silent_server_keeps_nobody_longer_than_its_wait(
    own_postgres: PostgresServer, make_app: MakeApp, mode: str
) -> None:
    """Threads and tasks that wait are told while the server is silent; when it is back, all connections are."""
    app = make_app(own_postgres.url, mode=mode, timeout=1, connect_timeout=2, reconnects=0, max_connections=8)
    app.locking.migrate()
    holder = app.locking.acquire("order:1", ttl=PATIENCE)
    told: list[Exception] = []

    async def wait() -> None:
        try:
            await app.locking.aacquire("order:1", wait=1)
        except OperationError as error:
            told.append(error)

    async def wait_together() -> None:
        await asyncio.gather(*[wait() for _ in range(4)])

    def wait_alone() -> None:
        with pytest.raises(OperationError) as caught:
            app.locking.acquire("order:1", wait=1)
        told.append(caught.value)

    threads = [threading.Thread(target=wait_alone) for _ in range(4)]
    threads.append(threading.Thread(target=lambda: asyncio.run(wait_together())))
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    own_postgres.pause()
    for thread in threads:
        thread.join(PATIENCE)
    own_postgres.resume()
    assert [] == [error for error in told if not isinstance(error, TOLD)]
    assert len(told) == 8
    assert holder.release() is True
    leases = [app.locking.acquire(f"order:{number}", wait=PATIENCE) for number in range(8)]
    assert [True] * 8 == [lease.release() for lease in leases]


@MODES
async def test_a_crowd_needs_few_connections(locks_url: str, make_app: MakeApp, mode: str, colour: Colour) -> None:
    """Fifty who want one lock have it one after the other; and its holder lets go though they use all there are."""
    locking = colour.voice(make_app(locks_url, mode=mode, max_connections=8).locking)
    holder = await locking.acquire("order:1", ttl=PATIENCE)
    inside: list[int] = []
    served: list[int] = []

    async def come(number: int) -> None:
        async with locking.hold("order:1", wait=PATIENCE):
            inside.append(number)
            served.append(number)
            assert inside == [number]
            inside.clear()

    async def let_go() -> None:
        question, count = (QUEUED, 50) if mode == "table" else (WAITING, 7)
        await run_blocking(until, lambda: tell(locks_url, question) == [(count,)], PATIENCE)
        assert await holder.release() is True

    await together(*(lambda number=number: come(number) for number in range(50)), let_go)
    assert sorted(served) == list(range(50))
    ((connections,),) = tell(locks_url, f"SELECT count(*) FROM ({CONNECTED}) AS ours")
    assert connections <= 2 * 8 + 2  # of locks, and of statements; the listener's, and that of renewals


@pytest.mark.campaign
@pytest.mark.parametrize("mode", ["transaction", "session", "table"] if FULL else ["table"])
def test_a_short_lease_is_kept_through_long_work(locks_url: str, make_app: MakeApp, mode: str) -> None:
    """Though connections are cut on which it is renewed, again and again."""
    app = make_app(locks_url, mode=mode)
    holders = "SELECT pid FROM pg_locks WHERE locktype = 'advisory'"
    cut = f"SELECT pg_terminate_backend(pid) FROM ({CONNECTED}) AS ours WHERE pid NOT IN ({holders})"
    with app.locking.hold("order:1", ttl=size(3, 1)) as lease:
        for _ in range(size(8, 120)):
            time.sleep(0.5)
            tell(locks_url, cut)
            assert not lease.lost
    assert app.locking.acquire("order:1").release() is True


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
async def test_strikes_at_every_wait_leave_no_orphan(
    locks_url: str, make_app: MakeApp, mode: str, colour: Colour
) -> None:
    """A thousand of them, at each wait of a block that a lock is held around, in turn."""
    locking = colour.voice(make_app(locks_url, mode=mode).locking)
    moments = Moments(size(20, 1000))
    for moment in moments:
        moments.note(await struck_at(moment, hold(locking), WAITS_OF_THE_BRIDGE | {"read", "_wait_conn"}))
        for question in (LEFT, ROWS):
            await run_blocking(until, lambda question=question: tell(locks_url, question) == [(0,)])


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
