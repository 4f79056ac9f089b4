"""What a hit of the near cache costs beside one of the memory cache: python benchmarks/cache_near.py

By `get`, by `get` of a value with a tag, by `get_or_set` with that tag, and by `get_many` of 100, in both colours.
Beside them stands Redis alone, which the near cache spares. The goal is 1.5 times a hit in memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from harness import Task, amedians, heading, machine, medians, size, started, table
from pilotis import Cache
from pilotis.providers import CacheProvider, Context
from pilotis.settings import CacheSettings, NearSettings
from pilotis_cache_memory import MemoryCache
from pilotis_cache_redis import RedisCache, RedisCacheOptions
from pilotis_testing.servers import RedisServer

ROUNDS = size(41, 3)
CALLS = size(1000, 20)
MANY = 100
TTL = 600
VALUE = {"id": 17, "name": "lamp", "price": 12.5, "tags": ["new", "light"]}
NEARLY = 1.5
MEMORY, NEAR, REDIS = "memory", "near", "redis"

Verbs = dict[str, Callable[[], Any]]


def factory() -> Any:
    return VALUE


def verbs(cache: Cache, *, is_async: bool) -> Verbs:
    """Return what is measured, all of it hits."""
    get, many, compute = (
        (cache.aget, cache.aget_many, cache.aget_or_set) if is_async else (cache.get, cache.get_many, cache.get_or_set)
    )
    return {
        "get": partial(get, "plain"),
        "get, tagged": partial(get, "tagged"),
        "get_or_set, tagged": partial(compute, "tagged", factory, ttl=TTL, tags=["t"]),
        f"get_many({MANY})": partial(many, [f"many:{number}" for number in range(MANY)]),
    }


def cache_before(provider: CacheProvider, near: NearSettings | bool = False) -> Cache:
    """Return a cache that has everything, at hand if it is a near one."""
    settings = CacheSettings(default_ttl=TTL, near=near)
    cache = Cache(provider, settings=settings, context=Context(name="bench"))
    cache.set("plain", VALUE)
    cache.set("tagged", VALUE, tags=["t"])
    cache.set_many({f"many:{number}": VALUE for number in range(MANY)})
    until_at_hand(cache, near)
    return cache


def until_at_hand(cache: Cache, near: NearSettings | bool) -> None:
    """Read everything until nobody is asked any more."""
    calls = verbs(cache, is_async=False).values()
    for call in calls if near else ():
        hits = cache.stats().near_hits
        while cache.stats().near_hits == hits:
            call()
            time.sleep(0.01)
            call()


def caches(url: str) -> dict[str, Cache]:
    """Return the candidates by name. The near one is told of what the others have set, so it comes last."""
    options = RedisCacheOptions(url=url)
    return {
        MEMORY: cache_before(MemoryCache()),
        REDIS: cache_before(RedisCache(options)),
        NEAR: cache_before(RedisCache(options), NearSettings(ttl=TTL)),
    }


def tasks(found: Mapping[str, Cache], *, is_async: bool) -> dict[tuple[str, str], Task]:
    return {
        (name, verb): Task(call, max(1, CALLS // (20 if verb.startswith("get_many") else 1)))
        for name, cache in found.items()
        for verb, call in verbs(cache, is_async=is_async).items()
    }


def show(colour: str, times: Mapping[tuple[str, str], float]) -> None:
    heading(f"{colour.capitalize()}, microseconds")
    rows: list[tuple[object, ...]] = []
    for verb in dict.fromkeys(verb for _, verb in times):
        costs = [times[name, verb] * 1e6 for name in (MEMORY, NEAR, REDIS)]
        ratio = costs[1] / costs[0]
        told = "reached" if ratio <= NEARLY else "not reached"
        rows.append((verb, *(f"{cost:.1f}" for cost in costs), f"{ratio:.2f}", told))
    table(["hit", MEMORY, NEAR, REDIS, "near / memory", f"at most {NEARLY}"], rows)


def main() -> None:
    """Measure on a Redis of our own."""
    print(machine())
    with started(RedisServer) as server:
        found = caches(server.url)
        show("blocking", medians(tasks(found, is_async=False), ROUNDS))
        show("asyncio", asyncio.run(amedians(tasks(found, is_async=True), ROUNDS)))
        for cache in found.values():
            cache.close()


if __name__ == "__main__":
    main()
