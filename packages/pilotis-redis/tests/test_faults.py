"""A Redis that restarts, hangs, refuses or is full: what callers see, in both colours."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from pilotis.bridge import drive, run_blocking
from pilotis.errors import (
    AuthenticationError,
    ConflictError,
    ConnectionFailedError,
    InvalidInputError,
    OperationError,
    OperationTimeoutError,
    PermissionDeniedError,
    StorageFullError,
    ThrottledError,
)
from pilotis.settings.secrets import Secret
from pilotis_redis import RedisLink, RedisOptions
from pilotis_redis.faults import classify, is_lost, mark_unsent
from pilotis_testing import Colour
from pilotis_testing.colours import soon, together
from pilotis_testing.interrupts import interrupted
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer, free_port

FOREVER = "while true do end"
PROMPT = 20.0
"""Seconds within which what does not hang is over, however slow the machine is."""


@pytest.fixture
def link(own_redis: RedisServer, colour: Colour) -> Iterator[RedisLink]:
    """A link that is soon out of patience."""
    link = RedisLink(RedisOptions(url=own_redis.url, timeout=1.5))
    yield link
    drive(link.close())


async def failure(link: RedisLink, *command: Any) -> type[OperationError] | None:
    """Return which error of ours a command ends with."""
    with pytest.raises((redis.RedisError, OSError)) as caught:
        await link.execute(*command)
    return classify(caught.value)


async def test_commands_go_on_after_a_restart(link: RedisLink, own_redis: RedisServer) -> None:
    """Idle connections that broke meanwhile cost nobody a command."""
    await together(*[lambda: link.execute("PING")] * 5)
    await run_blocking(own_redis.restart)
    assert [True] * 5 == await together(*[lambda: link.execute("PING")] * 5)


async def test_a_restart_in_the_middle_of_a_load(durable_redis: RedisServer, colour: Colour) -> None:
    """Errors are those of a lost connection and end with the outage; no increment is done twice."""
    link = RedisLink(RedisOptions(url=durable_redis.url, max_connections=4))
    is_over = threading.Event()
    begun = threading.Event()

    async def load() -> tuple[int, list[Exception]]:
        done, lost = 0, list[Exception]()
        while not is_over.is_set():
            try:
                await link.execute("INCR", "n")
            except redis.RedisError as error:
                lost.append(error)
            else:
                done += 1
                begun.set()
        return done, lost

    def restart() -> None:
        begun.wait(5)
        durable_redis.restart()
        time.sleep(0.05)
        is_over.set()

    restarting = threading.Thread(target=restart)
    restarting.start()
    outcomes = await together(*[load] * 8)
    restarting.join()
    done, lost = sum(count for count, _ in outcomes), [error for _, errors in outcomes for error in errors]
    assert {ConnectionFailedError} >= {classify(error) for error in lost}
    assert done <= int(await link.execute("GET", "n")) <= done + len(lost)
    assert await link.execute("PING") is True
    await link.close()


async def test_connecting_waits_for_a_server_that_comes_back_soon(own_redis: RedisServer, colour: Colour) -> None:
    """A command that was not sent yet is held back meanwhile."""
    own_redis.stop()
    starting = threading.Timer(0.05, own_redis.start)
    starting.start()
    link = RedisLink(RedisOptions(url=own_redis.url, reconnects=8))
    assert await link.execute("INCR", "n") == 1
    starting.join()
    await link.close()


async def test_a_server_that_hangs_costs_one_time_out(link: RedisLink, own_redis: RedisServer) -> None:
    """For commands on old connections and on new ones; once it goes on, so do they, and no answer is mixed up."""
    await link.execute("SET", "k", "right")
    own_redis.pause()
    begun = time.monotonic()
    for _ in range(2):
        assert await failure(link, "GET", "other") is OperationTimeoutError
    assert time.monotonic() - begun < PROMPT
    own_redis.resume()
    assert [b"right"] * 20 == await together(*[lambda: link.execute("GET", "k")] * 20)


async def test_a_server_that_is_not_there(colour: Colour) -> None:
    """It is told at once, with the address and without the password."""
    link = RedisLink(RedisOptions(url=f"redis://:hidden@127.0.0.1:{free_port()}"))
    begun = time.monotonic()
    with pytest.raises(redis.ConnectionError) as caught:
        await link.execute("PING")
    assert time.monotonic() - begun < PROMPT
    assert classify(caught.value) is ConnectionFailedError
    assert "hidden" not in str(caught.value)
    await link.close()


async def test_credentials(own_redis: RedisServer, colour: Colour) -> None:
    """Wrong ones, missing ones, and good ones that do not allow everything. Nobody tries again."""
    for command in (
        ("CONFIG", "SET", "requirepass", "right"),
        ("ACL", "SETUSER", "reader", "on", ">right", "~*", "+get"),
    ):
        tell(own_redis.url.replace("redis://", "redis://:right@") if command[0] == "ACL" else own_redis.url, *command)
    outcomes = {
        ("", None): AuthenticationError,
        ("wrong", None): AuthenticationError,
        ("right", "nobody"): AuthenticationError,
        ("right", "reader"): PermissionDeniedError,
    }
    for (password, username), expected in outcomes.items():
        options = RedisOptions(url=own_redis.url, username=username, password=Secret(password) or None, reconnects=99)
        link = RedisLink(options)
        assert expected is await failure(link, "SET", "k", 1)
        await link.close()


async def test_what_the_server_refuses(link: RedisLink) -> None:
    """Each kind of refusal is the error that says so."""
    await link.execute("RPUSH", "list", "x")
    await link.execute("SET", "text", "x")
    assert await failure(link, "INCR", "list") is ConflictError
    assert await failure(link, "INCR", "text") is InvalidInputError
    assert await failure(link, "EVAL", "return redis.call('INCR', 'text')", 0) is InvalidInputError
    assert await failure(link, "EVAL", "return redis.call('INCR', 'list')", 0) is ConflictError
    assert await failure(link, "SET", "k", object()) is InvalidInputError
    assert await failure(link, "NONSENSE") is None
    await link.execute("CONFIG", "SET", "maxmemory", "1")
    assert await failure(link, "SET", "k", "v") is StorageFullError
    await link.execute("REPLICAOF", "127.0.0.1", str(free_port()))
    await link.execute("CONFIG", "SET", "maxmemory", "0")
    assert await failure(link, "SET", "k", "v") is ConnectionFailedError


async def test_a_server_that_is_busy_with_a_script(link: RedisLink, own_redis: RedisServer) -> None:
    """Others are told that it is, once it minds."""
    await link.execute("CONFIG", "SET", "busy-reply-threshold", 1)
    assert await failure(link, "EVAL", FOREVER, 0) is OperationTimeoutError
    assert await failure(link, "GET", "k") is ThrottledError
    await link.execute("SCRIPT", "KILL")
    await soon(lambda: is_well(own_redis))
    assert await link.execute("GET", "k") is None


def is_well(server: RedisServer) -> bool:
    """Tell whether the server answers as always."""
    try:
        return tell(server.url, "PING")
    except redis.ResponseError:
        return False


async def test_too_many_clients(own_redis: RedisServer, colour: Colour) -> None:
    """The server says so and hangs up, and whichever is noticed first is told. Both may pass."""
    tell(own_redis.url, "CONFIG", "SET", "maxclients", "1")
    with redis.Redis.from_url(own_redis.url) as first:  # pyright: ignore[reportUnknownMemberType]
        first.ping()  # pyright: ignore[reportUnknownMemberType]
        link = RedisLink(RedisOptions(url=own_redis.url))
        assert await failure(link, "PING") in (ThrottledError, ConnectionFailedError)
        await link.close()


def test_an_interrupted_command_leaves_no_answer_behind(own_redis: RedisServer) -> None:
    """Ctrl-C while a thread waits for an answer: the connection is not used again."""
    link = RedisLink(RedisOptions(url=own_redis.url, max_connections=1))
    drive(link.execute("SET", "k", "right"))
    own_redis.pause()
    with interrupted():
        drive(link.execute("GET", "other"))
    own_redis.resume()
    assert drive(link.execute("GET", "k")) == b"right"
    drive(link.close())


async def test_a_cancelled_command_leaves_no_answer_behind(own_redis: RedisServer) -> None:
    """Nor does a task that is cancelled."""
    link = RedisLink(RedisOptions(url=own_redis.url, max_connections=1))
    await link.execute("SET", "k", "right")
    own_redis.pause()
    asking = asyncio.create_task(link.execute("GET", "other"))
    await asyncio.sleep(0.05)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    own_redis.resume()
    assert await link.execute("GET", "k") == b"right"
    await link.close()


def test_errors_of_others_are_not_ours() -> None:
    """A mistake in a program is not taken for one of Redis."""
    assert classify(ValueError("WRONGTYPE")) is None


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (redis.ConnectionError("Connection closed by server."), True),
        (redis.TimeoutError("Timeout reading from socket"), True),
        (redis.BusyLoadingError("LOADING"), False),
        (redis.AuthenticationError("WRONGPASS"), False),
        (redis.ReadOnlyError("READONLY"), False),
        (redis.ResponseError("WRONGTYPE"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_answer_is_lost_where_a_connection_broke_that_carried_a_command(error: Exception, lost: bool) -> None:
    """What the server itself said is known, and so is that nothing was sent."""
    assert lost == is_lost(error)
    mark_unsent(error)
    assert not is_lost(error)
