"""What is published, heard by many on one connection."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from pilotis.bridge import drive
from pilotis.settings.secrets import Secret
from pilotis_redis import RedisLink, RedisOptions
from pilotis_testing import Colour
from pilotis_testing.clock import until
from pilotis_testing.colours import soon, together
from pilotis_testing.moments import Moments, struck_at
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import NoPermissionError
from redis.exceptions import TimeoutError as NoAnswerError

LISTENERS = 30


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def link(redis_url: str, colour: Colour, request: pytest.FixtureRequest) -> Iterator[RedisLink]:
    """A link that speaks either version of the protocol."""
    link = RedisLink(RedisOptions(url=redis_url, protocol=request.param, client_name="listening"))
    yield link
    drive(link.close())


def connections(url: str) -> int:
    """Return how many connections with a subscription there are."""
    return len(tell(url, "CLIENT", "LIST", "TYPE", "PUBSUB").splitlines())


def line_of(link: Any) -> Any:
    """Return the connection on which a link listens, None without one."""
    return link._listener._line


def listeners(link: RedisLink) -> int:
    """Return how many listen now."""
    line = line_of(link)
    return 0 if line is None else sum(len(channel.heard) for channel in line._channels.values())


async def test_many_listen_on_one_connection(link: RedisLink, redis_url: str) -> None:
    """Each hears of its own channel; afterwards the server knows of no channel of theirs any more."""
    heard: list[int] = []

    async def listen(number: int) -> None:
        async with link.listening(f"channel {number % 3}") as message:
            if await message.wait(10):
                heard.append(number % 3)

    async def publish() -> None:
        await soon(lambda: len(tell(redis_url, "PUBSUB", "CHANNELS", "channel *")) == 3)
        await soon(lambda: listeners(link) == LISTENERS)
        assert connections(redis_url) == 1
        for channel in (2, 0, 1):
            tell(redis_url, "PUBLISH", f"channel {channel}", "now")
            await soon(lambda channel=channel: heard.count(channel) == LISTENERS // 3)

    await together(*[lambda number=number: listen(number) for number in range(LISTENERS)], publish)
    until(lambda: tell(redis_url, "PUBSUB", "CHANNELS", "channel *") == [])


async def test_nothing_is_missed_between_entering_and_waiting(link: RedisLink, redis_url: str) -> None:
    """The server knows before the block begins, so the message may come before anybody waits for it."""
    for number in range(20):
        async with link.listening("channel") as message:
            assert not message.is_set()
            assert tell(redis_url, "PUBLISH", "channel", number) == 1
            assert await message.wait(10)


async def test_a_broken_connection_wakes_who_listens(own_redis: RedisServer, colour: Colour) -> None:
    """They look for themselves; the next one to listen has a new connection."""
    link = RedisLink(RedisOptions(url=own_redis.url))
    async with link.listening("channel") as message:
        own_redis.restart()
        assert await message.wait(10)
    until(lambda: line_of(link).is_cut)
    async with link.listening("channel") as message:
        assert tell(own_redis.url, "PUBLISH", "channel", "now") == 1
        assert await message.wait(10)
    own_redis.stop()
    with pytest.raises(LostError):
        async with link.listening("channel"):
            pass
    await link.close()


async def test_closing_wakes_who_listens_and_ends_the_thread(redis_url: str, colour: Colour, no_leaks: None) -> None:
    """And leaves no connection behind; the link may be used again."""
    link = RedisLink(RedisOptions(url=redis_url))
    for _ in range(2):
        async with link.listening("channel") as message:
            await link.close()
            assert await message.wait(10)
    await link.close()
    until(lambda: connections(redis_url) == 0)


def test_an_interrupted_beginning_leaves_no_thread(redis_url: str) -> None:
    """Where somebody is interrupted while the thread starts, it ends at the latest with the link."""
    before = threading.active_count()
    moments = Moments()

    async def listen(link: RedisLink) -> None:
        async with link.listening("channel"):
            pass

    for moment in moments:
        link = RedisLink(RedisOptions(url=redis_url))
        moments.note(drive(struck_at(moment, listen(link), {"wait"})))
        drive(link.close())
    until(lambda: threading.active_count() == before)


async def test_who_may_not_listen_is_told(own_redis: RedisServer, colour: Colour) -> None:
    """At once, rather than woken again and again."""
    tell(own_redis.url, "ACL", "SETUSER", "deaf", "on", "nopass", "~*", "&*", "+@all", "-subscribe")
    link = RedisLink(RedisOptions(url=own_redis.url, username="deaf", password=Secret("any")))
    with pytest.raises(NoPermissionError):
        async with link.listening("channel"):
            pass
    await link.close()


async def test_a_server_that_hangs_does_not_hold_up_who_begins_to_listen(
    own_redis: RedisServer, colour: Colour
) -> None:
    """It takes the connection and says nothing: that is a time-out, for this one and for whoever comes after it."""
    link = RedisLink(RedisOptions(url=own_redis.url, timeout=0.2, connect_timeout=0.2, reconnects=0))
    own_redis.pause()
    for _ in range(2):
        with pytest.raises(NoAnswerError):
            async with link.listening("c"):
                pass
    own_redis.resume()
    async with link.listening("c") as heard:
        tell(own_redis.url, "PUBLISH", "c", "")
        await soon(heard.is_set)
    await link.close()


async def test_a_client_of_the_callers_may_have_a_time_out(redis_url: str) -> None:
    """It is for answers: listening goes on for as long as nothing is said."""
    client = redis.Redis.from_url(redis_url, socket_timeout=0.1)  # pyright: ignore[reportUnknownMemberType]
    link = RedisLink(RedisOptions(), client=client)
    async with link.listening("c") as heard:
        assert not await heard.wait(0.5)
        tell(redis_url, "PUBLISH", "c", "")
        await soon(heard.is_set)
    await link.close()
    client.close()
