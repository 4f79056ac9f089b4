"""Notifications, heard by many on one connection."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest
from pilotis.bridge import drive
from pilotis_postgres import Postgres
from pilotis_testing.clock import until
from pilotis_testing.colours import Colour, together
from pilotis_testing.moments import Moments, struck_at
from pilotis_testing.postgres import PostgresServer, tell

Connect = Callable[..., Postgres]
PATIENCE = 20.0
SELECTABLE = 1_024
"""Files that `select` can watch, by their numbers."""


@pytest.fixture
def many_files() -> Iterator[None]:
    """Have so many files open that the numbers of those to come are beyond what `select` can watch."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(2 * SELECTABLE, hard)), hard))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(SELECTABLE)]
    yield
    for file in files:
        os.close(file)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_what_is_notified_is_heard(postgres: Postgres, colour: Colour) -> None:
    """By all who listen to the channel, and by nobody else."""
    async with (
        postgres.listening("news") as one,
        postgres.listening("news") as two,
        postgres.listening('Other\'s "news"') as other,
    ):
        heard = [await ear.news() for ear in (one, two, other)]
        await postgres.execute("NOTIFY news")
        assert [True, True] == [await latch.wait(PATIENCE) for latch in heard[:2]]
        assert not heard[2].is_set()
        await postgres.execute("SELECT pg_notify(%s, '')", ('Other\'s "news"',))
        assert await heard[2].wait(PATIENCE)


async def test_news_are_what_came_since(postgres: Postgres, colour: Colour) -> None:
    """What was heard before is none; nothing that comes after asking for news is missed."""
    async with postgres.listening("news") as ear:
        first = await ear.news()
        await postgres.execute("NOTIFY news")
        assert await first.wait(PATIENCE)
        second = await ear.news()
        assert not second.is_set()
        await postgres.execute("NOTIFY news")
        assert await second.wait(PATIENCE)


async def test_all_share_one_connection(postgres: Postgres, postgres_url: str, colour: Colour) -> None:
    """Many listeners have one, and leave nothing that is listened to."""
    all_there: list[int] = []

    async def listen(number: int) -> None:
        async with postgres.listening(f"channel-{number}") as ear:
            latch = await ear.news()
            all_there.append(ear.pid)
            await postgres.execute(f'NOTIFY "channel-{number}"')
            assert await latch.wait(PATIENCE)

    await together(*(lambda number=number: listen(number) for number in range(20)))
    assert len(set(all_there)) == 1
    line = postgres.listener.line
    assert line is not None
    until(lambda: not line.channels)


async def test_a_broken_connection_wakes_everybody(
    connect: Connect, own_postgres: PostgresServer, colour: Colour
) -> None:
    """They look for themselves; whoever asks for news then hears again, on a new connection."""
    postgres = connect(own_postgres.url)
    async with postgres.listening("news") as ear:
        heard = await ear.news()
        own_postgres.restart()
        assert await heard.wait(PATIENCE)
        again = await ear.news()
        await postgres.execute("NOTIFY news")
        assert await again.wait(PATIENCE)


async def test_a_server_that_is_away_is_told_of(connect: Connect, own_postgres: PostgresServer, colour: Colour) -> None:
    """By listening itself, and by asking for news."""
    postgres = connect(own_postgres.url, reconnects=0)
    async with postgres.listening("news") as ear:
        heard = await ear.news()
        own_postgres.stop()
        assert await heard.wait(PATIENCE)
        with pytest.raises(psycopg.OperationalError):
            await ear.news()
    with pytest.raises(psycopg.OperationalError):
        async with postgres.listening("news"):
            pass


@pytest.mark.slow
async def test_a_silent_server_is_waited_for_once(
    connect: Connect, own_postgres: PostgresServer, colour: Colour
) -> None:
    """Who listens while somebody else tries to connect shares what becomes of that, and does not stand in line."""
    postgres = connect(own_postgres.url, reconnects=0, connect_timeout=2)
    told: list[psycopg.OperationalError] = []

    async def listen() -> None:
        with pytest.raises(psycopg.OperationalError) as caught:
            async with postgres.listening("news"):
                pass
        told.append(caught.value)

    own_postgres.pause()
    await together(*[listen] * 8)
    own_postgres.resume()
    assert len(told) == 8
    assert len(set(map(id, told))) < 8
    async with postgres.listening("news") as ear:
        assert ear.pid > 0


def test_closing_wakes_everybody(postgres: Postgres, no_leaks: None) -> None:
    """And ends the thread."""

    async def scenario() -> None:
        async with postgres.listening("news") as ear:
            heard = await ear.news()
            await postgres.close()
            assert await heard.wait(PATIENCE)

    drive(scenario(), "test")


def test_an_interrupted_beginning_leaves_no_thread(connect: Connect, postgres_url: str) -> None:
    """Where somebody is interrupted while the thread starts, it ends at the latest with the pool."""
    before = threading.active_count()
    moments = Moments()

    async def listen(postgres: Postgres) -> None:
        async with postgres.listening("news"):
            pass

    for moment in moments:
        postgres = connect(postgres_url)
        moments.note(drive(struck_at(moment, listen(postgres), {"wait"})))
        drive(postgres.close())
    until(lambda: threading.active_count() == before)


def test_a_cancelled_listener_is_gone(postgres: Postgres, postgres_url: str) -> None:
    """Wherever it is cancelled, nothing is left that would listen for it."""

    async def listen() -> None:
        async with postgres.listening("news") as ear:
            await (await ear.news()).wait(PATIENCE)

    async def scenario() -> None:
        async with postgres.listening("other"):
            for turns in range(20):
                task = asyncio.ensure_future(listen())
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
            line = postgres.listener.line
            assert line is not None
            assert list(line.channels) == ["other"]

    asyncio.run(scenario())
    tell(postgres_url, "NOTIFY news")


@pytest.mark.usefixtures("many_files")
async def test_a_process_with_many_files_open_listens_too(postgres: Postgres, colour: Colour) -> None:
    """As a busy server has them: for each a number that old ways of waiting cannot count to."""
    async with postgres.listening("news") as ear:
        heard = await ear.news()
        await postgres.execute("NOTIFY news")
        assert await heard.wait(PATIENCE)
