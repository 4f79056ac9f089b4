"""Hits of the cache: what they cost, counted in Python calls, which no load of the machine changes."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, Self

import pytest
from pilotis import Cache
from pilotis.errors import ClosedError, InvalidInputError
from pilotis.modules.cache.names import MOST_KNOWN, Names
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


class ReadyCache(PlainCache):
    """One that tells at once, and counts how often."""

    def read_now(self, keys: Sequence[str]) -> list[bytes | None]:
        self.reads += 1
        return list(map(self._values.get, keys))


class ChangedCache(ReadyCache):
    """One of somebody who changed `read` alone."""

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        return [b"7"] * len(keys)


class Counted:
    """Counts the Python calls of this thread. No garbage is collected meanwhile: that calls whatever it finds."""

    def __enter__(self) -> Self:
        self.calls = -1  # the end of the block is one
        gc.disable()
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        gc.enable()

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        self.calls += event == "call"


@pytest.fixture(params=[PlainCache, ReadyCache])
def provider(request: pytest.FixtureRequest) -> PlainCache:
    """Where entries are: there to be asked for, or at hand."""
    return request.param()


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
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "get": ("product:17",),
    "get_many": (KEYS,),
    "get_or_set": ("product:17", product),
}
MOST_CALLS: dict[type[PlainCache], dict[str, int]] = {
    PlainCache: {"get": 10, "get_many": 19, "get_or_set": 19, "cached": 25},
    ReadyCache: {"get": 7, "get_many": 16, "get_or_set": 16, "cached": 22},
}
"""How many Python calls a hit may take, by what is asked: no more than it does."""


@pytest.mark.parametrize("verb", ARGUMENTS)
async def test_a_hit_is_short(cache: Cache, provider: PlainCache, verb: str, colour: Colour) -> None:
    """One reading, and so few Python calls that nobody can add a layer unseen; of many keys no more than of one."""
    cache_of_colour = colour.voice(cache)
    await cache_of_colour.set_many(dict.fromkeys(KEYS, VALUE))
    await call(cache, verb, ARGUMENTS[verb], colour)
    before = provider.reads
    with Counted() as counted:
        await call(cache, verb, ARGUMENTS[verb], colour)
    assert 1 == provider.reads - before
    assert counted.calls <= MOST_CALLS[type(provider)][verb]


async def test_who_changes_reading_alone_is_not_passed_by(colour: Colour) -> None:
    """What tells at once is then that of another class, and means nothing."""
    cache = Cache(ChangedCache(), context=Context(name="test"))
    await colour.voice(cache).set("k", 5)
    assert 7 == await colour.voice(cache).get("k")


async def test_nothing_is_told_at_once_by_a_closed_cache(colour: Colour) -> None:
    """Whoever asks it is told so."""
    cache = colour.voice(Cache(ReadyCache(), context=Context(name="test")))
    await cache.set("k", 5)
    await cache.close()
    with pytest.raises(ClosedError):
        await cache.get("k")


async def call(cache: Cache, verb: str, arguments: tuple[Any, ...], colour: Colour) -> object:
    """Call a verb as a user does."""
    if colour is Colour.BLOCKING:
        return getattr(cache, verb)(*arguments)
    return await getattr(cache, f"a{verb}")(*arguments)


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
    assert counted.calls <= MOST_CALLS[type(provider)]["cached"]


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


def test_a_namespace_remembers_so_many_keys_and_no_more() -> None:
    """What is remembered is what would be made anew, and takes little memory however many keys there are."""
    names = Names("app", ("space",))
    for _ in range(2):
        for number in range(MOST_KNOWN + 5):
            assert names.key(f"k{number}") == f"app:space:k{number}"
            assert len(names._known) <= MOST_KNOWN  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("key", [["k"], {}, 5, None, "", "a\nb"])
def test_what_can_be_no_key_is_refused_each_time(key: Any) -> None:
    """Also what cannot be remembered, as it has no hash."""
    names = Names("app", ())
    for _ in range(2):
        with pytest.raises(InvalidInputError, match=r"^key: "):
            names.key(key)
