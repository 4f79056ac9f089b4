"""The log of patterns: what counts, what it costs, and what happens when it is full or lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, TypeVarTuple

import pytest
from pilotis.bridge import drive
from pilotis.errors import InvalidInputError
from pilotis.providers import Entry
from pilotis_cache_memcached import MemcachedCache, MemcachedCacheOptions
from pilotis_cache_memcached.node import Node
from pilotis_cache_memcached.patterns import MOST_BYTES, MOST_PATTERNS, space_of, space_of_pattern
from pilotis_cache_memcached.records import log_name
from pilotis_cache_memcached.shelf import Shelf
from pilotis_testing import Colour

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

SPACE = "shop:n:"
LOG = log_name(SPACE)


@pytest.fixture
def one(memcached_address: str, colour: Colour) -> Iterator[MemcachedCache]:
    """A provider."""
    provider = MemcachedCache(MemcachedCacheOptions(url=f"memcached://{memcached_address}"))
    yield provider
    drive(provider.close())


@pytest.fixture
def other(memcached_address: str) -> Iterator[MemcachedCache]:
    """A provider for the same server: another process."""
    provider = MemcachedCache(MemcachedCacheOptions(url=f"memcached://{memcached_address}"))
    yield provider
    drive(provider.close())


def node_of(provider: MemcachedCache) -> Node:
    shelf = provider._only  # pyright: ignore[reportPrivateUsage]
    assert shelf is not None
    return shelf.node


def log_of(provider: MemcachedCache) -> bytes:
    return node_of(provider).call(lambda client: client.get(LOG))


async def keep(provider: MemcachedCache, *keys: str) -> None:
    await provider.write([Entry(SPACE + key, b"1", None) for key in keys])


async def kept(provider: MemcachedCache, *keys: str) -> list[str]:
    values = await provider.read([SPACE + key for key in keys])
    return [key for key, value in zip(keys, values, strict=True) if value is not None]


async def test_others_see_a_removal_at_once(one: MemcachedCache, other: MemcachedCache) -> None:
    """However often it is done, and whoever writes in between."""
    for _ in range(5):
        await keep(one, "a1", "b1")
        await keep(other, "a2", "b2")
        await other.remove_matching(f"{SPACE}a*")
        for provider in (one, other):
            assert await kept(provider, "a1", "a2", "b1", "b2") == ["b1", "b2"]
        await keep(one, "a1")
        assert await kept(other, "a1", "a2") == ["a1"]


async def test_patterns_count_only_for_what_is_older(one: MemcachedCache) -> None:
    """Each of several patterns at once, up to the moment when it came."""
    await keep(one, "a1", "b1", "c1")
    await one.remove_matching(f"{SPACE}a*")
    await keep(one, "a2", "b2")
    await one.remove_matching(f"{SPACE}b*")
    await keep(one, "b3")
    assert await kept(one, "a1", "b1", "c1", "a2", "b2", "b3") == ["c1", "a2", "b3"]


async def test_the_same_pattern_is_remembered_once(one: MemcachedCache) -> None:
    """Those that an application removes by again and again do not fill the log."""
    await keep(one, "kept")
    for _ in range(MOST_PATTERNS * 2):
        await one.remove_matching(f"{SPACE}a*")
    assert log_of(one).count(b"a*") == 1
    assert await kept(one, "kept") == ["kept"]


async def test_a_full_log_collapses(one: MemcachedCache, other: MemcachedCache) -> None:
    """Up to the limit the rest stays; with one pattern more the whole namespace goes, and no other one."""
    await keep(one, "kept")
    await one.write([Entry("shop:n/inner:k", b"1", None)])
    for number in range(MOST_PATTERNS):
        await one.remove_matching(f"{SPACE}a{number}:*")
    assert await kept(other, "kept") == ["kept"]
    await one.remove_matching(f"{SPACE}last:*")
    assert await kept(other, "kept") == []
    assert await other.read(["shop:n/inner:k"]) == [b"1"]
    await keep(other, "kept")
    assert await kept(one, "kept") == ["kept"]


async def test_long_patterns_collapse_sooner(one: MemcachedCache) -> None:
    """Every reader fetches the log, so that it stays short."""
    await keep(one, "kept")
    for number in range(5):
        await one.remove_matching(f"{SPACE}{number}{'x' * 1000}*")
        assert len(log_of(one)) <= MOST_BYTES
    assert await kept(one, "kept") == []


async def test_clearing_a_namespace_empties_its_log(one: MemcachedCache) -> None:
    """Nothing that was there counts, so the patterns are of no use."""
    await keep(one, "a", "b")
    await one.remove_matching(f"{SPACE}a*")
    await one.remove_matching(f"{SPACE}*")
    assert b"a*" not in log_of(one)
    await keep(one, "b")
    assert await kept(one, "a", "b") == ["b"]


async def test_a_lost_log_brings_nothing_back(one: MemcachedCache, other: MemcachedCache) -> None:
    """As after an eviction: without it nothing counts, and the next one is above all that was there."""
    await keep(one, "removed", "kept")
    await one.remove_matching(f"{SPACE}rem*")
    node_of(one).call(lambda client: client.delete(LOG))
    for provider in (one, other):
        assert await kept(provider, "removed", "kept") == []
        await keep(provider, "new")
        assert await kept(provider, "removed", "kept", "new") == ["new"]


async def test_what_is_no_log_is_replaced(one: MemcachedCache, other: MemcachedCache) -> None:
    """Nothing counts by it, and what is written next does."""
    await keep(one, "k")
    node_of(one).call(lambda client: client.set(LOG, b"junk"))
    assert await kept(other, "k") == []
    await keep(other, "k")
    assert await kept(one, "k") == ["k"]


def test_a_removal_beside_a_change_wins(memcached_address: str, other: MemcachedCache) -> None:
    """An entry that is prolonged or counted on keeps its age, so that a pattern from meanwhile still counts."""
    place = memcached_address.rpartition(":")
    node = RemovedBetween((place[0], int(place[2])), other)
    shelf = Shelf(node, {}, lambda: 0.0)
    shelf.write([Entry(f"{SPACE}{key}", b"1", None) for key in ("touched", "counted")])
    node.is_armed = True
    assert shelf.expire(f"{SPACE}touched", None) is True
    assert shelf.read([f"{SPACE}touched"]) == [None]
    shelf.write([Entry(f"{SPACE}counted", b"1", None)])
    node.is_armed = True
    assert shelf.count(f"{SPACE}counted", 1, None) == 2
    assert shelf.read([f"{SPACE}counted"]) == [None]
    node.close()


class RemovedBetween(Node):
    """A server where everything is removed after the next answer."""

    is_armed = False

    def __init__(self, place: tuple[str, int], other: MemcachedCache) -> None:
        super().__init__(place, MemcachedCacheOptions(), lambda: None)
        self._other = other

    def call(self, function: Callable[[Any, *Ts], T], *args: *Ts) -> T:
        answer = super().call(function, *args)
        if self.is_armed:
            self.is_armed = False
            drive(self._other.remove_matching(f"{SPACE}*"))
        return answer


@pytest.mark.parametrize(
    ("key", "space"),
    [("shop:n:k", "shop:n:"), ("shop::k", "shop::"), ("shop:n:a:b", "shop:n:"), ("shop:n", ""), ("k", ""), ("", "")],
)
def test_the_namespace_of_a_key(key: str, space: str) -> None:
    """All up to its second colon."""
    assert space == space_of(key)


@pytest.mark.parametrize("pattern", ["*", "shop:*", "shop:*:k"])
def test_a_pattern_for_several_namespaces_is_refused(pattern: str) -> None:
    """No reader would look where it is written."""
    with pytest.raises(InvalidInputError, match="app and namespace first"):
        space_of_pattern(pattern)
