"""What happens when the server is away, silent, unwilling or full."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from pilotis.bridge import drive
from pilotis.errors import (
    AuthenticationError,
    ConflictError,
    ConnectionFailedError,
    InvalidInputError,
    NotFoundError,
    OperationError,
    OperationTimeoutError,
    PermissionDeniedError,
    ThrottledError,
)
from pilotis_postgres import Postgres, PostgresOptions, Session
from pilotis_postgres.colours import settled
from pilotis_postgres.connections import connect as make_connection
from pilotis_postgres.faults import classify, is_lost
from pilotis_testing.clock import until
from pilotis_testing.colours import Colour
from pilotis_testing.postgres import PostgresServer, running_postgres, tell, with_password

Connect = Callable[..., Postgres]


async def test_dead_connections_are_replaced_unnoticed(
    connect: Connect, own_postgres: PostgresServer, colour: Colour
) -> None:
    """After a restart nobody fails: nothing was sent on the connections that had ended."""
    postgres = connect(own_postgres.url)
    async with postgres.session(), postgres.session():
        pass
    own_postgres.restart()
    assert [await postgres.execute("SELECT 1") for _ in range(4)] == [[(1,)]] * 4


async def test_a_server_that_is_away_is_told_of(connect: Connect, own_postgres: PostgresServer, colour: Colour) -> None:
    """Nothing was sent, and everybody who asks may try again: no place of the pool is lost."""
    postgres = connect(own_postgres.url, reconnects=0, max_connections=2)
    own_postgres.stop()
    for _ in range(3):
        with pytest.raises(psycopg.OperationalError) as caught:
            await postgres.execute("SELECT 1")
        assert classify(caught.value) is ConnectionFailedError
        assert not is_lost(caught.value)
    own_postgres.start()
    assert await postgres.execute("SELECT 1") == [(1,)]


async def test_a_silent_server_is_not_waited_for(
    connect: Connect, own_postgres: PostgresServer, colour: Colour
) -> None:
    """The wait for the answer is over after the time-out, and nobody knows what became of the statement."""
    postgres = connect(own_postgres.url, timeout=1)
    await postgres.execute("SELECT 1")
    own_postgres.pause()
    with pytest.raises(psycopg.OperationalError, match="no answer") as caught:
        await postgres.execute("SELECT 1")
    assert classify(caught.value) is OperationTimeoutError
    assert is_lost(caught.value)
    own_postgres.resume()
    assert await postgres.execute("SELECT 1") == [(1,)]


async def test_a_slow_statement_is_cancelled(connect: Connect, postgres_url: str, colour: Colour) -> None:
    """It does not go on behind the back of who gave it up."""
    postgres = connect(postgres_url, timeout=1)
    with pytest.raises(psycopg.OperationalError, match="no answer"):
        await postgres.execute("SELECT pg_sleep(30)")
    at_work = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%%pg_sleep(30)' AND state = 'active'"
    assert tell(postgres_url, at_work.replace("%%", "%")) == [(0,)]


async def test_a_statement_that_arrives_late_is_cancelled(
    own_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, colour: Colour
) -> None:
    """The server does not mind a cancellation that comes before the statement, and so it comes again."""
    monkeypatch.setattr("pilotis_postgres.connections.GRACE", 60)
    connection = await make_connection(PostgresOptions(url=own_postgres.url))
    session = Session(connection)
    ((pid,),) = await session.execute("SELECT pg_backend_pid()")
    os.kill(pid, signal.SIGSTOP)
    helper = threading.Thread(target=go_on_once_cancelled, args=(pid,))
    helper.start()
    connection.patience = 0.1
    with pytest.raises(psycopg.OperationalError, match="no answer"):
        await session.execute("SELECT pg_sleep(3600)")
    helper.join()
    connection.patience = 60
    assert await session.execute("SELECT pg_backend_pid()") == [(pid,)]
    await settled(connection.close())


def go_on_once_cancelled(pid: int) -> None:
    """Have a process of the server go on that was stopped, as soon as it was told to cancel what it is about."""
    until(lambda: _has_pending(pid, signal.SIGINT), 60)
    os.kill(pid, signal.SIGCONT)


def _has_pending(pid: int, number: signal.Signals) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    pending = next(line for line in lines if line.startswith("ShdPnd:"))
    return bool(int(pending.split()[1], 16) >> (number - 1) & 1)


async def test_a_lost_answer_to_a_commit_is_unknown(
    connect: Connect, own_postgres: PostgresServer, colour: Colour
) -> None:
    """The transaction may be there or not; an error of the server's own says that it is not."""
    postgres = connect(own_postgres.url)
    await postgres.execute("CREATE TABLE kept (number int PRIMARY KEY)")

    async def work() -> None:
        async with postgres.transaction() as session:
            await session.execute("INSERT INTO kept VALUES (1)")
            own_postgres.kill()

    with pytest.raises(psycopg.OperationalError) as caught:
        await work()
    assert is_lost(caught.value)
    own_postgres.start()
    await postgres.execute("INSERT INTO kept VALUES (1)")
    with pytest.raises(psycopg.errors.UniqueViolation) as refused:
        await postgres.execute("INSERT INTO kept VALUES (1)")
    assert not is_lost(refused.value)


