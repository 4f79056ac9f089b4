"""A Redis that is restarted, frozen, killed, flushed or spoilt: nothing hangs, and all recovers."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pilotis.clock import SystemClock
from pilotis.errors import ConnectionFailedError, InvalidInputError, OperationTimeoutError
from pilotis.modules.cache import Cache
from pilotis.providers import Context
from pilotis.settings.model import CacheSettings
from pilotis_cache_redis import RedisCache, RedisCacheOptions
from pilotis_testing import Colour
from pilotis_testing.colours import soon, together
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer

TIMEOUT = 0.2
PAUSE = 0.1
DAY = 86_400
SECRET = "a secret of some length"


class JumpingClock(SystemClock):
    """The machine's clocks, of which that on the wall is set by hand."""

    jumped = 0.0

    def time(self) -> float:
        return super().time() + self.jumped


@pytest.fixture
def wall() -> JumpingClock:
    """The clock."""
    return JumpingClock()


@pytest.fixture
def cache(own_redis: RedisServer, colour: Colour, wall: JumpingClock) -> Iterator[Any]:
    """A cache that is soon out of patience, and soon tries again, speaking in the colour of the test."""
    context = Context(name="shop", clock=wall)
    provider = RedisCache(RedisCacheOptions(url=own_redis.url, timeout=TIMEOUT, connect_timeout=TIMEOUT, reconnects=0))
    settings = CacheSettings(breaker_pause=PAUSE, secret=SECRET, compress_above=200)  # pyright: ignore[reportArgumentType] - made one
    cache = Cache(provider, settings=settings, context=context)
    yield colour.voice(cache)
    cache.close()
    context.runtime.stop()


async def forever_seven() -> int:
    return 7


def sevens(keys: list[str]) -> dict[str, int]:
    return dict.fromkeys(keys, 7)


MIXED: dict[str, Callable[[Any], Any]] = {
    "get": lambda cache: cache.get("k"),
    "get_many": lambda cache: cache.get_many(["k", "none"]),
    "set": lambda cache: cache.set("k", 7, tags=["t"]),
    "set_many": lambda cache: cache.set_many({"k": 7, "other": 7}),
    "get_or_set": lambda cache: cache.get_or_set("computed", forever_seven, tags=["t"]),
    "stale": lambda cache: cache.get_or_set("stale", forever_seven, ttl=0.01, stale_for=60),
    "get_or_set_many": lambda cache: cache.get_or_set_many(["k", "computed", "more"], sevens),
    "add": lambda cache: cache.add("added", 7),
    "increment": lambda cache: cache.increment("n", ttl=60),
    "touch": lambda cache: cache.touch("k", 60),
    "delete": lambda cache: cache.delete("k"),
    "invalidate": lambda cache: cache.invalidate("comp*"),
    "invalidate_tags": lambda cache: cache.invalidate_tags("t"),
    "clear": lambda cache: cache.namespace("inner").clear(),
}
STRICT = ("add", "increment", "touch", "delete", "invalidate", "invalidate_tags", "clear")
RIGHT: tuple[object, ...] = (None, True, False, 7, {}, {"k": 7}, {"k": 7, "computed": 7, "more": 7})


async def test_a_restart_in_the_middle_of_mixed_verbs(cache: Any, own_redis: RedisServer) -> None:
    """No answer is wrong, no verb hangs, those that miss raise nothing, and the others a typed error."""
    is_over, begun = threading.Event(), threading.Event()
    wrong: list[object] = []

    async def load() -> None:
        while not is_over.is_set():
            for verb in random.sample(list(MIXED), len(MIXED)):
                started = time.monotonic()
                try:
                    answer = await MIXED[verb](cache)
                    if verb not in STRICT and answer not in RIGHT:
                        wrong.append((verb, answer))
                except (ConnectionFailedError, OperationTimeoutError) as error:
                    if verb not in STRICT:
                        wrong.append((verb, error))
                if time.monotonic() - started > 5:
                    wrong.append((verb, "hangs"))
            begun.set()

    def restart() -> None:
        begun.wait(5)
        own_redis.restart()
        time.sleep(PAUSE * 2)
        is_over.set()

    restarting = threading.Thread(target=restart)
    restarting.start()
    await together(*[load] * 4)
    restarting.join()
    assert wrong == []
    await recovered(cache)


async def recovered(cache: Any) -> None:
    """Wait until the breaker lets calls pass, and see that values are kept."""
    deadline = time.monotonic() + 5
    while await cache.get("well") is None and time.monotonic() < deadline:
        await cache.set("well", "well")
    assert await cache.get("well") == "well"
    for verb in MIXED.values():
        await verb(cache)


