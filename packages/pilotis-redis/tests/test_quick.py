"""The short way of a command whose connection is at hand, and when it is not taken."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
import redis
import redis.asyncio
from pilotis.bridge import drive
from pilotis_redis import RedisLink, RedisOptions
from pilotis_testing.colours import Colour, together
from pilotis_testing.redis import tell

MOST_CALLS = {Colour.BLOCKING: 28, Colour.ASYNC: 105}
"""Python calls of a command on a connection at hand, with those of the event loop; redis-py's own client: 87, 196."""


@pytest.fixture
def link(redis_url: str, colour: Colour) -> Iterator[RedisLink]:
    """A link of two connections."""
    link = RedisLink(RedisOptions(url=redis_url, max_connections=2, client_name="quick", timeout=5))
    yield link
    drive(link.close())


async def test_a_command_at_hand_is_short(link: RedisLink, colour: Colour) -> None:
    """It makes few Python calls: what redis-py does for a connection that has to be waited for is left out."""
    await link.execute("MGET", "k")
    calls = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    gc.disable()  # it calls whatever it finds
    sys.setprofile(count)
    try:
        await link.execute("MGET", "k")
    finally:
        sys.setprofile(None)
        gc.enable()
    assert calls <= MOST_CALLS[colour]


async def test_a_connection_that_was_ended_costs_nobody_a_command(link: RedisLink, redis_url: str) -> None:
    """Whoever finds it idle and broken has a new one."""
    for number in range(1, 4):
        assert await link.execute("INCR", "n") == number
        for client in tell(redis_url, "CLIENT LIST"):
            if client["name"] == "quick":
                tell(redis_url, "CLIENT KILL", "ID", client["id"])


async def test_an_answer_that_nobody_asked_for_is_given_to_nobody(
    link: RedisLink, redis_url: str, colour: Colour
) -> None:
    """A connection that has something to say before it is asked is made anew."""
    await link.execute("PING")
    if colour is Colour.BLOCKING:
        pool = native(link, redis.Redis).connection_pool
        connection = pool.get_connection()
        connection.send_command("ECHO", "stray")
        pool.release(connection)
    else:
        pool = native(link, redis.asyncio.Redis).connection_pool
        connection = await pool.get_connection()
        await connection.send_command("ECHO", "stray")
        await pool.release(connection)
    for _ in range(3):  # by then the stray answer is there
        tell(redis_url, "PING")
    assert b"b" == await link.execute("ECHO", "b")


def native(link: RedisLink, kind: type) -> Any:
    """Return redis-py's client."""
    return link.native(kind)


async def test_refusals_leave_the_connection_in_use(link: RedisLink) -> None:
    """An error of a command is an answer, too."""
    me = await link.execute("CLIENT", "ID")
    for _ in range(3):
        with pytest.raises(Exception, match="wrong number"):
            await link.execute("GET")
        assert await link.execute("CLIENT", "ID") == me


async def test_what_cannot_be_sent_leaves_the_connection_in_use(link: RedisLink) -> None:
    """It is refused before anything is sent."""
    me = await link.execute("CLIENT", "ID")
    with pytest.raises(Exception, match=r"must be|(?i:invalid input)"):
        await link.execute("SET", "k", object())
    assert await link.execute("CLIENT", "ID") == me


async def test_many_callers_share_few_connections(link: RedisLink, redis_url: str) -> None:
    """Nobody is left waiting, and there are never more connections than allowed."""

    async def count() -> int:
        return [await link.execute("INCR", "n") for _ in range(20)][-1]

    assert 20 * 20 == max(await together(*[count] * 20))
    assert sum(client["name"] == "quick" for client in tell(redis_url, "CLIENT LIST")) <= 2


@pytest.mark.parametrize("steps", range(6))
async def test_no_cancellation_is_lost(redis_url: str, steps: int) -> None:
    """Whoever is cancelled while a new connection sends ends, at whatever step of the event loop that comes."""
    link = RedisLink(RedisOptions(url=redis_url))
    pool = native(link, redis.asyncio.Redis).connection_pool
    connection = await pool.get_connection()
    sending = asyncio.ensure_future(connection.send_command("PING"))
    for _ in range(steps):
        await asyncio.sleep(0)
    if sending.cancel():
        with pytest.raises(asyncio.CancelledError):
            await sending
    await connection.disconnect()
    await pool.release(connection)
    await link.close()
