"""Processes that compute a value once among them, on a real server: also when one dies, or the server does."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import redis
import redis.asyncio
from pilotis.bridge import drive
from pilotis.modules.cache import Cache
from pilotis.providers import CLAIM_MARK, CacheCapability, Context
from pilotis.settings.model import CacheSettings
from pilotis_cache_redis import RedisCache, RedisCacheOptions
from pilotis_testing import Colour
from pilotis_testing.clock import until
from pilotis_testing.processes import followed, stampede
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer

PROCESSES = 4
CALLERS = 25
KEY = "shop::k"
FACTORY_SECONDS = 0.3
MARK = CLAIM_MARK * 25


def cache_at(url: str, lease: float = 30) -> Cache:
    """Return a cache as a process of its own would have it."""
    settings = CacheSettings(lease=lease)
    return Cache(RedisCache(RedisCacheOptions(url=url)), settings=settings, context=Context(name="shop"))


Make = Callable[..., Cache]


@pytest.fixture
def make(redis_url: str) -> Iterator[Make]:
    """What makes caches, each as another process would have it, and closes them after the test."""
    made: list[Cache] = []

    def add(url: str = redis_url, lease: float = 30) -> Cache:
        made.append(cache_at(url, lease))
        return made[-1]

    yield add
    for cache in made:
        drive(cache.aclose())
        cache.context.runtime.stop()


def claim_of(url: str) -> bytes | None:
    """Return the claim that stands, if there is one."""
    value = tell(url, "GET", KEY)
    return value if value is not None and value[:1] == CLAIM_MARK else None


@pytest.fixture
def compute(redis_url: str) -> Callable[[], str]:
    """A slow factory that counts its calls, in whatever process, on the server, and returns where it ran."""

    def compute() -> str:
        tell(redis_url, "INCR", "calls")
        time.sleep(FACTORY_SECONDS)
        return f"by {os.getpid()}"

    return compute


def test_many_callers_of_many_processes_are_one_call(
    redis_url: str, compute: Callable[[], str], colour: Colour
) -> None:
    """All get the value of the one that computed, and those who wait send next to nothing."""

    tell(redis_url, "CONFIG", "RESETSTAT")
    given = stampede(lambda: cache_at(redis_url), colour, compute, processes=PROCESSES, callers=CALLERS)
    used = tell(redis_url, "INFO", "commandstats")
    assert PROCESSES * CALLERS == len(given)
    assert len(set(given)) == 1
    assert int(tell(redis_url, "GET", "calls")) == 1
    assert used["cmdstat_evalsha"]["calls"] < CALLERS  # some for each process, and some more where a machine is slow
    assert used["cmdstat_subscribe"]["calls"] < CALLERS


def test_a_stale_value_is_refreshed_by_one_process(
    redis_url: str, compute: Callable[[], str], make: Make, colour: Colour
) -> None:
    """Readers in all of them are served the old value meanwhile."""
    make().get_or_set("k", lambda: "old", ttl=0.001, stale_for=60)
    time.sleep(0.01)
    given = stampede(lambda: cache_at(redis_url), colour, compute, processes=PROCESSES, callers=CALLERS, stale_for=60)
    assert PROCESSES * CALLERS == len(given)
    assert given.count("old") > CALLERS  # who is late may get the new one
    assert int(tell(redis_url, "GET", "calls")) == 1


def test_a_killed_process_is_followed_within_its_lease(redis_url: str, make: Make) -> None:
    """By one of those who wait: when its claim is over, and hardly later."""
    lease = 0.6
    caches = [make(lease=lease) for _ in range(3)]
    answers, lasted = followed(lambda: cache_at(redis_url, lease), caches, lambda: claim_of(redis_url) is not None)
    assert answers == ["next"] * 3
    assert lasted < lease + 1.5
    assert sum(cache.stats().factory_calls for cache in caches) == 1


def test_a_claim_lasts_as_long_as_its_owner_computes(redis_url: str, make: Make) -> None:
    """Longer than the lease, if need be; what was computed is kept."""
    cache = make(lease=0.15)
    marks: set[bytes | None] = set()

    def compute() -> str:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            marks.add(claim_of(redis_url))
            time.sleep(0.01)
        return "late"

    assert cache.get_or_set("k", compute) == "late"
    assert len(marks - {None}) == 1
    assert None not in marks
    assert cache.get("k") == "late"


async def test_a_factory_that_hangs_holds_up_others_for_a_lease(redis_url: str, make: Make, colour: Colour) -> None:
    """Then they compute for themselves; the claim, and so what is kept, stays its owner's."""
    hanging, other = make(lease=0.3), make(lease=0.3)
    gate, voice = threading.Event(), colour.voice(other)
    thread = threading.Thread(target=lambda: hanging.get_or_set("k", lambda: gate.wait(10) and "first"))
    thread.start()
    until(lambda: claim_of(redis_url) is not None)
    assert await voice.get_or_set("k", lambda: "own") == "own"
    assert await voice.get("k") is None
    gate.set()
    thread.join(10)
    assert await voice.get("k") == "first"