async def test_a_frozen_server_costs_one_time_out(cache: Any, own_redis: RedisServer) -> None:
    """Not one for each call: reads miss and others raise at once; when it goes on, so does the cache."""
    await cache.set_many({"mine": "right", "theirs": "wrong"})
    own_redis.pause()
    started = time.monotonic()
    assert await cache.get("theirs", "default") == "default"
    assert TIMEOUT <= time.monotonic() - started < TIMEOUT * 4
    started = time.monotonic()
    assert await cache.get_or_set("theirs", forever_seven) == 7
    with pytest.raises(ConnectionFailedError, match="not asked"):
        await cache.increment("n")
    for _ in range(50):
        await cache.get("mine")
    assert time.monotonic() - started < TIMEOUT * 4  # some of it may be the call that tries
    own_redis.resume()
    await recovered(cache)
    assert ["right"] * 20 == await together(*[lambda: cache.get("mine")] * 20)
    assert cache.stats().outages == 1


async def test_a_dead_server_costs_nothing_until_it_is_back(cache: Any, own_redis: RedisServer) -> None:
    """Nobody has to start the application again."""
    await cache.set("k", 1)
    own_redis.kill()
    for _ in range(10):
        assert await cache.get("k", "default") == "default"
    with pytest.raises(ConnectionFailedError):
        await cache.delete("k")
    stats = cache.stats()
    assert (1, True) == (stats.outages, stats.refused > 0)
    own_redis.start()
    await recovered(cache)


async def test_scripts_that_are_flushed_are_loaded_again(cache: Any, own_redis: RedisServer) -> None:
    """In the middle of counting: each call counts once."""

    async def count() -> None:
        for turn in range(20):
            if turn % 5 == 0:
                tell(own_redis.url, "SCRIPT", "FLUSH")
            await cache.increment("n", ttl=60)
            assert await cache.get_or_set(f"k{turn}", forever_seven) == 7

    await together(*[count] * 4)
    assert await cache.get("n") == 80


def spoil(server: RedisServer, key: str) -> None:
    """Put a list under a key of ours."""
    tell(server.url, "DEL", f"shop::{key}")
    tell(server.url, "RPUSH", f"shop::{key}", "x")


async def test_what_is_no_entry_of_ours_is_no_obstacle(cache: Any, own_redis: RedisServer) -> None:
    """A list under our key is a miss for who reads, is replaced by who writes, and an error for who counts."""
    for verb, call in MIXED.items():
        for key in ("k", "computed", "stale", "more", "added", "other"):
            spoil(own_redis, key)
        answer = await call(cache)
        assert verb in STRICT or answer in RIGHT, verb
    spoil(own_redis, "k")
    assert [None, True, 7] == [await cache.get("k"), await cache.add("k", 7), await cache.get("k")]
    spoil(own_redis, "n")
    with pytest.raises(InvalidInputError):
        await cache.increment("n")
    assert cache.stats().outages == 0


async def test_a_spoilt_entry_is_computed_again(cache: Any, own_redis: RedisServer) -> None:
    """Whatever was changed in it: it is signed."""
    long = "lamp " * 100

    async def ask() -> Any:
        return await cache.get_or_set("long", lambda: long, tags=["t"])

    assert await ask() == long
    stored: bytes = tell(own_redis.url, "GET", "shop::long")
    for place in range(0, len(stored), 7):
        tell(own_redis.url, "SETRANGE", "shop::long", place, bytes([stored[place] ^ 0x55]))
        calls = cache.stats().factory_calls
        assert await ask() == long
        assert cache.stats().factory_calls == calls + 1
    assert await cache.get("long") == long


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["ahead", "back"])
async def test_the_wall_clock_may_jump(cache: Any, wall: JumpingClock, jump: float) -> None:
    """Plain ttls do not notice, what is watched for freshness is computed anew at most once, and nothing waits."""
    await cache.set("plain", 1, ttl=60)
    await cache.get_or_set("watched", forever_seven, ttl=60, stale_for=60)
    wall.jumped = jump
    started = time.monotonic()
    for _ in range(3):
        assert await cache.get("plain") == 1
        assert await cache.get_or_set("watched", forever_seven, ttl=60, stale_for=60) == 7
    await soon(lambda: not cache._filler.refreshes.under_way)
    assert cache.stats().factory_calls <= 2
    assert time.monotonic() - started < 5
