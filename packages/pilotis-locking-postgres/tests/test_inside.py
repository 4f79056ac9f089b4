"""Locks inside the caller's own transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

import psycopg
import pytest
from pilotis import Pilotis
from pilotis.errors import ConflictError, ConnectionFailedError, InvalidInputError, LockNotAcquiredError
from pilotis_postgres.colours import settled
from pilotis_testing.colours import Colour, together
from pilotis_testing.interrupts import interrupted
from pilotis_testing.postgres import tell, waiting_for

MakeApp = Callable[..., Pilotis]

PATIENCE = 30.0
MINE = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"


@pytest.fixture(params=["transaction", "session"])
def app(request: pytest.FixtureRequest, locks_url: str, make_app: MakeApp) -> Pilotis:
    """An app in each mode of advisory locks."""
    return make_app(locks_url, mode=request.param)


async def test_a_lock_inside_a_transaction_lasts_until_its_end(app: Pilotis, locks_url: str, colour: Colour) -> None:
    """It commits or rolls back with what it guards; leaving the block before does not free it."""
    locking = colour.voice(app.locking)
    async with await _connected(locks_url, colour) as connection:
        async with locking.hold("order:1", connection=connection.thing) as lease:
            assert lease.token > 0
            assert not lease.lost
        with pytest.raises(LockNotAcquiredError):
            await locking.acquire("order:1")
        await connection.run("commit")
    assert await (await locking.acquire("order:1", wait=PATIENCE)).release() is True


async def test_a_time_out_does_not_poison_the_transaction(app: Pilotis, locks_url: str, colour: Colour) -> None:
    """What was done before stays, what comes after works, and the caller's own time-outs are as they were."""
    locking = colour.voice(app.locking)
    holder = await locking.acquire("order:1")
    async with await _connected(locks_url, colour) as connection:
        await connection.run("execute", "SET LOCAL lock_timeout = '7s'")
        await connection.run("execute", "CREATE TABLE kept (number int)")
        for wait in (0, 0.05):
            with pytest.raises(LockNotAcquiredError):
                await locking.acquire(["order:1", "order:2"], wait=wait, connection=connection.thing)
        lease = await locking.acquire("order:2", wait=PATIENCE, connection=connection.thing)
        shown = await connection.rows("SELECT current_setting('lock_timeout'), current_setting('statement_timeout')")
        assert shown == [("7s", "0")]
        assert await lease.release() is True
        await connection.run("commit")
        assert await lease.release() is False
    assert tell(locks_url, "SELECT count(*) FROM kept") == [(0,)]
    assert await holder.release() is True


async def test_unfit_connections_are_refused(app: Pilotis, locks_url: str, colour: Colour) -> None:
    """The error names what was expected, and how to come by it."""
    locking = colour.voice(app.locking)
    with pytest.raises(InvalidInputError, match=r"connection: expected a psycopg.Connection .* got object"):
        await locking.acquire("a", connection=object())
    async with await _connected(locks_url, colour, autocommit=True) as connection:
        with pytest.raises(InvalidInputError, match=r"commits each statement by itself; begin one"):
            await locking.acquire("a", connection=connection.thing)


def test_an_asynchronous_connection_needs_a_loop(app: Pilotis, locks_url: str) -> None:
    """In blocking use, the error says so."""

    async def connect() -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(locks_url)

    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(connect())
    with pytest.raises(InvalidInputError, match="needs the async verbs"):
        app.locking.acquire("a", connection=connection)
    loop.run_until_complete(connection.close())
    loop.close()


async def test_transactions_share_a_lock(app: Pilotis, locks_url: str, colour: Colour) -> None:
    """Those that ask for it; who wants it alone is refused until both have ended."""
    locking = colour.voice(app.locking)
    async with await _connected(locks_url, colour) as one, await _connected(locks_url, colour) as two:
        for connection, wait in ((one, 0), (two, PATIENCE)):
            await locking.acquire("order:1", shared=True, wait=wait, connection=connection.thing)
        await one.run("commit")
        with pytest.raises(LockNotAcquiredError):
            await locking.acquire("order:1", connection=one.thing)
        await two.run("rollback")
        assert await (await locking.acquire("order:1", connection=one.thing)).release() is True