async def test_a_restart_while_others_wait(own_redis: RedisServer, make: Make, colour: Colour) -> None:
    """Claims are gone with it, and so is the wait: all get a value, and what is asked afterwards is kept."""
    first: Any = colour.voice(make(own_redis.url))
    second: Any = colour.voice(make(own_redis.url))

    def compute() -> str:
        until(lambda: tell(own_redis.url, "PUBSUB", "CHANNELS", "shop*") != [])
        own_redis.restart()
        return "first"

    async def wait() -> Any:
        until(lambda: claim_of(own_redis.url) is not None)
        return await second.get_or_set("k", lambda: "second")

    begun = time.monotonic()
    answers = await _on_threads(lambda: first.get_or_set("k", compute), wait, colour)
    assert answers[0] == "first"
    assert answers[1] in ("first", "second")
    assert time.monotonic() - begun < 10
    assert await second.get_or_set("k", lambda: "third") in ("first", "second", "third")
    assert await first.get("k") == await second.get("k")
    assert await first.get("k") is not None


async def _on_threads(ask_first: Callable[[], Any], wait: Callable[[], Any], colour: Colour) -> list[Any]:
    """Run both, each with a thread, and under asyncio a loop, of its own."""
    answers: list[Any] = [None, None]

    def run(index: int, action: Callable[[], Any]) -> None:
        async def work() -> None:
            answers[index] = await action()

        colour.run(work())

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate((ask_first, wait))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return answers


def test_a_flushed_script_is_no_trouble(redis_url: str, make: Make) -> None:
    """Claims and settlements are sent again."""
    cache = make()
    assert cache.get_or_set("a", lambda: tell(redis_url, "SCRIPT", "FLUSH") and 1) == 1
    tell(redis_url, "SCRIPT", "FLUSH")
    assert cache.get_or_set_many(["b", "c"], lambda keys: dict.fromkeys(keys, 2)) == {"b": 2, "c": 2}
    assert cache.get_many(["a", "b", "c"]) == {"a": 1, "b": 2, "c": 2}


def test_a_miss_is_three_round_trips(redis_url: str, make: Make) -> None:
    """Looking, claiming and storing; many keys as well as one, and what is out of date as well as what is absent."""
    cache = make()
    cache.get_or_set("warm", lambda: 1, tags=["t"])
    cache.invalidate_tags("t")
    misses: list[Callable[[], object]] = [
        lambda: cache.get_or_set("a", lambda: 1),
        lambda: cache.get_or_set("warm", lambda: 1, tags=["t"]),
        lambda: cache.get_or_set_many(["b", "c"], lambda keys: dict.fromkeys(keys, 1)),
    ]
    assert [3, 3, 3] == [_reads(redis_url, miss) for miss in misses]


def _reads(url: str, ask: Callable[[], object]) -> int:
    """Return how often the server read from a client that asked it something."""
    with cast("Any", redis.Redis).from_url(url) as asking:
        before = _total(asking)
        ask()
        return _total(asking) - before - 1


def _total(asking: Any) -> int:
    return asking.info("stats")["total_reads_processed"]


def test_a_client_for_asyncio_alone_polls(redis_url: str) -> None:
    """Listening needs a blocking one; without it, waiting is asking, and the rest is as always."""
    other = RedisCache(RedisCacheOptions(url=redis_url))

    def settle() -> None:
        drive(other.settle({"k": None}, MARK))

    async def wait() -> None:
        client = cast("Any", redis.asyncio.Redis).from_url(redis_url)
        provider = RedisCache(async_client=client)
        assert CacheCapability.SINGLE_FLIGHT in provider.capabilities
        assert CacheCapability.PUSH not in provider.capabilities
        await provider.claim({"k": None}, MARK, 10)
        assert await provider.await_change("k", MARK, 0.05) is False
        threading.Timer(0.02, settle).start()
        assert await provider.await_change("k", MARK, 10) is True
        await client.aclose()

    assert CacheCapability.PUSH in other.capabilities
    asyncio.run(wait())
    drive(other.close())
