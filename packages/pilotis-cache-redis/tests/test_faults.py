"""A Redis that restarts or hangs while a cache is in use."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pilotis.bridge import drive
from pilotis.errors import ConnectionFailedError, OperationTimeoutError
from pilotis.modules.cache import Cache
from pilotis.providers import Context
from pilotis.settings.model import CacheSettings
from pilotis_cache_redis import RedisCache, RedisCacheOptions
from pilotis_testing import Colour
from pilotis_testing.colours import together
from pilotis_testing.loads import under_load
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer


@pytest.fixture
def cache(own_redis: RedisServer, colour: Colour) -> Iterator[Any]:
    """A cache that is soon out of patience, and has no circuit breaker, speaking in the colour of the test."""
    context = Context(name="shop")
    provider = RedisCache(RedisCacheOptions(url=own_redis.url, timeout=1, connect_timeout=1))
    cache = Cache(provider, settings=CacheSettings(breaker_pause=0), context=context)
    yield colour.voice(cache)
    cache.close()
    context.runtime.stop()


async def test_a_restart_in_the_middle_of_a_load(
    cache: Any, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Reads miss and writes drop, nothing else fails but with a lost connection, and all is well afterwards."""
    caplog.set_level(logging.INFO, "pilotis.cache")
    assert await under_load(cache, own_redis.restart) == []
    await cache.set("k", "well")
    assert await cache.get("k") == "well"
    outages = [record.levelname for record in caplog.records]
    assert outages.count("WARNING") <= outages.count("INFO") + 1


async def test_a_server_that_hangs_is_a_miss_within_the_time_out(cache: Any, own_redis: RedisServer) -> None:
    """Verbs that cannot be honest raise; once the server goes on, nothing is mixed up."""
    await cache.set_many({"k": "right", "other": "wrong"})
    own_redis.pause()
    begun = time.monotonic()
    assert await cache.get("other", "default") == "default"
    assert await cache.get_or_set("other", lambda: 5) == 5
    with pytest.raises(OperationTimeoutError, match=r"cache provider 'RedisCache' \(redis://127"):
        await cache.increment("n")
    assert time.monotonic() - begun < 20
    own_redis.resume()
    assert ["right"] * 20 == await together(*[lambda: cache.get("k")] * 20)


async def test_a_server_that_is_gone_is_a_miss_until_it_is_back(cache: Any, own_redis: RedisServer) -> None:
    """Killed, not asked to end; the same cache goes on with the next one."""
    await cache.set("k", 1)
    own_redis.kill()
    assert await cache.get("k", "default") == "default"
    with pytest.raises(ConnectionFailedError):
        await cache.delete("k")
    own_redis.start()
    await cache.set("k", 2)
    assert await cache.get("k") == 2


async def test_a_full_server_drops_what_is_set(cache: Any, own_redis: RedisServer) -> None:
    """It is a cache: the application goes on, and reading works."""
    await cache.set("k", 1)
    tell(own_redis.url, "CONFIG", "SET", "maxmemory", "1")
    await cache.set("new", 1)
    assert await cache.get_many(["k", "new"]) == {"k": 1}
    assert cache.stats().errors == 1


async def test_entries_that_somebody_spoilt_are_computed_again(cache: Any, own_redis: RedisServer) -> None:
    """A list under a key, a list under a tag's number, and bytes that mean nothing."""

    async def ask() -> Any:
        return await cache.get_or_set("k", lambda: "new", tags=["t"])

    assert await ask() == "new"
    for command in (("RPUSH", "shop::k", "x"), ("RPUSH", "shop:#:t", "x"), ("SET", "shop::k", b"\xff\x00junk")):
        tell(own_redis.url, "DEL", command[1])
        tell(own_redis.url, *command)
        assert await ask() == "new"
        assert await cache.get("k") == "new"


def test_a_cache_that_is_opened_while_redis_is_down_recovers(own_redis: RedisServer) -> None:
    """Nobody has to start the application again."""
    own_redis.stop()
    cache = Cache(RedisCache(RedisCacheOptions(url=own_redis.url)), context=Context(name="shop"))
    assert cache.get("k", "default") == "default"
    own_redis.start()
    cache.set("k", 1)
    assert cache.get("k") == 1
    drive(cache.aclose())
