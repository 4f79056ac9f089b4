"""What the parts of the cache suite share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from pilotis.bridge import drive
from pilotis.modules.cache import Cache
from pilotis.providers import CacheCapability, CacheProvider, Context, Entry
from pilotis.settings.model import CacheSettings

from pilotis_testing.clock import ManualClock, until
from pilotis_testing.colours import Colour
from pilotis_testing.conformance import Conformance

TTL = 2.0
"""Seconds: what an entry lasts in these tests."""
DAY = 86_400.0
SERVICE = "shop"


class CacheTests(Conformance):
    """The fixtures."""

    @pytest.fixture
    def settings(self) -> CacheSettings:
        """The portable settings. Override it to have all of the suite run with a near cache, too."""
        return CacheSettings()

    @pytest.fixture
    def cache(
        self, provider: CacheProvider, settings: CacheSettings, clock: ManualClock, colour: Colour
    ) -> Iterator[Any]:
        """The portable class before the provider, speaking in the colour of the test."""
        context = Context(name=SERVICE, clock=clock)
        cache = Cache(provider, settings=settings, context=context)
        ready(cache)
        yield colour.voice(cache)
        cache.close()
        context.runtime.stop()

    @pytest.fixture
    def other(
        self, provider: CacheProvider, settings: CacheSettings, clock: ManualClock, colour: Colour
    ) -> Iterator[Any]:
        """Another process's cache, with a provider of its own, before the same backend."""
        context = Context(name=SERVICE, clock=clock)
        cache = Cache(type(provider)(provider.options), settings=settings, context=context)
        ready(cache)
        yield colour.voice(cache)
        cache.close()
        context.runtime.stop()

    @pytest.fixture
    def entries(self, provider: CacheProvider, clock: ManualClock, colour: Colour) -> Iterator[CacheProvider]:
        """The provider itself, open."""
        provider.context = Context(name=SERVICE, clock=clock)
        drive(provider.open())
        yield provider
        drive(provider.close())


def ready(cache: Cache) -> None:
    """Open a cache that keeps entries at hand, and wait until it is told of changes."""
    near = cache._near  # pyright: ignore[reportPrivateUsage]
    if near is not None:
        cache.open()
        until(lambda: near.tier.is_live)


def has_at_hand(cache: Cache, key: str) -> bool:
    """Tell whether a near cache keeps an entry, which may be out of date until it is told, in a moment."""
    near, names = cache._near, cache._names  # pyright: ignore[reportPrivateUsage]
    return near is not None and near.tier.known((names.key(key),)) is not None


def in_colour(colour: Colour, function: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    """Return an async function of a test as its caller would write it: a plain one in blocking use."""
    if colour is Colour.ASYNC:
        return function

    @functools.wraps(function)
    def plain(*args: Any, **kwargs: Any) -> Any:
        return drive(function(*args, **kwargs))

    return plain


def lacks(provider: CacheProvider, capability: CacheCapability) -> bool:
    """Tell whether the provider does not declare this. Then a test of it has nothing to say."""
    return capability not in provider.capabilities


def told(provider: CacheProvider, count: int) -> int | None:
    """Return what removing by pattern answers where it removed so many."""
    return None if lacks(provider, CacheCapability.MATCH_COUNT) else count


async def written(provider: CacheProvider, ttl: float | None = None, **values: bytes) -> None:
    """Have the provider keep values by their keys."""
    await provider.write([Entry(key, value, ttl) for key, value in values.items()])


async def value_of(provider: CacheProvider, key: str) -> bytes | None:
    """Return what the provider has under a key."""
    (value,) = await provider.read([key])
    return value
