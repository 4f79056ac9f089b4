"""Processes that compute a value once among them, on a real server: also when one dies, or the server does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from typing import Any, cast

import pytest
import redis
import redis.asyncio
from pilotis.bridge import drive
from pilotis.modules.cache import Cache
from pilotis.modules.cache.envelope import CLAIMED
from pilotis.providers import CacheCapability, Context
from pilotis.settings.model import CacheSettings
from pilotis_cache_redis import RedisCache, RedisCacheOptions
from pilotis_testing import Colour
from pilotis_testing.clock import until
from pilotis_testing.colours import together
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer

PROCESSES = 4
CALLERS = 25
KEY = "shop::k"
FACTORY_SECONDS = 0.3

_processes = multiprocessing.get_context("fork")


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


def started(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Run work in a process of its own."""
    process = _processes.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


def ask(url: str, colour: Colour, ready: Any, answers: Any) -> None:
    """Ask from many threads or tasks of this process at once."""
    voice: Any = colour.voice(cache_at(url))

    def compute() -> int:
        tell(url, "INCR", "calls")
        time.sleep(FACTORY_SECONDS)
        return os.getpid()

    async def callers() -> list[int]:
        return await together(*[lambda: voice.get_or_set("k", compute)] * CALLERS)

    async def run() -> None:
        await voice.get("none")
        ready.wait(30)
        answers.put(await callers())
        ready.wait(30)
        await voice.close()

    colour.run(run())


def compute_for_good(url: str, lease: float) -> None:
    """Begin to compute, and never end."""
    cache_at(url, lease).get_or_set("k", lambda: time.sleep(60))


def claim_of(url: str) -> bytes | None:
    """Return the claim that stands, if there is one."""
    value = tell(url, "GET", KEY)
    return value if value is not None and value[:1] == CLAIMED else None


def test_many_callers_of_many_processes_are_one_call(redis_url: str, colour: Colour) -> None:
    """All get the value of the one that computed, and those who wait send next to nothing."""
    ready, answers = _processes.Barrier(PROCESSES + 1), _processes.Queue()
    asking = [started(ask, redis_url, colour, ready, answers) for _ in range(PROCESSES)]
    ready.wait(30)
    tell(redis_url, "CONFIG", "RESETSTAT")
    given = [answer for _ in asking for answer in answers.get(timeout=30)]
    used = tell(redis_url, "INFO", "commandstats")
    ready.wait(30)
    for process in asking:
        process.join(30)
    assert PROCESSES * CALLERS == len(given)
    assert len(set(given)) == 1
    assert int(tell(redis_url, "GET", "calls")) == 1
    assert used["cmdstat_evalsha"]["calls"] <= 2 * PROCESSES
    assert used["cmdstat_subscribe"]["calls"] <= 2 * (PROCESSES - 1)


def test_a_killed_process_is_followed_within_its_lease(redis_url: str, make: Make) -> None:
    """By one of those who wait: not before its claim is over, and hardly later."""
    lease = 0.6
    dying = started(compute_for_good, redis_url, lease)
    until(lambda: claim_of(redis_url) is not None)
    caches = [make(lease=lease) for _ in range(3)]
    answers: list[str] = []

    def wait(cache: Cache) -> None:
        answers.append(cache.get_or_set("k", lambda: "next"))

    waiting = [threading.Thread(target=wait, args=(cache,)) for cache in caches]
    os.kill(dying.pid or 0, signal.SIGKILL)
    dying.join()
    begun = time.monotonic()
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join(10)
    assert answers == ["next"] * 3
    assert time.monotonic() - begun < lease + 0.3
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


def test_a_client_for_asyncio_alone_does_without(redis_url: str) -> None:
    """Listening needs a blocking one; then each process computes for itself."""
    provider = RedisCache(async_client=cast("Any", redis.asyncio.Redis).from_url(redis_url))
    assert CacheCapability.SINGLE_FLIGHT not in provider.capabilities
    assert CacheCapability.SINGLE_FLIGHT in RedisCache().capabilities
