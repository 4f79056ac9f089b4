"""Hits of the cache: what they cost, counted in Python calls, which no load of the machine changes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, Self

import pytest
from pilotis import Cache
from pilotis.providers import CacheCapability, CacheProvider, Context, Entry
from pilotis_testing import Colour

VALUE = {"id": 17, "tags": ["new", "light"]}


class PlainCache(CacheProvider):
    """A cache in a dict, which forgets nothing by itself."""

    capabilities = CacheCapability(0)

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self._values: dict[str, bytes] = {}

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        self.reads += 1
        return list(map(self._values.get, keys))

    async def write(self, entries: Sequence[Entry], *, only_absent: bool = False) -> list[bool]:
        is_new = [not only_absent or entry.key not in self._values for entry in entries]
        self._values |= {entry.key: entry.value for entry, new in zip(entries, is_new, strict=True) if new}
        return is_new

    async def remove(self, keys: Sequence[str]) -> int:
        return sum(self._values.pop(key, None) is not None for key in keys)

    async def count(self, key: str, by: int, ttl: float | None) -> int:
        self._values[key] = b"%d" % (int(self._values.get(key, 0)) + by)
        return int(self._values[key])

    async def expire(self, key: str, ttl: float | None) -> bool:
        return key in self._values


class Counted:
    """Counts the Python calls of this thread."""

    def __enter__(self) -> Self:
        self.calls = -1  # the end of the block is one
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        self.calls += event == "call"


@pytest.fixture
def provider() -> PlainCache:
    """Where entries are."""
    return PlainCache()


@pytest.fixture
def cache(provider: PlainCache) -> Cache:
    """A cache that is open."""
    cache = Cache(provider, context=Context(name="test"))
    cache.open()
    return cache


def product() -> dict[str, Any]:
    """Return what the factory of a test makes."""
    return VALUE


KEYS = [f"product:{number}" for number in range(100)]
HITS: dict[str, tuple[tuple[Any, ...], int]] = {
    "get": (("product:17",), 14),
    "get_many": ((KEYS,), 20),
    "get_or_set": (("product:17", product), 23),
}
"""The arguments of each verb, and how many Python calls a hit may take: a few more than it does."""


@pytest.mark.parametrize("verb", HITS)
async def test_a_hit_is_short(cache: Cache, provider: PlainCache, verb: str, colour: Colour) -> None:
    """One reading, and so few Python calls that nobody can add a layer unseen; of many keys no more than of one."""
    arguments, most = HITS[verb]
    cache_of_colour = colour.voice(cache)
    await cache_of_colour.set_many(dict.fromkeys(KEYS, VALUE))
    await call(cache, verb, arguments, colour)
    before = provider.reads
    with Counted() as counted:
        await call(cache, verb, arguments, colour)
    assert 1 == provider.reads - before
    assert counted.calls <= most


async def call(cache: Cache, verb: str, arguments: tuple[Any, ...], colour: Colour) -> object:
    """Call a verb as a user does."""
    if colour is Colour.BLOCKING:
        return getattr(cache, verb)(*arguments)
    return await getattr(cache, f"a{verb}")(*arguments)


MOST_OF_DECORATED = 30


def test_a_hit_of_a_decorated_function_is_short(cache: Cache, provider: PlainCache) -> None:
    """Its key is made, and the rest is `get_or_set`."""

    @cache.cached(key="product:{number}")
    def found(number: int) -> dict[str, Any]:
        return VALUE

    found(17)
    found(17)
    before = provider.reads
    with Counted() as counted:
        found(17)
    assert 1 == provider.reads - before
    assert counted.calls <= MOST_OF_DECORATED


async def test_a_miss_reads_no_more_often_than_it_has_to(cache: Cache, provider: PlainCache, colour: Colour) -> None:
    """Once before the factory, and once more as somebody may have been first."""
    await call(cache, "get_or_set", ("product:17", product), colour)
    assert 2 == provider.reads


async def test_many_keys_of_every_form(cache: Cache, colour: Colour) -> None:
    """Numbers, tagged values, values of another type and absent ones stand among plain ones, and order is kept."""
    cache_of_colour = colour.voice(cache)
    await cache_of_colour.set_many({"plain": "a", "other": ["no text"], "last": "z"})
    await cache_of_colour.set("tagged", "b", tags=["t"])
    await cache_of_colour.set("number", 7)
    keys = ["number", "tagged", "absent", "plain", "other", "last"]
    assert {"tagged": "b", "plain": "a", "last": "z"} == await cache_of_colour.get_many(keys, type=str)
    assert {"number": 7, "tagged": "b"} == await cache_of_colour.get_many(keys[:3])
    assert ["number", "tagged", "plain", "other", "last"] == list(await cache_of_colour.get_many(keys))
    stats = cache.stats()
    assert (10, 5) == (stats.hits, stats.misses)
