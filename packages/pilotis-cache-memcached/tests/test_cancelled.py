"""Callers that are cancelled while the server is slow to do what they asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

import pytest
from pilotis.bridge import Latch, drive, run_blocking
from pilotis.modules.cache import Cache
from pilotis.providers import Context, Entry
from pilotis_cache_memcached import MemcachedCache, MemcachedCacheOptions
from pilotis_testing.colours import soon


class SlowCache(MemcachedCache):
    """On the way to the server things take until `arrive` is set; a request is not called back by being given up."""

    def begin(self) -> None:
        self.sent, self.arrive, self.arrived = Latch(), Latch(), Latch()

    async def claim(self, keys: Mapping[str, bytes | None], mark: bytes, ttl: float) -> list[Entry | None]:
        return await run_blocking(self._claim_late, keys, mark, ttl)

    def _claim_late(self, keys: Mapping[str, bytes | None], mark: bytes, ttl: float) -> list[Entry | None]:
        self.sent.set()
        drive(self.arrive.wait(10))
        answer = drive(super().claim(keys, mark, ttl))
        self.arrived.set()
        return answer


class ReluctantCache(MemcachedCache):
    """A result waits for its turn until `arrive` is set, and is called back by being given up."""

    def begin(self) -> None:
        self.sent, self.arrive = Latch(), Latch()

    async def settle(self, results: Mapping[str, Entry | None], mark: bytes) -> list[bool]:
        self.sent.set()
        await self.arrive.wait(10)
        return await super().settle(results, mark)


@pytest.fixture
def slow(memcached_address: str) -> Iterator[SlowCache]:
    """A provider whose claims take their time."""
    provider = SlowCache(MemcachedCacheOptions(url=f"memcached://{memcached_address}"))
    provider.begin()
    yield provider
    drive(provider.close())


@pytest.fixture
def reluctant(memcached_address: str) -> Iterator[ReluctantCache]:
    """A provider whose results take their time."""
    provider = ReluctantCache(MemcachedCacheOptions(url=f"memcached://{memcached_address}"))
    provider.begin()
    yield provider
    drive(provider.close())


async def cancelled_at(provider: SlowCache | ReluctantCache) -> None:
    """Cancel a caller who has sent what the provider is slow with, and let that arrive a moment later."""
    cache = Cache(provider, context=Context(name="shop"))
    caller = asyncio.ensure_future(cache.aget_or_set("k", lambda: 1))
    await soon(provider.sent.is_set)
    caller.cancel()
    asyncio.get_running_loop().call_later(0.05, provider.arrive.set)
    await asyncio.wait((caller,))
    assert caller.cancelled()
    await cache.aclose()
    cache.context.runtime.stop()


async def test_a_claim_that_arrives_late_is_given_back(slow: SlowCache) -> None:
    """Nobody else waits for a caller who is gone."""
    await cancelled_at(slow)
    await soon(slow.arrived.is_set)
    assert [None] == await slow.read(["shop::k"])


async def test_what_was_computed_is_kept_all_the_same(reluctant: ReluctantCache) -> None:
    """A caller who is cancelled when his result is on its way leaves the result, and not a claim."""
    await cancelled_at(reluctant)
    assert [b"1"] == await reluctant.read(["shop::k"])
