"""A backend that comes and goes, and closing while work is under way."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest
from pilotis.bridge import Latch
from pilotis.errors import ClosedError, ConnectionFailedError, InvalidInputError
from pilotis.modules.cache import Cache
from pilotis.providers import Context, Entry
from pilotis.settings.model import CacheSettings
from pilotis_cache_memory import MemoryCache
from pilotis_testing import Colour, ManualClock
from pilotis_testing.clock import until
from pilotis_testing.colours import soon


class Flaky(MemoryCache):
    """A backend whose connection can be cut."""

    is_down = False

    def _check(self) -> None:
        if self.is_down:
            raise ConnectionRefusedError("connection refused")

    async def ping(self) -> None:
        self._check()

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        self._check()
        return await super().read(keys)

    async def write(self, entries: Sequence[Entry], *, only_absent: bool = False) -> list[bool]:
        self._check()
        return await super().write(entries, only_absent=only_absent)

    async def remove(self, keys: Sequence[str]) -> int:
        self._check()
        return await super().remove(keys)

    async def count(self, key: str, by: int, ttl: float | None) -> int:
        self._check()
        return await super().count(key, by, ttl)

    async def expire(self, key: str, ttl: float | None) -> bool:
        self._check()
        return await super().expire(key, ttl)


@pytest.fixture
def backend() -> Flaky:
    """The backend."""
    return Flaky()


def cache_on(backend: Flaky, context: Context, colour: Colour, on_error: Literal["miss", "raise"] = "miss") -> Any:
    settings = CacheSettings(on_error=on_error, breaker_pause=0)
    return colour.voice(Cache(backend, settings=settings, context=context))


def fives(keys: list[str]) -> dict[str, int]:
    return dict.fromkeys(keys, 5)


FORGIVING: dict[str, Callable[[Any], Any]] = {
    "get": lambda cache: cache.get("k", "default"),
    "get_many": lambda cache: cache.get_many(["k"]),
    "set": lambda cache: cache.set("k", 1, tags=["t"]),
    "set_many": lambda cache: cache.set_many({"k": 1}),
    "get_or_set": lambda cache: cache.get_or_set("k", lambda: 5, tags=["t"]),
    "get_or_set_many": lambda cache: cache.get_or_set_many(["k"], fives),
}
ANSWERS: dict[str, object] = {
    "get": "default",
    "get_many": {},
    "set": None,
    "set_many": None,
    "get_or_set": 5,
    "get_or_set_many": {"k": 5},
}
STRICT: dict[str, Callable[[Any], Any]] = {
    "add": lambda cache: cache.add("k", 1),
    "increment": lambda cache: cache.increment("k"),
    "touch": lambda cache: cache.touch("k", 1),
    "delete": lambda cache: cache.delete("k"),
    "invalidate": lambda cache: cache.invalidate("k"),
    "invalidate a pattern": lambda cache: cache.invalidate("k*"),
    "invalidate_tags": lambda cache: cache.invalidate_tags("t"),
}


@pytest.mark.parametrize("opened", [True, False])
@pytest.mark.parametrize("verb", FORGIVING)
async def test_while_the_backend_is_down_reads_miss_and_writes_drop(
    backend: Flaky, context: Context, colour: Colour, verb: str, opened: bool
) -> None:
    """Also where it was down from the start; once it is back, all is as before."""
    cache = cache_on(backend, context, colour)
    if opened:
        await cache.open()
    backend.is_down = True
    assert ANSWERS[verb] == await FORGIVING[verb](cache)
    assert cache.stats().errors > 0
    backend.is_down = False
    assert await cache.get("k") is None
    await cache.set("k", 3)
    assert await cache.get("k") == 3
    await cache.close()


@pytest.mark.parametrize("verb", STRICT)
async def test_while_the_backend_is_down_the_other_verbs_raise(
    backend: Flaky, context: Context, colour: Colour, verb: str
) -> None:
    """Nothing honest could be answered."""
    cache = cache_on(backend, context, colour)
    await cache.set("kk", 1)
    backend.is_down = True
    with pytest.raises(ConnectionFailedError, match="cache provider 'Flaky'"):
        await STRICT[verb](cache)
    assert cache.stats().errors == 0
    backend.is_down = False
    await cache.close()


@pytest.mark.parametrize("verb", FORGIVING)
async def test_errors_are_raised_where_the_settings_say_so(
    backend: Flaky, context: Context, colour: Colour, verb: str
) -> None:
    """`on_error = "raise"`."""
    cache = cache_on(backend, context, colour, "raise")
    await cache.open()
    backend.is_down = True
    with pytest.raises(ConnectionFailedError):
        await FORGIVING[verb](cache)
    backend.is_down = False
    await cache.close()


async def test_an_outage_is_logged_once(
    backend: Flaky, context: Context, colour: Colour, caplog: pytest.LogCaptureFixture
) -> None:
    """When it begins, and when it is over."""
    caplog.set_level(logging.INFO, "pilotis.cache")
    cache = cache_on(backend, context, colour)
    for _ in range(2):
        backend.is_down = True
        for _ in range(3):
            await cache.get("k")
            await cache.set("k", 1)
        backend.is_down = False
        await cache.get("k")
        await cache.get("k")
    assert ["WARNING", "INFO"] * 2 == [record.levelname for record in caplog.records]
    assert {"pilotis.cache.Flaky"} == {record.name for record in caplog.records}
    await cache.close()


async def test_a_value_that_is_too_long_is_refused(context: Context, colour: Colour) -> None:
    """With the setting that says so."""
    cache = colour.voice(Cache(MemoryCache(), settings=CacheSettings(max_value_bytes=10), context=context))
    await cache.set("k", "x" * 8)
    with pytest.raises(InvalidInputError, match="max_value_bytes"):
        await cache.set("k", "x" * 9)
    with pytest.raises(InvalidInputError, match="max_value_bytes"):
        await cache.get_or_set("other", lambda: "x" * 100)
    await cache.close()


async def test_a_value_that_is_too_long_is_a_miss_where_the_settings_say_so(context: Context, colour: Colour) -> None:
    """It goes to its caller, nothing is kept, also not the value of before; only `add` raises."""
    settings = CacheSettings(max_value_bytes=10, on_too_long="miss")
    cache = colour.voice(Cache(MemoryCache(), settings=settings, context=context))
    long = "x" * 100

    def load(keys: list[str]) -> dict[str, object]:
        return {key: long if key == "a" else 2 for key in keys}

    await cache.set_many({"k": "old", "made": "old"})
    await cache.set_many({"k": long, "short": 1})
    assert long == await cache.get_or_set("k", lambda: long)
    await cache.set("made", long)
    assert {"a": long, "b": 2} == await cache.get_or_set_many(["a", "b"], load)
    with pytest.raises(InvalidInputError, match="max_value_bytes"):
        await cache.add("added", long)
    assert {"short": 1, "b": 2} == await cache.get_many(["k", "made", "short", "a", "b", "added"])
    stats = cache.stats()
    assert (4, 4) == (stats.too_long, stats.sets)
    await cache.close()


async def test_what_is_compressed_need_not_be_short(context: Context, colour: Colour) -> None:
    """What counts is the stored form."""
    settings = CacheSettings(max_value_bytes=100, compress_above=50)
    cache = colour.voice(Cache(MemoryCache(), settings=settings, context=context))
    await cache.set("k", "x" * 5000)
    assert "x" * 5000 == await cache.get("k")
    await cache.close()


async def test_settings_say_the_namespace_and_the_default_ttl(
    context: Context, colour: Colour, clock: ManualClock
) -> None:
    """A default of zero stores nothing; None keeps for good."""
    provider = MemoryCache()
    zero = colour.voice(Cache(provider, settings=CacheSettings(default_ttl=0, namespace="a"), context=context))
    good = colour.voice(Cache(provider, settings=CacheSettings(default_ttl=None, namespace="b"), context=context))
    await zero.set("k", 1)
    await good.set("k", 2)
    clock.advance(1e6)
    assert [None, 2] == [await zero.get("k"), await good.get("k")]
    assert await provider.read(["pilotis:b:k"]) == [b"2"]
    await good.close()


def test_closing_ends_what_runs_in_the_background(context: Context) -> None:
    """A refresh that hangs does not hold it up, and who waits for a computation is told."""
    cache = Cache(MemoryCache(), context=context)
    begun, never = Latch(), Latch()
    outcome: list[BaseException] = []

    async def hang() -> None:
        begun.set()
        await never.wait()

    def ask() -> None:
        try:
            cache.get_or_set("k", hang, timeout=60)
        except ClosedError as error:
            outcome.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    until(begun.is_set)
    cache.close()
    asking.join(5)
    assert ["the cache was closed while 'k' was computed"] == [str(error) for error in outcome]


async def test_an_async_factory_stays_on_its_loop_in_the_background(context: Context, clock: ManualClock) -> None:
    """Its own locks and clients belong there."""
    cache = Cache(MemoryCache(), context=context)
    loops: list[object] = []

    async def factory() -> int:
        loops.append(asyncio.get_running_loop())
        return len(loops)

    for _ in range(2):
        await cache.aget_or_set("k", factory, ttl=1, stale_for=100)
        clock.advance(2)
    await soon(lambda: cache.stats().sets == 2)
    assert await cache.aget_or_set("timed", factory, timeout=60) == 3
    assert {asyncio.get_running_loop()} == set(loops)
    await cache.aclose()


def test_threads_and_tasks_share_one_factory_call(context: Context) -> None:
    """Of two event loops and of plain threads."""
    cache = Cache(MemoryCache(), context=context)
    everyone = threading.Barrier(6, timeout=10)
    calls: list[int] = []
    results: list[int] = []
    gate = threading.Event()

    def factory() -> int:
        calls.append(1)
        gate.wait(5)
        return 7

    async def tasks() -> None:
        results.extend(await asyncio.gather(*(cache.aget_or_set("k", factory) for _ in range(10))))

    def plain() -> None:
        everyone.wait()
        results.append(cache.get_or_set("k", factory))

    def looping() -> None:
        everyone.wait()
        asyncio.run(tasks())

    threads = [threading.Thread(target=target) for target in (plain, plain, plain, looping, looping)]
    for thread in threads:
        thread.start()
    everyone.wait()
    until(lambda: bool(calls))
    gate.set()
    for thread in threads:
        thread.join(10)
    assert ([1], [7] * 23) == (calls, results)
    cache.close()


async def test_a_stand_in_answers_for_namespaces_and_functions_too(context: Context, colour: Colour) -> None:
    """Those that were at hand before, and those that are made meanwhile."""
    real, other = Cache(MemoryCache(), context=context), Cache(MemoryCache(), context=Context(clock=context.clock))
    cache, inner = colour.voice(real), colour.voice(real.namespace("a").namespace("b"))
    await inner.set("k", "real")
    real.substitute(other)
    assert await inner.get("k") is None
    await inner.set("k", "stand-in")
    assert await cache.namespace("a").namespace("b").get("k") == "stand-in"
    assert (1, 1) == (real.stats().sets, other.stats().sets)
    real.substitute(None)
    assert await inner.get("k") == "real"
    await cache.close()
    await colour.voice(other).close()
