"""A backend that does not answer costs nothing after a while, and is found again by itself."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from pilotis.bridge import Latch, drive
from pilotis.errors import ConnectionFailedError, InvalidInputError, OperationTimeoutError
from pilotis.modules.cache import Cache
from pilotis.modules.cache.breaker import LONGEST_PROBE
from pilotis.providers import Context, Entry
from pilotis.settings.model import CacheSettings
from pilotis_cache_memory import MemoryCache
from pilotis_testing import Colour, ManualClock
from pilotis_testing.colours import soon

PAUSE = 4.0


class Shaky(MemoryCache):
    """A backend that fails in every way, and counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.fault: Exception | None = None
        self.gate = Latch()
        self.gate.set()
        self.asked = 0

    async def _fail(self) -> None:
        self.asked += 1
        await self.gate.wait(10)
        if self.fault is not None:
            raise self.fault

    async def ping(self) -> None:
        await self._fail()

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        await self._fail()
        return await super().read(keys)

    async def write(self, entries: Sequence[Entry], *, only_absent: bool = False) -> list[bool]:
        await self._fail()
        return await super().write(entries, only_absent=only_absent)

    async def remove(self, keys: Sequence[str]) -> int:
        await self._fail()
        return await super().remove(keys)


REFUSED = ConnectionRefusedError("connection refused")


@pytest.fixture
def backend() -> Shaky:
    """The backend."""
    return Shaky()


def made(backend: Shaky, context: Context, **settings: Any) -> Cache:
    return Cache(backend, settings=CacheSettings(breaker_pause=PAUSE, **settings), context=context)


@pytest.fixture
def cache(backend: Shaky, context: Context, colour: Colour) -> Iterator[Any]:
    """A cache whose breaker pauses for four seconds, speaking in the colour of the test."""
    cache = made(backend, context)
    drive(cache.aopen())
    backend.asked = 0
    yield colour.voice(cache)
    cache.close()


async def failing(cache: Any, backend: Shaky) -> None:
    """Have the breaker open."""
    backend.fault = REFUSED
    for _ in range(3):
        assert await cache.get("k", "default") == "default"
    backend.asked = 0


async def test_after_three_lost_connections_the_backend_is_not_asked(cache: Any, backend: Shaky) -> None:
    """By no verb: those that miss or drop do so at once, and those that raise say why."""
    await failing(cache, backend)
    assert await cache.get("k", "default") == "default"
    assert await cache.get_or_set("k", lambda: 5, tags=["t"]) == 5
    await cache.set("k", 1)
    with pytest.raises(ConnectionFailedError, match=r"not asked.*connection refused") as caught:
        await cache.delete("k")
    assert ("cache", "Shaky", "delete") == (caught.value.module, caught.value.provider, caught.value.operation)
    assert caught.value.retryable
    assert backend.asked == 0


async def test_a_success_in_between_begins_the_count_anew(cache: Any, backend: Shaky) -> None:
    """Now and then a connection is lost; that is no outage."""
    for fault in (REFUSED, REFUSED, None) * 4:
        backend.fault = fault
        await cache.get("k")
    assert (0, 0) == (cache.stats().outages, cache.stats().refused)


async def test_one_time_out_is_enough(cache: Any, backend: Shaky) -> None:
    """Each further one would cost as much."""
    backend.fault = OperationTimeoutError("too slow")
    await cache.get("k")
    await cache.get("k")
    assert (1, 1, 1) == (cache.stats().outages, cache.stats().refused, backend.asked)


async def test_errors_that_are_answers_are_no_outage(cache: Any, backend: Shaky) -> None:
    """Whoever answers is there."""
    backend.fault = InvalidInputError("no such thing")
    for _ in range(5):
        with pytest.raises(InvalidInputError):
            await cache.get("k")
    assert (0, 5) == (cache.stats().outages, backend.asked)


async def test_after_the_pause_one_call_tries(cache: Any, backend: Shaky, clock: ManualClock) -> None:
    """When it fails the next pause begins; when it succeeds all is as before."""
    await failing(cache, backend)
    for _ in range(2):
        clock.advance(PAUSE)
        await cache.get("k")
        await cache.get("k")
    assert (2, 1) == (backend.asked, cache.stats().outages)
    clock.advance(PAUSE)
    backend.fault = None
    await cache.set("k", "well")
    assert await cache.get("k") == "well"
    await failing(cache, backend)
    assert cache.stats().outages == 2


