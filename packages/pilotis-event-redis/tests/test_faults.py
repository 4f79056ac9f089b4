"""A Redis that is down, hangs, forgets or is full while events are emitted: typed errors, and nothing half done."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pilotis.bridge import pause, run_blocking
from pilotis.errors import (
    ConflictError,
    ConnectionFailedError,
    InvalidInputError,
    OperationTimeoutError,
    StorageFullError,
)
from pilotis.modules.event import EventBus, Message
from pilotis.providers import Context
from pilotis_event_redis import RedisEvents, RedisEventsOptions
from pilotis_testing import Colour
from pilotis_testing.clock import until
from pilotis_testing.colours import together
from pilotis_testing.event_base import Seen, drained
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer

TIMEOUT = 1.0
PROMPT = 20.0
"""Seconds within which what does not hang is over, however slow the machine is."""
KEPT = ("--appendonly", "yes", "--appendfsync", "always")
"""Options of a server that loses nothing that it answered."""
LOADS_SLOWLY = ("--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
"""Options of a server that takes 20 ms for each key that it reads at its start, and answers meanwhile."""
LANE = "{pilotis:events}:l:shop/order.* stock"


@pytest.fixture
def bus(own_redis: RedisServer, colour: Colour) -> Iterator[Any]:
    """A bus that only emits, and is soon out of patience."""
    context = Context(name="shop", role="emit")
    provider = RedisEvents(
        RedisEventsOptions(url=own_redis.url, timeout=TIMEOUT, connect_timeout=TIMEOUT, reconnects=0)
    )
    bus = EventBus(provider, context=context)
    bus.on("order.*", id="stock")(Seen())
    yield colour.voice(bus)
    bus.close()
    context.runtime.stop()


def waiting(server: RedisServer) -> int:
    """Return how many events wait in the lane."""
    return tell(server.url, "XLEN", f"{LANE}:n")


async def test_an_emit_while_redis_is_down_is_known_not_to_have_happened(bus: Any, own_redis: RedisServer) -> None:
    """It says so at once, and the same event can be emitted when the server is back."""
    await bus.emit("order.placed", 1)
    await run_blocking(own_redis.kill)
    started = time.monotonic()
    with pytest.raises(ConnectionFailedError) as caught:
        await bus.emit("order.placed", 2, id="mine")
    assert (None, True) == (caught.value.outcome, caught.value.retryable)
    assert time.monotonic() - started < PROMPT
    own_redis.start()
    assert await bus.emit("order.placed", 2, id="mine") == "mine"
    assert waiting(own_redis) == 1


async def test_an_emit_whose_answer_was_lost_says_so(bus: Any, own_redis: RedisServer) -> None:
    """Within the time-out; it was wholly sent, here, and a repetition with the same id is dropped."""
    await bus.emit("order.placed", 1)
    messages = [Message("order.placed", number, id=f"id-{number}") for number in range(1_000)]
    own_redis.pause()
    started = time.monotonic()
    with pytest.raises(OperationTimeoutError) as caught:
        await bus.emit_many(messages)
    assert ("unknown", "emit", True) == (caught.value.outcome, caught.value.operation, caught.value.retryable)
    assert time.monotonic() - started < PROMPT
    own_redis.resume()
    assert [message.id for message in messages] == await bus.emit_many(messages)
    assert waiting(own_redis) == 1_001


async def test_an_emit_that_is_cut_off_is_wholly_sent_or_not_at_all(bus: Any, own_redis: RedisServer) -> None:
    """Whenever the server is killed; and what was answered is kept."""
    own_redis.stop()
    own_redis.options = KEPT
    own_redis.start()
    before = 0
    for turn in range(4):
        messages = [Message("order.placed", number, id=f"{turn}-{number}") for number in range(2_000)]
        error = await emit_into_a_kill(bus, own_redis, messages, after=random.uniform(0, 0.1))
        kept = waiting(own_redis) - before
        assert kept in ((2_000,) if error is None else (0, 2_000))
        assert error is None or error.outcome == "unknown" or kept == 0
        assert [message.id for message in messages] == await bus.emit_many(messages)
        before += 2_000
        assert waiting(own_redis) == before


async def emit_into_a_kill(bus: Any, server: RedisServer, messages: list[Message], after: float) -> Any:
    """Have the server be killed during an emit, and start it again. Return the error of the emit."""
    errors: list[Exception | None] = []

    async def emit() -> None:
        try:
            await bus.emit_many(messages)
            errors.append(None)
        except (ConnectionFailedError, OperationTimeoutError) as error:
            errors.append(error)

    async def kill() -> None:
        await pause(after)
        await run_blocking(server.kill)

    await together(emit, kill)
    await run_blocking(begin, server)
    return errors[0]


def begin(server: RedisServer) -> None:
    """Start a server, and wait until it has read what it kept."""
    server.start()
    until(lambda: not tell(server.url, "INFO", "persistence")["loading"])


async def test_scripts_that_were_flushed_are_sent_again(bus: Any, own_redis: RedisServer) -> None:
    """One at a time, and many together."""
    for _ in range(3):
        tell(own_redis.url, "SCRIPT", "FLUSH")
        await bus.emit("order.placed", 1)
        tell(own_redis.url, "SCRIPT", "FLUSH")
        await bus.emit_many([Message("order.placed", number) for number in range(999)])
    assert waiting(own_redis) == 3_000


async def test_an_emptied_database_takes_events_again(
    bus: Any, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Into the lanes that this process declared, with a warning."""
    await bus.emit("order.placed", 1)
    tell(own_redis.url, "FLUSHALL")
    await bus.emit("order.placed", 2)
    assert waiting(own_redis) == 1
    assert "was emptied" in caplog.text