async def test_a_circle_of_transactions_is_told(app: Pilotis, locks_url: str, colour: Colour) -> None:
    """PostgreSQL finds it; one of them hears of a conflict, has what it had, and by its rollback lets the other in."""
    locking = colour.voice(app.locking)
    told: list[Any] = []

    async def have(connection: _Connection, first: str) -> None:
        await connection.run("execute", "SET LOCAL deadlock_timeout = '50ms'")
        await locking.acquire(first, connection=connection.thing)

    async def want(connection: _Connection, second: str) -> None:
        try:
            await locking.acquire(second, wait=PATIENCE, connection=connection.thing)
        except ConflictError:
            told.append(await connection.rows(MINE))
            await connection.run("rollback")

    async with await _connected(locks_url, colour) as one, await _connected(locks_url, colour) as two:
        await have(one, "a")
        await have(two, "b")
        await together(lambda: want(one, "b"), lambda: want(two, "a"))
    assert told == [[(1,)]]


async def test_a_blocking_connection_is_good_under_a_loop(app: Pilotis, locks_url: str) -> None:
    """A thread waits for it, and the lock is its transaction's."""
    with psycopg.connect(locks_url) as connection:
        async with app.locking.hold("order:1", connection=connection) as lease:
            assert not lease.lost
            with pytest.raises(LockNotAcquiredError):
                await app.locking.aacquire("order:1")
        connection.commit()
        assert await (await app.locking.aacquire("order:1")).arelease() is True


@pytest.mark.parametrize("wait", [0, PATIENCE])
async def test_nothing_is_left_but_the_lock(app: Pilotis, locks_url: str, wait: float, colour: Colour) -> None:
    """No savepoint: those that stay make a transaction slow."""
    async with await _connected(locks_url, colour) as connection:
        await colour.voice(app.locking).acquire("order:1", wait=wait, connection=connection.thing)
        with pytest.raises(psycopg.errors.InvalidSavepointSpecification):
            await connection.run("execute", "RELEASE SAVEPOINT pilotis_lock")


@pytest.mark.parametrize("wait", [0, PATIENCE])
async def test_a_connection_to_somewhere_else_is_refused(
    app: Pilotis, locks_url: str, wait: float, colour: Colour
) -> None:
    """The error names where the locks are, and the transaction goes on without a lock."""
    async with await _connected(locks_url.rpartition("/")[0] + "/postgres", colour) as connection:
        await connection.run("execute", "CREATE TEMPORARY TABLE kept (number int)")
        with pytest.raises(InvalidInputError, match="connection: expected one to the database of the locks, postgres"):
            await colour.voice(app.locking).acquire("a", wait=wait, connection=connection.thing)
        assert await connection.rows("SELECT count(*) FROM kept") == [(0,)]
        assert await connection.rows(MINE) == [(0,)]


async def test_a_transaction_that_failed_is_refused(app: Pilotis, locks_url: str, colour: Colour) -> None:
    """The error says so, and after a rollback it is good."""
    locking = colour.voice(app.locking)
    async with await _connected(locks_url, colour) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            await connection.run("execute", "SELECT 1 / 0")
        with pytest.raises(InvalidInputError, match="its transaction has failed; roll that back first"):
            await locking.acquire("a", connection=connection.thing)
        await connection.run("rollback")
        assert await (await locking.acquire("a", connection=connection.thing)).release() is True


async def test_a_closed_connection_is_refused(app: Pilotis, locks_url: str, colour: Colour) -> None:
    """One that the caller closed is told apart from one that the server ended."""
    locking = colour.voice(app.locking)
    async with await _connected(locks_url, colour) as connection:
        await connection.run("execute", "SELECT 1")
        tell(locks_url, "SELECT pg_terminate_backend(%s)", connection.thing.info.backend_pid)
        with pytest.raises(ConnectionFailedError):
            await locking.acquire("a", connection=connection.thing)
        with pytest.raises(InvalidInputError, match="it is closed; connect anew"):
            await locking.acquire("a", connection=connection.thing)


def test_a_pipeline_is_refused(app: Pilotis, locks_url: str) -> None:
    """Nothing is sent, so the pipeline goes on."""
    with psycopg.connect(locks_url) as connection:
        with connection.pipeline():
            with pytest.raises(InvalidInputError, match="it is in pipeline mode; lock before the pipeline"):
                app.locking.acquire("a", connection=connection)
            cursor = connection.execute("SELECT 7")
        assert cursor.fetchone() == (7,)


