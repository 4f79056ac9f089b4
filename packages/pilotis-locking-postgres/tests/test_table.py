"""Leases in a table: who is woken, what it costs, what becomes of those who die."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from pilotis import Pilotis
from pilotis.bridge import run_blocking
from pilotis.errors import LockNotAcquiredError
from pilotis_locking_postgres import PostgresLocks, PostgresLocksOptions
from pilotis_testing.clock import until
from pilotis_testing.colours import Colour, together
from pilotis_testing.postgres import PgBouncer, PostgresServer, tell

MakeApp = Callable[..., Pilotis]

pytestmark = pytest.mark.slow

PATIENCE = 30.0
QUEUED = "SELECT count(*) FROM pilotis_locks_queue WHERE NOT reserved"
WAITER = """
from pilotis import Pilotis

print("waits", flush=True)
Pilotis({settings!r}).locking.acquire("order:1", wait=3600)
"""


@pytest.fixture
def app(locks_url: str, make_app: MakeApp) -> Pilotis:
    """An app with leases in a table."""
    return make_app(locks_url, mode="table")


async def test_a_waiter_who_died_holds_nobody_up(app: Pilotis, locks_url: str, colour: Colour) -> None:
    """Its place in the queue ends with the connection by which it would have been woken."""
    locking = colour.voice(app.locking)
    holder = await locking.acquire("order:1", ttl=PATIENCE * 2)
    settings = {"name": "shop", "locking": {"url": locks_url, "mode": "table"}}
    command = [sys.executable, "-c", WAITER.format(settings=settings)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as waiter:
        await run_blocking(until, lambda: tell(locks_url, QUEUED) == [(1,)], PATIENCE)
        waiter.kill()
    gone = "SELECT count(*) FROM pilotis_locks_queue WHERE EXISTS (SELECT FROM pg_stat_get_activity(listener))"
    await run_blocking(until, lambda: tell(locks_url, gone) == [(0,)], PATIENCE)
    assert await holder.release() is True
    assert await (await locking.acquire("order:1")).release() is True


async def test_a_holder_who_is_gone_frees_at_its_ttl(app: Pilotis, colour: Colour) -> None:
    """By the server's clock, and not sooner."""
    locking = colour.voice(app.locking)
    began = time.monotonic()
    await locking.acquire("order:1", ttl=1.5)
    lease = await locking.acquire("order:1", wait=PATIENCE)
    assert time.monotonic() - began >= 1.49
    assert await lease.release() is True


async def test_waiting_sends_nothing(locks_url: str, monkeypatch: pytest.MonkeyPatch, colour: Colour) -> None:
    """Whoever stands in the queue is not heard of until it is at its head and the key is free."""
    provider, statements = counting(locks_url, monkeypatch)
    app = colour.voice(Pilotis({"name": "shop", "locking": provider}))
    locking = colour.voice(app.locking)
    holder = await locking.acquire("order:1", ttl=PATIENCE * 4)
    statements.clear()

    async def wait() -> None:
        await (await locking.acquire("order:1", wait=PATIENCE)).release()

    async def look() -> None:
        await run_blocking(until, lambda: tell(locks_url, QUEUED) == [(5,)], PATIENCE)
        assert len(statements) == 5 * 2
        await holder.release()

    await together(*[wait] * 5, look)
    looks = [statement for statement in statements if "_take" in statement]
    assert len(looks) == 5 * 3  # at first, in the queue, at its head
    await app.close()