async def test_a_replica_refuses(bus: Any, own_redis: RedisServer) -> None:
    """`READONLY`, as after a failover: nothing happened, and it is known."""
    await bus.emit("order.placed", 1)
    tell(own_redis.url, "REPLICAOF", "127.0.0.1", own_redis.port)
    for messages in ([Message("order.placed")], [Message("order.placed")] * 500):
        with pytest.raises(ConnectionFailedError, match="read only") as caught:
            await bus.emit_many(messages)
        assert caught.value.outcome is None
    tell(own_redis.url, "REPLICAOF", "NO", "ONE")
    await bus.emit("order.placed", 2)
    assert waiting(own_redis) == 2


async def test_a_server_that_is_still_loading_refuses(bus: Any, own_redis: RedisServer) -> None:
    """`LOADING`, as after a restart with much to read: nothing happened, and it is known at once."""
    await bus.emit("order.placed", 1)
    tell(
        own_redis.url,
        "MSET",
        *(item for number in range(1_000) for item in (f"filler {number}", random.randbytes(1024))),
    )
    tell(own_redis.url, "SAVE")
    await run_blocking(own_redis.kill)
    own_redis.options = LOADS_SLOWLY
    await run_blocking(own_redis.start, until_loaded=False)
    started = time.monotonic()
    for messages in ([Message("order.placed")], [Message("order.placed")] * 500):
        with pytest.raises(ConnectionFailedError, match="loading") as caught:
            await bus.emit_many(messages)
        assert (None, True) == (caught.value.outcome, caught.value.retryable)
    assert time.monotonic() - started < PROMPT
    tell(own_redis.url, "CONFIG", "SET", "key-load-delay", 0)
    until(lambda: not tell(own_redis.url, "INFO", "persistence")["loading"])
    await bus.emit("order.placed", 2)
    assert waiting(own_redis) == 2


async def test_a_full_server_refuses(bus: Any, own_redis: RedisServer) -> None:
    """Nothing is half done."""
    await bus.emit("order.placed", 1)
    tell(own_redis.url, "CONFIG", "SET", "maxmemory", "1")
    for messages in ([Message("order.placed")], [Message("order.placed")] * 500):
        with pytest.raises(StorageFullError) as caught:
            await bus.emit_many(messages)
        assert caught.value.outcome is None
    tell(own_redis.url, "CONFIG", "SET", "maxmemory", "0")
    assert waiting(own_redis) == 1


async def test_a_spoilt_lane_is_an_error_that_names_what_is_wrong(bus: Any, own_redis: RedisServer) -> None:
    """Once it is mended, the same event is taken."""
    await bus.emit("order.placed", 1, id="first")
    tell(own_redis.url, "DEL", f"{LANE}:n")
    tell(own_redis.url, "SET", f"{LANE}:n", "x")
    with pytest.raises(ConflictError, match="WRONGTYPE"):
        await bus.emit("order.placed", 2, id="second")
    tell(own_redis.url, "DEL", f"{LANE}:n")
    assert await bus.emit("order.placed", 2, id="second") == "second"
    assert waiting(own_redis) == 1


async def test_large_events_are_refused_before_they_are_sent(bus: Any, own_redis: RedisServer) -> None:
    """10 MB, by the limit of the settings; what is within it is taken."""
    with pytest.raises(InvalidInputError, match=r"event\.max_bytes"):
        await bus.emit("order.placed", "x" * 10_000_000)
    await bus.emit("order.placed", "x" * 1_000_000)
    assert waiting(own_redis) == 1


async def test_a_bus_goes_on_where_it_was(own_redis: RedisServer, colour: Colour) -> None:
    """One that works, too: through a restart with a disk, a flush of its scripts, and an emptied database."""
    own_redis.stop()
    own_redis.options = KEPT
    own_redis.start()
    context = Context(name="shop")
    options = RedisEventsOptions(url=own_redis.url, timeout=TIMEOUT, connect_timeout=TIMEOUT, liveness=2)
    plain = EventBus(RedisEvents(options), context=context)
    bus, seen = colour.voice(plain), Seen()
    bus.on("order.*", id="stock")(seen)
    await bus.emit("order.placed", 1)
    await seen.times(1)
    await bus.pause("stock")
    await bus.emit("order.placed", 2)
    await run_blocking(own_redis.stop)
    await run_blocking(begin, own_redis)
    await bus.resume("stock")
    await seen.times(2)
    tell(own_redis.url, "SCRIPT", "FLUSH")
    await bus.emit("order.placed", 3)
    await seen.times(3)
    tell(own_redis.url, "FLUSHALL")
    await bus.emit("order.placed", 4)
    await seen.times(4)
    assert await drained(bus)
    assert [1, 2, 3, 4] == seen.data
    await bus.close()
    context.runtime.stop()


async def test_errors_that_no_text_can_hold_are_kept_all_the_same(
    redis_url: str, colour: Colour, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be encoded in them is replaced."""
    caplog.set_level(logging.CRITICAL, logger="pilotis")  # pytest-xdist carries no such text home
    context = Context(name="shop")
    plain = EventBus(RedisEvents(RedisEventsOptions(url=redis_url)), context=context)
    bus = colour.voice(plain)
    bus.on("order.*", id="stock")(Seen(failures=1, error=ValueError("tea \ud800 \x00 gone")))
    await bus.emit("order.placed", 1)
    assert await drained(bus)
    [dead] = [it async for it in bus.dead_letters()]
    assert dead.error == "ValueError: tea ? \x00 gone"
    await bus.close()
    context.runtime.stop()