async def test_a_pipeline_of_a_task_is_refused(app: Pilotis, locks_url: str) -> None:
    """In async use as well."""
    async with await psycopg.AsyncConnection.connect(locks_url) as connection:
        async with connection.pipeline():
            with pytest.raises(InvalidInputError, match="it is in pipeline mode; lock before the pipeline"):
                await app.locking.aacquire("a", connection=connection)
            cursor = await connection.execute("SELECT 7")
        assert await cursor.fetchone() == (7,)


def test_a_connection_that_is_busy_is_refused(app: Pilotis, locks_url: str) -> None:
    """As it is within a COPY: the error says to wait for its end."""
    with psycopg.connect(locks_url) as connection:
        with connection.cursor().copy("COPY (SELECT 1) TO STDOUT") as copy:
            with pytest.raises(InvalidInputError, match="it is busy with another statement"):
                app.locking.acquire("a", connection=connection)
            assert list(copy) == [b"1\n"]
        assert app.locking.acquire("a", connection=connection).release() is True


@pytest.mark.parametrize("kind", [psycopg.Connection, psycopg.AsyncConnection])
async def test_a_cancelled_wait_inside_a_transaction_takes_nothing(app: Pilotis, locks_url: str, kind: Any) -> None:
    """At once, not even later, when the lock is free; and the transaction goes on, on a connection of either colour."""
    holder = await app.locking.aacquire("b")
    async with _Connection(await settled(kind.connect(locks_url))) as connection:
        await connection.run("execute", "CREATE TABLE kept (number int)")
        waiter = asyncio.ensure_future(app.locking.aacquire(["a", "b"], wait=3600, connection=connection.thing))
        await asyncio.to_thread(waiting_for, locks_url, 1)
        waiter.cancel()
        await asyncio.wait([waiter])
        assert waiter.cancelled()
        await asyncio.to_thread(waiting_for, locks_url, 0)
        assert await holder.arelease() is True
        await (await app.locking.aacquire(["a", "b"])).arelease()
        await connection.run("commit")
    assert tell(locks_url, "SELECT count(*) FROM kept") == [(0,)]


async def test_cancelled_before_anything_was_sent(app: Pilotis, locks_url: str) -> None:
    """While somebody else uses the connection: its transaction goes on."""
    await app.locking.aopen()
    async with await psycopg.AsyncConnection.connect(locks_url) as connection:
        await connection.execute("CREATE TABLE kept (number int)")
        async with connection.lock:
            waiter = asyncio.ensure_future(app.locking.aacquire("a", connection=connection))
            await asyncio.sleep(0.01)
            waiter.cancel()
            await asyncio.sleep(0.01)
        await asyncio.wait([waiter])
        assert waiter.cancelled()
        await connection.commit()
    assert tell(locks_url, "SELECT count(*) FROM kept") == [(0,)]


def test_an_interrupted_wait_inside_a_transaction_takes_nothing(app: Pilotis, locks_url: str) -> None:
    """And the transaction goes on."""
    holder = app.locking.acquire("b")
    with psycopg.connect(locks_url) as connection:
        connection.execute("CREATE TABLE kept (number int)")
        with interrupted(again=0.5):
            app.locking.acquire(["a", "b"], wait=3600, connection=connection)
        assert holder.release() is True
        app.locking.acquire(["a", "b"]).release()
        connection.commit()
    assert tell(locks_url, "SELECT count(*) FROM kept") == [(0,)]


class _Connection:
    """A psycopg connection of the colour, whose methods are awaited."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    async def run(self, method: str, *arguments: Any) -> Any:
        return await settled(getattr(self.thing, method)(*arguments))

    async def rows(self, query: str) -> list[Any]:
        cursor = await self.run("execute", query)
        return await settled(cursor.fetchall())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.run("close")


async def _connected(url: str, colour: Colour, *, autocommit: bool = False) -> _Connection:
    kind: Any = psycopg.AsyncConnection if colour is Colour.ASYNC else psycopg.Connection
    return _Connection(await settled(kind.connect(url, autocommit=autocommit)))