async def test_while_one_call_tries_the_others_do_not_wait(
    backend: Shaky, context: Context, clock: ManualClock
) -> None:
    """They miss at once; a call that is given up leaves the trying to the next one."""
    cache = made(backend, context)
    await failing_async(cache, backend)
    clock.advance(PAUSE)
    backend.fault, backend.gate = None, Latch()
    trying = asyncio.create_task(cache.aget("k"))
    await soon(lambda: backend.asked == 1)
    assert await cache.aget("k", "default") == "default"
    trying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trying
    backend.gate.set()
    await cache.aset("k", 1)
    assert await cache.aget("k") == 1
    await cache.aclose()


async def failing_async(cache: Cache, backend: Shaky) -> None:
    await cache.aopen()
    await failing(Colour.ASYNC.voice(cache), backend)


async def test_a_try_that_never_ends_is_not_waited_for(backend: Shaky, context: Context, clock: ManualClock) -> None:
    """After half a minute another call may try."""
    cache = made(backend, context)
    await failing_async(cache, backend)
    clock.advance(PAUSE)
    backend.fault, backend.gate = None, Latch()
    trying = asyncio.create_task(cache.aget("k"))
    await soon(lambda: backend.asked == 1)
    clock.advance(LONGEST_PROBE)
    again = asyncio.create_task(cache.aget("k"))
    await soon(lambda: backend.asked == 2)
    backend.gate.set()
    assert [None, None] == [await trying, await again]
    await cache.aclose()


async def test_a_cache_that_was_never_open_is_refused_as_well(
    backend: Shaky, context: Context, clock: ManualClock, colour: Colour
) -> None:
    """Opening would cost a time-out, too; by name, and by ping, it is always tried."""
    cache = colour.voice(made(backend, context))
    await failing(cache, backend)
    await cache.get("k")
    assert backend.asked == 0
    for tried in (cache.open, cache.ping):
        with pytest.raises(ConnectionFailedError):
            await tried()
    assert backend.asked == 2
    backend.fault = None
    await cache.ping()
    await cache.set("k", 1)
    assert await cache.get("k") == 1
    await cache.close()


async def test_an_outage_is_logged_once(
    cache: Any, backend: Shaky, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """When it begins, and when it is over, however many calls and attempts there are between."""
    caplog.set_level(logging.INFO, "pilotis.cache")
    await failing(cache, backend)
    for _ in range(3):
        clock.advance(PAUSE)
        await cache.set("k", 1)
        await cache.get("k")
    backend.fault = None
    clock.advance(PAUSE)
    await cache.get("k")
    assert ["WARNING", "INFO"] == [record.levelname for record in caplog.records]


async def test_with_on_error_raise_readers_are_told(backend: Shaky, context: Context, colour: Colour) -> None:
    """They too, at once."""
    cache = colour.voice(made(backend, context, on_error="raise"))
    await cache.open()
    backend.fault = OperationTimeoutError("too slow")
    with pytest.raises(OperationTimeoutError):
        await cache.get("k")
    with pytest.raises(ConnectionFailedError, match="not asked"):
        await cache.get("k")
    await cache.close()


async def test_a_pause_of_zero_asks_always(backend: Shaky, context: Context, colour: Colour) -> None:
    """There is no breaker then."""
    cache = colour.voice(Cache(backend, settings=CacheSettings(breaker_pause=0), context=context))
    await cache.open()
    backend.fault, backend.asked = OperationTimeoutError("too slow"), 0
    for _ in range(5):
        await cache.get("k")
    assert (5, 0) == (backend.asked, cache.stats().outages)
    await cache.close()


async def test_a_refused_call_costs_microseconds(cache: Any, backend: Shaky) -> None:
    """A thousand of them, in either colour, far less than one time-out."""
    await failing(cache, backend)
    begun = time.perf_counter()
    for _ in range(1000):
        await cache.get("k")
    assert time.perf_counter() - begun < 1


def test_a_child_process_begins_anew(backend: Shaky, context: Context) -> None:
    """It has connections of its own, and nobody in it is trying."""
    cache = made(backend, context)
    drive(failing_async(cache, backend))
    cache.breaker.after_fork()
    backend.fault = None
    drive(cache.aset("k", 1))
    assert drive(cache.aget("k")) == 1
    drive(cache.aclose())
