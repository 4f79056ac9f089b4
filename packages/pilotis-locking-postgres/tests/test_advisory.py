"""Locks that live with a connection."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from pilotis import Pilotis
from pilotis.bridge import drive, run_blocking
from pilotis.errors import (
    ConnectionFailedError,
    LockLostError,
    LockNotAcquiredError,
    OperationTimeoutError,
    ThrottledError,
)
from pilotis.modules.locking import Locking
from pilotis.providers import Context
from pilotis_locking_postgres import PostgresLocks, PostgresLocksOptions
from pilotis_locking_postgres.advisory import Advisory
from pilotis_testing.clock import ManualClock, until
from pilotis_testing.colours import Colour, together
from pilotis_testing.interrupts import interrupted
from pilotis_testing.moments import Moments, struck_at
from pilotis_testing.postgres import PostgresServer, tell, waiting_for

MakeApp = Callable[..., Pilotis]

ADVISORY = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
PATIENCE = 30.0
HOLDER = """
import time
from pilotis import Pilotis

lease = Pilotis({settings!r}).locking.acquire("order:1", ttl=3600)
print("held", flush=True)
time.sleep(60)
"""
WAITER = """
import sys

import psycopg
from pilotis import Pilotis

connection = psycopg.connect(sys.argv[1]) if len(sys.argv) > 1 else None
Pilotis({settings!r}).locking.acquire(["a", "b"], wait=3600, connection=connection)
"""


@pytest.fixture(params=["transaction", "session"])
def app(request: pytest.FixtureRequest, locks_url: str, make_app: MakeApp) -> Pilotis:
    """An app in each mode of advisory locks."""
    return make_app(locks_url, mode=request.param)


# Connections


async def test_a_connection_that_ended_loses_its_lease(app: Pilotis, locks_url: str, colour: Colour) -> None:
    """The block learns it at the next look, a third of the ttl later at most, and at its end in any case."""
    locking = colour.voice(app.locking)
    kill = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"

    async def until_lost() -> None:
        async with locking.hold("order:1", ttl=1) as lease:
            await run_blocking(tell, locks_url, kill)
            assert await lease.lost.wait(PATIENCE)

    async def until_gone() -> None:
        async with locking.hold("order:1"):
            await run_blocking(tell, locks_url, kill)
            await run_blocking(until, lambda: tell(locks_url, ADVISORY) == [(0,)])

    with pytest.raises(LockLostError):
        await until_lost()
    with pytest.raises(LockLostError):
        await until_gone()
    lease = await locking.acquire("order:1")
    assert await lease.release() is True


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_one_statement_looks_after_all_leases(locks_url: str, mode: Any, colour: Colour) -> None:
    """However many are held."""
    provider = PostgresLocks(PostgresLocksOptions(url=locks_url, mode=mode))
    app = Pilotis({"name": "shop", "locking": provider})
    locking = colour.voice(app.locking)
    leases = [await locking.acquire(f"order:{number}") for number in range(10)]
    tell(locks_url, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' LIMIT 3")
    await run_blocking(until, lambda: tell(locks_url, ADVISORY) == [(7,)])
    answers = await provider.renew([lease.grant for lease in leases])
    assert sorted(answers) == [False] * 3 + [True] * 7
    assert answers == [await lease.release() for lease in leases]
    await colour.voice(app).close()


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_whoever_lost_the_lock_before_its_token_gets_none(
    locks_url: str, mode: Any, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, colour: Colour
) -> None:
    """It would be higher than that of the next holder, whose writes would be refused."""
    provider = PostgresLocks(PostgresLocksOptions(url=locks_url, mode=mode))
    app, other = Pilotis({"name": "shop", "locking": provider}), make_app(locks_url, mode=mode)
    leases: list[Any] = []
    read: Any = Advisory._token  # pyright: ignore[reportPrivateUsage]

    async def late(self: Any, *of: Any) -> Any:
        if self._provider is provider:
            kill = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            await run_blocking(tell, locks_url, kill)
            leases.append(await other.locking.aacquire("order:1", wait=PATIENCE))
        return await read(self, *of)

    with monkeypatch.context() as patched:
        patched.setattr(Advisory, "_token", late)
        with pytest.raises(ConnectionFailedError):
            await colour.voice(app.locking).acquire("order:1")
    assert await leases[0].arelease() is True
    assert await (await colour.voice(app.locking).acquire("order:1")).release() is True
    await colour.voice(app).close()


async def test_a_restart_loses_every_lease(own_postgres: PostgresServer, make_app: MakeApp, colour: Colour) -> None:
    """And whoever comes then has the locks, with higher tokens."""
    app = make_app(own_postgres.url)
    locking = colour.voice(app.locking)
    await locking.migrate()
    before = await locking.acquire("order:1")
    own_postgres.restart()
    after = await locking.acquire("order:1", wait=PATIENCE)
    assert after.token > before.token
    assert await before.release() is False
    assert await after.release() is True


async def test_each_lock_has_a_connection(locks_url: str, make_app: MakeApp, colour: Colour) -> None:
    """The error of the one that is too many says what to do, and others work on."""
    locking = colour.voice(make_app(locks_url, max_connections=3).locking)
    leases = [await locking.acquire(f"order:{number}") for number in range(3)]
    with pytest.raises(ThrottledError, match=r"3 locks are held .* raise max_connections, or set mode"):
        await locking.acquire("order:3")
    await leases.pop().release()
    leases.append(await locking.acquire("order:3"))
    assert [True] * 3 == [await lease.release() for lease in leases]


def test_a_lock_ends_with_its_event_loop(app: Pilotis, locks_url: str) -> None:
    """Nobody could let it go any more."""
    lease = asyncio.run(app.locking.aacquire("order:1"))
    until(lambda: tell(locks_url, ADVISORY) == [(0,)])
    assert lease.release() is False


def test_a_lock_is_released_from_another_thread_and_another_loop(app: Pilotis) -> None:
    """Wherever its connection lives."""
    lease = app.locking.acquire("order:1")
    assert asyncio.run(lease.arelease()) is True

    async def scenario() -> bool:
        mine = await app.locking.aacquire("order:1")
        return await asyncio.to_thread(mine.release)

    assert asyncio.run(scenario()) is True


def test_a_loop_that_has_stopped_is_not_waited_for(app: Pilotis) -> None:
    """Its connection is cut, and the lock is free."""
    loop = asyncio.new_event_loop()
    try:
        lease = loop.run_until_complete(app.locking.aacquire("order:1"))
        assert lease.release() is True
        assert app.locking.acquire("order:1", wait=PATIENCE).release() is True
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_killed_holder_frees_at_once(locks_url: str, mode: str, make_app: MakeApp) -> None:
    """Its connection ends with it, whatever the ttl."""
    app = make_app(locks_url, mode=mode)
    settings = {"name": "shop", "locking": {"url": locks_url, "mode": mode}}
    command = [sys.executable, "-c", HOLDER.format(settings=settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockNotAcquiredError):
            app.locking.acquire("order:1")
        holder.kill()
        assert app.locking.acquire("order:1", wait=PATIENCE).release() is True


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["transaction", "session", "inside"])
def test_a_killed_waiter_frees_at_once(locks_url: str, mode: str, make_app: MakeApp) -> None:
    """What it had of several keys: the server finds out within a second, and not when the last one is free."""
    app = make_app(locks_url)
    holder = app.locking.acquire("b")
    settings = {"name": "shop", "locking": {"url": locks_url, "mode": mode.replace("inside", "transaction")}}
    command = [sys.executable, "-c", WAITER.format(settings=settings), *([locks_url] if mode == "inside" else [])]
    with subprocess.Popen(command) as waiter:
        waiting_for(locks_url, 1)
        with pytest.raises(LockNotAcquiredError):
            app.locking.acquire("a")
        waiter.kill()
        assert app.locking.acquire("a", wait=PATIENCE).release() is True
    assert holder.release() is True


# Waiting


async def test_many_waiters_send_nothing(app: Pilotis, locks_url: str, colour: Colour) -> None:
    """Each waits in the server, and is served in turn."""
    locking = colour.voice(app.locking)
    lease = await locking.acquire("order:1")

    async def wait() -> None:
        await (await locking.acquire("order:1", wait=PATIENCE)).release()

    async def look() -> None:
        await run_blocking(waiting_for, locks_url, 8)
        await lease.release()

    await together(*[wait] * 8, look)
    assert tell(locks_url, ADVISORY) == [(0,)]


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_lease_begins_with_the_grant(locks_url: str, mode: Any) -> None:
    """However long it was waited for."""
    clock = ManualClock()
    context = Context(name="shop", clock=clock)
    locking = Locking(PostgresLocks(PostgresLocksOptions(url=locks_url, mode=mode)), context=context)
    holder = locking.acquire("order:1")
    leases: list[Any] = []
    thread = threading.Thread(target=lambda: leases.append(locking.acquire("order:1", ttl=5, wait=PATIENCE)))
    thread.start()
    waiting_for(locks_url, 1)
    clock.advance(10)
    holder.release()
    thread.join()
    assert leases[0].held
    assert leases[0].release() is True
    locking.close()
    context.runtime.stop()


def test_the_wait_is_for_all_keys_together(app: Pilotis, locks_url: str) -> None:
    """And not for each of them anew: they are let go one after the other, too late for the last one."""
    held = [app.locking.acquire(key) for key in ("a", "b", "c")]
    refused: list[Exception] = []

    def wait() -> None:
        try:
            app.locking.acquire(["a", "b", "c"], wait=0.5)
        except LockNotAcquiredError as error:
            refused.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: bool(refused) or tell(locks_url, f"{ADVISORY} AND NOT granted") == [(1,)])
    for lease in held:
        time.sleep(0.35)
        lease.release()
    thread.join()
    assert len(refused) == 1
    assert tell(locks_url, ADVISORY) == [(0,)]


@pytest.mark.slow
def test_a_grant_at_the_moment_of_the_time_out_leaves_nothing(app: Pilotis, locks_url: str) -> None:
    """PostgreSQL may time out and grant at once: then it is the caller's, or nobody's."""
    for number in range(30):
        holder = app.locking.acquire("order:1")
        timer = threading.Timer(0.05 + (number % 10 - 5) / 1000, holder.release)
        timer.start()
        with suppress(LockNotAcquiredError):
            app.locking.acquire("order:1", wait=0.05).release()
        timer.join()
        assert tell(locks_url, ADVISORY) == [(0,)]


def test_an_administrator_who_cancels_is_no_time_out(app: Pilotis, locks_url: str) -> None:
    """The error of the database goes on, at once."""
    holder = app.locking.acquire("order:1")

    def cancel() -> None:
        waiting_for(locks_url, 1)
        tell(locks_url, "SELECT pg_cancel_backend(pid) FROM pg_locks WHERE NOT granted")

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(OperationTimeoutError, match="user request"):
        app.locking.acquire("order:1", wait=PATIENCE)
    thread.join()
    assert holder.release() is True


# Cancelled


@pytest.mark.parametrize("after", [0.03, 0.06])
def test_an_interrupt_leaves_no_lock(app: Pilotis, locks_url: str, after: float) -> None:
    """Wherever Ctrl-C finds a thread that waits."""
    holder = app.locking.acquire("b")
    with interrupted(after):
        app.locking.acquire(["a", "b"], wait=PATIENCE)
    assert tell(locks_url, ADVISORY) == [(1,)]
    assert holder.release() is True


def test_a_cancelled_task_leaves_no_lock(app: Pilotis, locks_url: str) -> None:
    """At every await of acquire, hold and release."""

    async def hold() -> None:
        async with app.locking.hold("a", "b", wait=PATIENCE):
            await asyncio.sleep(0)

    async def scenario() -> None:
        for turns in range(40):
            task = asyncio.ensure_future(hold())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert tell(locks_url, ADVISORY) == [(0,)], f"an orphan after {turns} turns"

    asyncio.run(scenario())


def test_an_interrupted_release_has_let_go(app: Pilotis, locks_url: str) -> None:
    """Before the interrupt is passed on, wherever it struck, and not when the server finds the connection closed."""
    moments = Moments()
    processes: set[Any] = set()
    for moment in moments:
        lease = app.locking.acquire("order:1")
        processes.update(tell(locks_url, "SELECT pid FROM pg_locks WHERE locktype = 'advisory'"))
        moments.note(drive(struck_at(moment, lease.arelease(), {"read"})))
        assert tell(locks_url, ADVISORY) == [(0,)], f"struck at wait {moment}"
    assert len(processes) == 1