def test_cancelled_where_the_server_is_silent(connect: Connect, own_postgres: PostgresServer) -> None:
    """The caller is free soon, and the connection is not used again."""
    postgres = connect(own_postgres.url)

    async def scenario() -> None:
        (before,) = await postgres.execute("SELECT pg_backend_pid()")
        own_postgres.pause()
        task = asyncio.ensure_future(postgres.execute("SELECT 1"))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        own_postgres.resume()
        assert await postgres.execute("SELECT pg_backend_pid()") != [before]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT * FROM nowhere", NotFoundError),
        ("SELECT nextval('nowhere')", NotFoundError),
        ("SELECT 1 / 0", InvalidInputError),
        ("SELECT 'a'::int", InvalidInputError),
        ("SELECT nothing nowhere sensible", None),
        ("INSERT INTO kept VALUES (1), (1)", ConflictError),
        ("SET statement_timeout = 1; SELECT pg_sleep(10)", OperationTimeoutError),
        ("SELECT pg_terminate_backend(pg_backend_pid())", ConnectionFailedError),
        ("SET ROLE nobody_much; SELECT * FROM kept", PermissionDeniedError),
    ],
)
def test_what_the_server_refuses(
    postgres: Postgres, postgres_url: str, statement: str, expected: type[OperationError] | None
) -> None:
    """Its codes are ours by another name, and what it refuses was not done."""
    tell(postgres_url, "CREATE TABLE kept (number int PRIMARY KEY)")
    tell(postgres_url, "DO $$ BEGIN CREATE ROLE nobody_much; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    with pytest.raises(psycopg.Error) as caught:
        drive(postgres.script(statement), "test")
    assert classify(caught.value) is expected
    assert not is_lost(caught.value)


def test_what_keeps_us_out(connect: Connect, postgres_url: str) -> None:
    """A wrong password, an unknown role and an unknown database are told apart, and no password is told."""
    url = with_password(postgres_url, "open-sesame")
    host = postgres_url.rpartition("@")[2]
    for wrong, expected in (
        (url.replace("sesame", "barley"), AuthenticationError),
        (f"postgresql://nobody_here@{host}", AuthenticationError),
        (postgres_url + "_not", NotFoundError),
    ):
        with pytest.raises(psycopg.OperationalError) as caught:
            drive(connect(wrong).execute("SELECT 1"), "test")
        assert classify(caught.value) is expected
        assert "barley" not in str(caught.value)


def test_a_full_server_is_told_of(connect: Connect, postgres_cluster: object) -> None:
    """It has as many connections as it takes."""
    with running_postgres(
        "-c", "max_connections=3", "-c", "superuser_reserved_connections=0", "-c", "max_wal_senders=0"
    ) as server:
        postgres = connect(server.url, reconnects=0)

        async def scenario() -> None:
            async with postgres.session(), postgres.session(), postgres.session():
                await postgres.execute("SELECT 1")

        with pytest.raises(psycopg.OperationalError) as caught:
            drive(scenario(), "test")
        assert classify(caught.value) is ThrottledError
