"""Statements, scripts, batches and transactions, in both colours."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import psycopg
import pytest
from pilotis.bridge import drive
from pilotis.errors import OperationTimeoutError
from pilotis_postgres import Postgres, Session
from pilotis_testing.clock import until
from pilotis_testing.colours import Colour, together
from pilotis_testing.interrupts import interrupted
from pilotis_testing.postgres import PgBouncer, tell

PROCESS = "SELECT pg_backend_pid()"
ACTIVE = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND state <> 'idle' AND backend_type = 'client backend'"
)


async def test_a_statement_returns_its_rows(postgres: Postgres, colour: Colour) -> None:
    """Values go beside the text; what has no rows returns none."""
    assert await postgres.execute("CREATE TABLE kept (name text)") == []
    assert await postgres.execute("INSERT INTO kept VALUES (%s), (%s)", ("a", "b'; DROP TABLE kept; --")) == []
    assert await postgres.execute("SELECT name FROM kept WHERE name > %(least)s", {"least": "a"}) == [
        ("b'; DROP TABLE kept; --",)
    ]


async def test_a_script_is_one_transaction(postgres: Postgres, colour: Colour) -> None:
    """Its last statement answers; one that fails leaves nothing of those before it."""
    rows = await postgres.script("CREATE TABLE kept (name text); INSERT INTO kept VALUES (%s) RETURNING name", ("a'b",))
    assert rows == [("a'b",)]
    with pytest.raises(psycopg.errors.DivisionByZero):
        await postgres.script("INSERT INTO kept VALUES ('c'); SELECT 1 / 0; SELECT 1")
    assert await postgres.execute("SELECT name FROM kept") == [("a'b",)]


async def test_a_batch_is_done_together(postgres: Postgres, colour: Colour) -> None:
    """The rows of each statement are returned in order; one that fails leaves nothing of the others."""
    statements = [("CREATE TABLE kept (name text)", None), ("SELECT %s::int", (1,)), ("SELECT 2", None)]
    assert await postgres.batch(statements) == [[], [(1,)], [(2,)]]
    with pytest.raises(psycopg.errors.DivisionByZero):
        await postgres.batch([("INSERT INTO kept VALUES ('c')", None), ("SELECT 1 / 0", None), ("SELECT 1", None)])
    assert await postgres.execute("SELECT name FROM kept") == []


async def test_a_transaction_is_all_or_nothing(postgres: Postgres, colour: Colour) -> None:
    """An error rolls back all of it, or what was done in an inner one alone."""

    async def fail(transaction: AbstractAsyncContextManager[Session], name: str) -> None:
        async with transaction as session:
            await session.execute("INSERT INTO kept VALUES (%s)", (name,))
            raise ValueError("no")

    await postgres.execute("CREATE TABLE kept (name text)")
    async with postgres.transaction() as session:
        await session.execute("INSERT INTO kept VALUES ('outer')")
        with pytest.raises(ValueError, match="no"):
            await fail(session.transaction(), "inner")
    with pytest.raises(ValueError, match="no"):
        await fail(postgres.transaction(), "second")
    assert await postgres.execute("SELECT name FROM kept") == [("outer",)]


async def test_a_forgotten_transaction_is_rolled_back(postgres: Postgres, colour: Colour) -> None:
    """What a session began by hand ends with it, and the connection is used again."""
    async with postgres.session() as session:
        before = await session.execute(PROCESS)
        await session.execute("BEGIN")
        await session.execute("CREATE TABLE forgotten (name text)")
    assert await postgres.execute(PROCESS) == before
    assert await postgres.execute("SELECT to_regclass('forgotten')") == [(None,)]


async def test_all_use_few_connections(connect: Callable[..., Postgres], postgres_url: str, colour: Colour) -> None:
    """Many callers wait for one another, each for its turn."""
    postgres = connect(postgres_url, max_connections=3)
    seen: set[Any] = set()

    async def call() -> None:
        for _ in range(5):
            seen.update(await postgres.execute("SELECT pg_backend_pid() FROM pg_sleep(0.001)"))

    await together(*[call] * 20)
    assert len(seen) <= 3


async def test_who_waits_too_long_for_a_connection_is_told(
    connect: Callable[..., Postgres], postgres_url: str, colour: Colour
) -> None:
    """The error names the option; the next one to come finds what was given back."""
    postgres = connect(postgres_url, max_connections=2, timeout=1)
    async with postgres.session(), postgres.session():
        with pytest.raises(OperationTimeoutError, match="max_connections"):
            await postgres.execute("SELECT 1")
    assert await postgres.execute("SELECT 1") == [(1,)]


async def test_no_statement_is_prepared(connect: Callable[..., Postgres], pgbouncer: PgBouncer, colour: Colour) -> None:
    """So that a pooler may send each one where it likes."""
    postgres = connect(pgbouncer.url)

    async def call() -> None:
        for number in range(20):
            assert await postgres.execute("SELECT %s::int", (number,)) == [(number,)]

    await together(*[call] * 5)
    assert await postgres.execute("SELECT count(*) FROM pg_prepared_statements") == [(0,)]


def test_each_loop_has_connections_of_its_own(postgres: Postgres, postgres_url: str) -> None:
    """They end with it, and nothing keeps it from ending."""
    first = asyncio.run(postgres.execute(PROCESS))
    second = asyncio.run(postgres.execute(PROCESS))
    assert first != second
    left = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)"
    until(lambda: tell(postgres_url, left, [first[0][0], second[0][0]]) == [(0,)])
    assert drive(postgres.execute(PROCESS), "test") not in (first, second)


def test_a_child_process_has_connections_of_its_own(postgres: Postgres) -> None:
    """Its end does not end those of its parent."""
    before = drive(postgres.execute(PROCESS), "test")
    child = os.fork()
    if child == 0:
        is_good = drive(postgres.execute(PROCESS), "test") != before
        drive(postgres.close(), "test")
        os._exit(0 if is_good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert drive(postgres.execute(PROCESS), "test") == before


# Interrupted


@pytest.mark.parametrize("after", [0.01, 0.05, 0.1])
def test_an_interrupt_leaves_nothing_on_the_server(postgres: Postgres, postgres_url: str, after: float) -> None:
    """The statement is cancelled, its transaction rolled back, and the connection is free for others."""

    async def work() -> None:
        async with postgres.transaction() as session:
            await session.execute("CREATE TABLE left_behind (name text)")
            await session.execute("SELECT pg_sleep(30)")

    drive(postgres.execute("SELECT 1"), "test")
    with interrupted(after):
        drive(work(), "test")
    assert tell(postgres_url, ACTIVE) == [(0,)]
    assert drive(postgres.execute("SELECT to_regclass('left_behind')"), "test") == [(None,)]


def test_a_cancelled_task_leaves_nothing_on_the_server(postgres: Postgres, postgres_url: str) -> None:
    """Wherever it is: connecting, waiting for a lock, at work, committing."""

    async def work() -> None:
        async with postgres.transaction() as session:
            await session.execute("INSERT INTO kept VALUES (1)")
            await session.script("SELECT pg_advisory_xact_lock(1); SELECT pg_sleep(0.001)")

    async def cancel(turns: int) -> None:
        task = asyncio.ensure_future(work())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    async def all_of_it() -> None:
        await postgres.execute("CREATE TABLE kept (number int)")
        for turns in range(60):
            await cancel(turns)
            await postgres.execute("SELECT pg_advisory_lock(1), pg_advisory_unlock(1)")
        assert await postgres.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
        assert tell(postgres_url, ACTIVE) == [(0,)]

    asyncio.run(all_of_it())


def test_a_cancelled_waiter_for_a_connection_passes_its_turn_on(
    connect: Callable[..., Postgres], postgres_url: str
) -> None:
    """The next one in line gets what he would have got."""
    postgres = connect(postgres_url, max_connections=2)

    async def wait() -> list[Any]:
        return await postgres.execute("SELECT 1")

    async def scenario() -> None:
        async with postgres.session():
            async with postgres.session():
                first, second = asyncio.ensure_future(wait()), asyncio.ensure_future(wait())
                await asyncio.sleep(0)
            first.cancel()
            assert await second == [(1,)]
            assert first.cancelled()

    asyncio.run(scenario())
