"""Signed values and claims, in one key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from pilotis.modules.cache import Cache
from pilotis.providers import Context, Entry
from pilotis.settings.model import CacheSettings
from pilotis.settings.secrets import Secret
from pilotis_cache_redis import RedisCache, RedisCacheOptions
from pilotis_testing import Colour
from pilotis_testing.colours import together
from pilotis_testing.redis import RedisClock


class Counting(RedisCache):
    """A cache that counts what it claims."""

    claims = 0

    async def claim(self, keys: Mapping[str, bytes | None], mark: bytes, ttl: float) -> list[Entry | None]:
        self.claims += 1
        return await super().claim(keys, mark, ttl)


Make = Callable[[str | None], tuple[Counting, Cache]]


@pytest.fixture
def clock(redis_url: str) -> RedisClock:
    """The clock of all."""
    return RedisClock(redis_url)


@pytest.fixture
def make(redis_url: str, clock: RedisClock) -> Iterator[Make]:
    """Caches over one server, each with surroundings of its own, as in different processes."""
    made: list[Cache] = []

    def make(secret: str | None) -> tuple[Counting, Cache]:
        provider = Counting(RedisCacheOptions(url=redis_url))
        settings = CacheSettings(secret=None if secret is None else Secret(secret))
        made.append(Cache(provider, settings=settings, context=Context(name="shop", clock=clock)))
        return provider, made[-1]

    yield make
    for cache in made:
        cache.close()
        cache.context.runtime.stop()


@pytest.mark.parametrize("secret", [None, "a secret of some length"], ids=["plain", "signed"])
async def test_an_invalidated_value_is_claimed_in_one_round_trip(
    make: Make, colour: Colour, secret: str | None
) -> None:
    """What was read is what is stored, signature and all, so that the claim takes its place at once."""
    provider, cache = make(secret)
    voiced: Any = colour.voice(cache)
    numbers = iter(range(10))

    async def ask() -> str:
        return await voiced.get_or_set("k", lambda: f"value {next(numbers)}", tags=["t"])

    assert [await ask(), provider.claims] == ["value 0", 1]
    await voiced.invalidate_tags("t")
    assert [await ask(), provider.claims] == ["value 1", 2]
    assert [await ask(), provider.claims] == ["value 1", 2]


async def test_processes_with_the_same_secret_compute_once(make: Make, colour: Colour) -> None:
    """Two caches over one server stand for two processes."""
    caches = [make("a secret of some length")[1] for _ in range(2)]
    voiced: list[Any] = [colour.voice(cache) for cache in caches]
    calls: list[int] = []

    async def ask(cache: Any) -> list[int]:
        return await cache.get_or_set("k", lambda: calls.append(1) or list(calls), type=list[int])

    answers = await together(*[lambda cache=cache: ask(cache) for cache in voiced * 4])
    assert [[1]] * 8 == answers
    assert sum(cache.stats().factory_calls for cache in caches) == 1
