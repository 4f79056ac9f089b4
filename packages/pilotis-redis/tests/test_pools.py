"""Connections go back to their pool whatever becomes of their callers, and with no reply that nobody read."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
import redis.asyncio
from pilotis.bridge import drive
from pilotis_redis import RedisLink, RedisOptions
from pilotis_testing.servers import RedisServer


@contextmanager
def interrupted_after(function: str) -> Generator[None]:
    """Interrupt the block, as Ctrl-C does, at the moment when a function of a name returns."""

    def interrupt(frame: FrameType, event: str, _: Any) -> None:
        if event == "return" and frame.f_code.co_name == function:
            raise KeyboardInterrupt

    sys.setprofile(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        sys.setprofile(None)


def test_a_reply_that_nobody_waited_for_is_given_to_nobody(own_redis: RedisServer) -> None:
    """Who is interrupted once his command is sent leaves no connection on which the next one reads his reply."""
    link = RedisLink(RedisOptions(url=own_redis.url, max_connections=1, timeout=30))
    drive(link.execute("PING"))
    own_redis.pause()
    with interrupted_after("send_packed_command"):
        drive(link.execute("ECHO", "a"))
    threading.Timer(0.05, own_redis.resume).start()
    assert b"b" == drive(link.execute("ECHO", "b"))
    drive(link.close())


def test_replies_that_nobody_took_are_given_to_nobody(redis_url: str) -> None:
    """Who is interrupted between the replies to several commands leaves none of them, either."""
    link = RedisLink(RedisOptions(url=redis_url, max_connections=1))
    drive(link.execute("PING"))
    with interrupted_after("parse_response"):
        drive(link.pipeline([("ECHO", "a"), ("ECHO", "b"), ("ECHO", "c")]))
    assert b"d" == drive(link.execute("ECHO", "d"))
    drive(link.close())


async def test_a_free_connection_is_for_the_next_in_line(redis_url: str) -> None:
    """Where the first in line is cancelled at the moment when one is free, the second has it at once."""
    link = RedisLink(RedisOptions(url=redis_url, max_connections=1, timeout=60))
    await link.execute("PING")
    native: Any = link.native(redis.asyncio.Redis)
    pool = native.connection_pool
    connection = await pool.get_connection()
    first, second = (asyncio.ensure_future(link.execute("ECHO", text)) for text in ("first", "second"))
    await asyncio.sleep(0.01)
    await pool.release(connection)
    first.cancel()
    done, _ = await asyncio.wait((second,), timeout=20)
    assert [b"second"] == [task.result() for task in done]
    await link.close()


async def test_nobody_in_line_is_overtaken(redis_url: str) -> None:
    """Tasks have the connection in the order in which they came, also when others come while it is handed on."""
    link = RedisLink(RedisOptions(url=redis_url, max_connections=1))
    await link.execute("PING")
    order: list[int] = []

    async def count(number: int) -> None:
        await link.execute("PING")
        order.append(number)

    tasks: list[asyncio.Task[None]] = []
    for number in range(20):
        tasks.append(asyncio.ensure_future(count(number)))
        await asyncio.sleep(0)
    await asyncio.wait(tasks)
    assert order == list(range(20))
    await link.close()
