"""What a cache on Redis costs, beside its peers: python benchmarks/cache_redis.py [redis://host:port/0]

A hit by `get`, a `set` and a hit by `get_or_set`, one after the other on one connection, with the same value. The limit
is redis-py itself with the same encoding (MessagePack by msgspec); peers run as they come, with their own. All
candidates take turns in each round, in another order each time; medians and their ratios to the limit are printed.
Without a URL a Redis is started from the machine's binary.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiocache  # pyright: ignore[reportMissingTypeStubs]
import aiocache.serializers  # pyright: ignore[reportMissingTypeStubs]
import cashews
import dogpile.cache
import msgspec
import redis
import redis.asyncio
from pilotis import Cache
from pilotis.providers import Context
from pilotis_cache_redis import RedisCache, RedisCacheOptions
from pilotis_testing.servers import RedisServer

ROUNDS = 41
CALLS = 100
TTL = 300
LARGEST = 1.15
"""What Pilotis may cost, as a multiple of the limit."""
OURS, LIMIT = "pilotis", "redis-py"
KEY = "product:17"
VALUE = {"id": 17, "name": "lamp", "price": 12.5, "tags": ["new", "light"]}

encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode

Verbs = Mapping[str, Callable[[], Any]]
"""The verbs of a candidate, by name."""
AsyncVerbs = Mapping[str, Callable[[], Awaitable[Any]]]
Times = dict[tuple[str, str], list[float]]
"""Seconds of each round, by candidate and verb."""


def factory() -> Any:
    return VALUE


def host_of(url: str) -> str:
    return urlsplit(url).hostname or "localhost"


def port_of(url: str) -> int:
    return urlsplit(url).port or 6379


# Blocking


def with_pilotis(cache: Cache) -> Verbs:
    return {
        "set": lambda: cache.set(KEY, VALUE, ttl=TTL),
        "get": lambda: cache.get(KEY),
        "get_or_set": lambda: cache.get_or_set(KEY, factory, ttl=TTL),
    }


def with_redis_py(url: str) -> Verbs:
    client: Any = redis.Redis(host=host_of(url), port=port_of(url), protocol=2)

    def get() -> Any:
        return decode(client.execute_command("GET", "raw:" + KEY))

    return {
        "set": lambda: client.execute_command("SET", "raw:" + KEY, encode(VALUE), "PX", TTL * 1000),
        "get": get,
        "get_or_set": get,
    }


def with_dogpile(url: str) -> Verbs:
    region: Any = dogpile.cache.make_region().configure(
        "dogpile.cache.redis", arguments={"url": url}, expiration_time=TTL
    )
    return {
        "set": lambda: region.set("dogpile:" + KEY, VALUE),
        "get": lambda: region.get("dogpile:" + KEY),
        "get_or_set": lambda: region.get_or_create("dogpile:" + KEY, factory),
    }


def blocking_times(candidates: Mapping[str, Verbs]) -> Times:
    times: Times = {(name, verb): [] for name, verbs in candidates.items() for verb in verbs}
    for verbs in candidates.values():
        verbs["set"]()
        assert VALUE == verbs["get"]() == verbs["get_or_set"]()
    for _ in range(ROUNDS):
        for name, verb in random.sample(list(times), len(times)):
            call = candidates[name][verb]
            begun = time.perf_counter()
            for _ in range(CALLS):
                call()
            times[name, verb].append(time.perf_counter() - begun)
    return times


# Under an event loop


def with_async_pilotis(cache: Cache) -> AsyncVerbs:
    return {
        "set": lambda: cache.aset(KEY, VALUE, ttl=TTL),
        "get": lambda: cache.aget(KEY),
        "get_or_set": lambda: cache.aget_or_set(KEY, factory, ttl=TTL),
    }


def with_async_redis_py(client: Any) -> AsyncVerbs:
    async def get() -> Any:
        return decode(await client.execute_command("GET", "raw:" + KEY))

    return {
        "set": lambda: client.execute_command("SET", "raw:" + KEY, encode(VALUE), "PX", TTL * 1000),
        "get": get,
        "get_or_set": get,
    }


def with_cashews(cache: Any) -> AsyncVerbs:
    return {
        "set": lambda: cache.set("cashews:" + KEY, VALUE, expire=TTL),
        "get": lambda: cache.get("cashews:" + KEY),
        "get_or_set": lambda: cache.get_or_set("cashews:" + KEY, factory, expire=TTL),
    }


def with_aiocache(cache: Any) -> AsyncVerbs:
    """Return what it has: nothing that computes what is missing, but by a decorator."""
    return {
        "set": lambda: cache.set("aiocache:" + KEY, VALUE, ttl=TTL),
        "get": lambda: cache.get("aiocache:" + KEY),
    }


async def async_times(candidates: Mapping[str, AsyncVerbs]) -> Times:
    times: Times = {(name, verb): [] for name, verbs in candidates.items() for verb in verbs}
    for verbs in candidates.values():
        await verbs["set"]()
        assert VALUE == await verbs["get"]()
    for _ in range(ROUNDS):
        for name, verb in random.sample(list(times), len(times)):
            call = candidates[name][verb]
            begun = time.perf_counter()
            for _ in range(CALLS):
                await call()
            times[name, verb].append(time.perf_counter() - begun)
    return times


async def under_a_loop(url: str, cache: Cache) -> Times:
    raw: Any = redis.asyncio.Redis(host=host_of(url), port=port_of(url), protocol=2)
    cashew: Any = cashews.Cache()
    cashew.setup(url)
    plain_text: Any = aiocache.serializers.JsonSerializer()
    aio: Any = aiocache.RedisCache(plain_text, endpoint=host_of(url), port=port_of(url))
    try:
        return await async_times(
            {
                OURS: with_async_pilotis(cache),
                LIMIT: with_async_redis_py(raw),
                "cashews": with_cashews(cashew),
                "aiocache": with_aiocache(aio),
            }
        )
    finally:
        await raw.aclose()
        await cashew.close()
        await aio.close()
        await cache.aclose()


# The tables


def show(colour: str, times: Times) -> bool:
    """Print medians in microseconds with their ratios to the limit, and tell whether ours have reached the goal."""
    medians = {which: statistics.median(seconds) / CALLS * 1e6 for which, seconds in times.items()}
    print(f"{colour:9} {'verb':11} {'us a call':>10} {'ratio':>6}")
    for verb in ("get", "set", "get_or_set"):
        for name in dict.fromkeys(name for name, known in medians if known == verb):
            ratio = medians[name, verb] / medians[LIMIT, verb]
            print(f"{name:9} {verb:11} {medians[name, verb]:10.1f} {ratio:6.2f}")
    print()
    return all(medians[OURS, verb] <= LARGEST * medians[LIMIT, verb] for name, verb in medians if name == OURS)


def cache_on(url: str) -> Cache:
    return Cache(RedisCache(RedisCacheOptions(url=url)), context=Context(name="bench"))


def measure(url: str) -> None:
    cache = cache_on(url)
    blocking = {OURS: with_pilotis(cache), LIMIT: with_redis_py(url), "dogpile": with_dogpile(url)}
    reached = show("blocking", blocking_times(blocking))
    cache.close()
    reached &= show("asyncio", asyncio.run(under_a_loop(url, cache_on(url))))
    print(f"The goal is {LARGEST} times the limit at most: {'reached' if reached else 'not reached yet'}.")


def main(arguments: list[str]) -> None:
    """Measure on the server at the URL given, or on one of our own."""
    if arguments:
        measure(arguments[0])
        return
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer(Path(directory))
        server.start()
        try:
            measure(server.url)
        finally:
            server.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
