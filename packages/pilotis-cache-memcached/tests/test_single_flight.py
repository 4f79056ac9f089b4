"""Processes that compute a value once among them, on a real server, where those who wait have to ask."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pilotis.bridge import drive
from pilotis.modules.cache import Cache
from pilotis.providers import CLAIM_MARK, Context, Entry
from pilotis.settings.model import CacheSettings
from pilotis_cache_memcached import MemcachedCache, MemcachedCacheOptions
from pilotis_testing import Colour
from pilotis_testing.clock import until
from pilotis_testing.processes import followed, stampede
from pymemcache import Client  # pyright: ignore[reportMissingTypeStubs]

PROCESSES = 4
CALLERS = 25
KEY = "shop::k"
FACTORY_SECONDS = 0.3
MARK = CLAIM_MARK * 25

Make = Callable[..., Cache]


def provider_at(address: str) -> MemcachedCache:
    return MemcachedCache(MemcachedCacheOptions(url=f"memcached://{address}"))


def cache_at(address: str, lease: float = 30) -> Cache:
    """Return a cache as a process of its own would have it."""
    return Cache(provider_at(address), settings=CacheSettings(lease=lease), context=Context(name="shop"))


@pytest.fixture
def make(memcached_address: str) -> Iterator[Make]:
    """What makes caches, each as another process would have it, and closes them after the test."""
    made: list[Cache] = []

    def add(lease: float = 30) -> Cache:
        made.append(cache_at(memcached_address, lease))
        return made[-1]

    yield add
    for cache in made:
        drive(cache.aclose())
        cache.context.runtime.stop()


@pytest.fixture
def provider(memcached_address: str) -> Iterator[MemcachedCache]:
    """A provider beside the caches."""
    provider = provider_at(memcached_address)
    yield provider
    drive(provider.close())


def is_claimed(provider: MemcachedCache) -> bool:
    """Tell whether there is a claim."""
    (value,) = drive(provider.read([KEY]))
    return value is not None and value[:1] == CLAIM_MARK


@pytest.fixture
def compute(memcached_address: str, server: Any) -> Callable[[], str]:
    """A slow factory that counts its calls, in whatever process, on the server, and returns where it ran."""
    server.set("calls", "0")

    def compute() -> str:
        host, _, port = memcached_address.partition(":")
        counting: Any = Client((host, int(port)), default_noreply=False)
        counting.incr("calls", 1)
        counting.close()
        time.sleep(FACTORY_SECONDS)
        return f"by {os.getpid()}"

    return compute


def test_many_callers_of_many_processes_are_one_call(
    memcached_address: str, server: Any, compute: Callable[[], str], colour: Colour
) -> None:
    """All get the value of the one that computed; a process that waits asks some fifty times, whatever its callers."""
    before = server.stats()[b"cmd_get"]
    given = stampede(lambda: cache_at(memcached_address), colour, compute, processes=PROCESSES, callers=CALLERS)
    asked = server.stats()[b"cmd_get"] - before
    assert PROCESSES * CALLERS == len(given)
    assert len(set(given)) == 1
    assert server.get("calls") == b"1"
    assert asked <= 2 * (PROCESSES * (CALLERS + 75))  # an entry and a log: one look of each caller, and those who wait


def test_a_stale_value_is_refreshed_by_one_process(
    memcached_address: str, server: Any, compute: Callable[[], str], make: Make, colour: Colour
) -> None:
    """Readers in all of them are served the old value meanwhile."""
    make().get_or_set("k", lambda: "old", ttl=0.001, stale_for=60)
    time.sleep(0.01)
    given = stampede(
        lambda: cache_at(memcached_address), colour, compute, processes=PROCESSES, callers=CALLERS, stale_for=60
    )
    assert PROCESSES * CALLERS == len(given)
    assert given.count("old") > CALLERS  # who is late may get the new one
    assert server.get("calls") == b"1"


def test_a_killed_process_is_followed_within_its_lease(
    memcached_address: str, provider: MemcachedCache, make: Make
) -> None:
    """By one of those who wait: when its claim is over, and hardly later."""
    lease = 0.6
    caches = [make(lease=lease) for _ in range(3)]
    answers, lasted = followed(lambda: cache_at(memcached_address, lease), caches, lambda: is_claimed(provider))
    assert answers == ["next"] * 3
    assert lasted < lease + 1.5
    assert sum(cache.stats().factory_calls for cache in caches) == 1


def test_a_claim_lasts_as_long_as_its_owner_computes(provider: MemcachedCache, make: Make) -> None:
    """Several times its lease, if need be; what was computed is kept."""
    lease = 2.0  # Memcached's own clock ticks once a second, and must not end a claim before its owner
    seen: set[bool] = set()

    def compute() -> str:
        end = time.monotonic() + 2.5 * lease
        while time.monotonic() < end:
            seen.add(is_claimed(provider))
            time.sleep(0.02)
        return "late"

    cache = make(lease)
    assert cache.get_or_set("k", compute) == "late"
    assert seen == {True}
    assert cache.get("k") == "late"


def test_a_lost_claim_ends_the_wait(provider: MemcachedCache, make: Make) -> None:
    """Whoever waits computes, whether the claim was removed, evicted or flushed."""
    gate = threading.Event()
    first, second = make(), make()
    computing = threading.Thread(target=lambda: first.get_or_set("k", lambda: gate.wait(10) and "first"))
    computing.start()
    until(lambda: is_claimed(provider))
    threading.Timer(0.05, lambda: drive(provider.remove([KEY]))).start()
    assert second.get_or_set("k", lambda: "second") == "second"
    gate.set()
    computing.join(10)
    assert first.get("k") == "second"


async def test_a_removal_by_pattern_ends_a_claim(provider: MemcachedCache, colour: Colour) -> None:
    """What was computed before it is not kept, although the item is still there."""
    await provider.claim({KEY: None}, MARK, 10)
    await provider.remove_matching("shop::*")
    assert await provider.settle({KEY: Entry(KEY, b"late", None)}, MARK) == [False]
    assert await provider.read([KEY]) == [None]


async def test_many_keys_are_claimed_and_settled_in_one_request(
    provider: MemcachedCache, server: Any, colour: Colour
) -> None:
    """However many there are; what is in the way of some takes another look."""
    keys = [f"shop::{number}" for number in range(50)]
    await provider.write([Entry(keys[7], b"there", None)])
    before = server.stats()
    answers = await provider.claim(dict.fromkeys(keys), MARK, 10)
    assert [Entry(keys[7], b"there", None)] == [answer for answer in answers if answer is not None]
    results = {key: Entry(key, b"1", None) for key in keys}
    assert [key != keys[7] for key in keys] == await provider.settle(results, MARK)
    used = {name: server.stats()[name] - before[name] for name in (b"cmd_set", b"cmd_get")}
    assert used == {b"cmd_set": 50 + 49, b"cmd_get": 2 + 51}