async def test_thousands_of_leases_are_renewed_by_one_statement(
    locks_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each whole or not at all."""
    provider, statements = counting(locks_url, monkeypatch)
    app = Pilotis({"name": "shop", "locking": provider})
    keys = [f"order:{number}" for number in range(5000)]
    leases = [await app.locking.aacquire(keys[start : start + 100], ttl=60) for start in range(0, 5000, 100)]
    await app.locking.abreak_lock("order:4999")
    statements.clear()
    assert await provider.renew([lease.grant for lease in leases]) == [True] * 49 + [False]
    assert len(statements) == 1
    await app.aclose()


def counting(url: str, monkeypatch: pytest.MonkeyPatch) -> tuple[PostgresLocks, list[str]]:
    """Return a provider, and the list of what it sends."""
    provider = PostgresLocks(PostgresLocksOptions(url=url, mode="table"))
    statements: list[str] = []
    execute = provider.postgres.execute

    async def counted(query: str, parameters: Any = None) -> Any:
        statements.append(query)
        return await execute(query, parameters)

    monkeypatch.setattr(provider.postgres, "execute", counted)
    return provider, statements


async def test_a_broken_connection_is_no_news(app: Pilotis, locks_url: str, colour: Colour) -> None:
    """Who waits is woken when the listening connection breaks, keeps its place, and is served in turn."""
    locking = colour.voice(app.locking)
    holder = await locking.acquire("order:1", ttl=PATIENCE * 4)
    cut = "SELECT pg_terminate_backend(listener) FROM pilotis_locks_queue LIMIT 1"

    async def wait() -> None:
        await (await locking.acquire("order:1", wait=PATIENCE)).release()

    async def look() -> None:
        await run_blocking(until, lambda: tell(locks_url, QUEUED) == [(1,)], PATIENCE)
        before = tell(locks_url, "SELECT listener, ticket FROM pilotis_locks_queue")
        tell(locks_url, cut)
        await run_blocking(
            until, lambda: tell(locks_url, "SELECT listener FROM pilotis_locks_queue")[0] != before[0][:1], PATIENCE
        )
        assert tell(locks_url, "SELECT ticket FROM pilotis_locks_queue") == [before[0][1:]]
        await holder.release()

    await together(wait, look)
    assert tell(locks_url, QUEUED) == [(0,)]


async def test_behind_a_pooler_waiters_look_from_time_to_time(
    pgbouncer: PgBouncer, migrated: None, make_app: MakeApp, colour: Colour
) -> None:
    """Notifications do not arrive there; waiting works all the same, in the order of arrival."""
    locking = colour.voice(make_app(pgbouncer.url, mode="table").locking)
    holder = await locking.acquire("order:1", ttl=PATIENCE * 4)
    served: list[int] = []

    async def wait(number: int) -> None:
        await run_blocking(until, lambda: tell(pgbouncer.url, QUEUED) == [(number,)], PATIENCE)
        lease = await locking.acquire("order:1", wait=PATIENCE)
        served.append(number)
        await lease.release()

    async def let_go() -> None:
        await run_blocking(until, lambda: tell(pgbouncer.url, QUEUED) == [(3,)], PATIENCE)
        await holder.release()

    await together(*(lambda number=number: wait(number) for number in range(3)), let_go)
    assert served == [0, 1, 2]


async def test_a_restart_keeps_what_is_held(own_postgres: PostgresServer, make_app: MakeApp, colour: Colour) -> None:
    """Leases are as durable as the database, and tokens go on growing."""
    locking = colour.voice(make_app(own_postgres.url, mode="table").locking)
    await locking.migrate()
    lease = await locking.acquire("order:1", ttl=PATIENCE * 4)
    own_postgres.restart()
    with pytest.raises(LockNotAcquiredError):
        await locking.acquire("order:1")
    assert await lease.release() is True
    assert (await locking.acquire("order:1")).token > lease.token


def test_a_lost_answer_leaves_nothing(app: Pilotis, locks_url: str) -> None:
    """A request that was granted before anybody knew is taken back."""

    async def scenario() -> None:
        for turns in range(40):
            task = asyncio.ensure_future(app.locking.aacquire(["a", "b"], wait=PATIENCE))
            for _ in range(turns):
                await asyncio.sleep(0)
            if not task.done():
                task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                await task.result().arelease()
            assert tell(locks_url, "SELECT count(*) FROM pilotis_locks") == [(0,)]
            assert tell(locks_url, "SELECT count(*) FROM pilotis_locks_queue") == [(0,)]

    asyncio.run(scenario())


@pytest.mark.parametrize("more", [[], ["order:2"]], ids=["the same", "more"])
def test_what_the_owner_was_granted_meanwhile_stays(app: Pilotis, locks_url: str, more: list[str]) -> None:
    """Whoever gives up does not take away what another task of the same owner was told that it holds."""
    app.locking.acquire("order:1", owner="job-7")
    ((ticket,),) = tell(locks_url, "SELECT ticket FROM pilotis_locks")
    other = app.locking.acquire(["order:1", *more], owner="job-7")
    tell(locks_url, f"SELECT pilotis_locks_withdraw('shop', '{{order:1}}', {ticket})")
    assert other.release() is True


def test_names_are_one_namespace_s(app: Pilotis, locks_url: str, make_app: MakeApp) -> None:
    """Other apps have locks of their own, unless they name the same namespace."""
    app.locking.acquire("order:1")
    other = Pilotis({"name": "bank", "locking": {"url": locks_url, "mode": "table"}})
    assert other.locking.acquire("order:1").release() is True
    assert other.locking.held() == []
    other.close()
    same = make_app(locks_url, mode="table", namespace="shop")
    assert ["order:1"] == [state.key for state in same.locking.held()]


def test_tokens_do_not_go_back(app: Pilotis, locks_url: str) -> None:
    """Not where a transaction that took one is rolled back."""
    before = app.locking.acquire("order:1").token
    with psycopg.connect(locks_url) as connection:
        connection.execute("SELECT nextval('pilotis_locks_token')")
        connection.rollback()
    assert app.locking.acquire("order:2").token == before + 2


def test_what_ran_out_is_forgotten_when_somebody_opens(app: Pilotis, locks_url: str, make_app: MakeApp) -> None:
    """Keys that nobody asks for again leave no rows; those of others, and what is held, stay."""
    app.locking.acquire("order:1", ttl=PATIENCE)
    kept = app.locking.acquire("order:2", ttl=PATIENCE)
    tell(locks_url, "UPDATE pilotis_locks SET expires = now() WHERE key = 'order:1'")
    make_app(locks_url, mode="table").locking.inspect("order:3")
    assert tell(locks_url, "SELECT key FROM pilotis_locks") == [("order:2",)]
    assert kept.release() is True


def test_opening_waits_for_nobody(app: Pilotis, locks_url: str, make_app: MakeApp) -> None:
    """What ran out and somebody else is at work on is left to them: two who wait for each other would be a circle."""
    app.locking.acquire("order:1")
    tell(locks_url, "UPDATE pilotis_locks SET expires = now()")
    with psycopg.connect(locks_url) as connection:
        connection.execute("SELECT * FROM pilotis_locks FOR UPDATE")
        assert make_app(locks_url, mode="table").locking.inspect("order:1") is None
        assert connection.execute("SELECT count(*) FROM pilotis_locks").fetchone() == (1,)
