"""The Memcached provider does what every cache provider must do."""

from __future__ import annotations

import time

import pytest
from pilotis_cache_memcached import MemcachedCache, MemcachedCacheOptions
from pilotis_testing import ManualClock
from pilotis_testing.cache import CacheConformance


class MemcachedConformance(CacheConformance):
    """On a clock that begins with the time: Memcached is told a point in time for what lasts over a month."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock(time.time())


class TestMemcachedCache(MemcachedConformance):
    @pytest.fixture
    def provider(self, memcached_address: str) -> MemcachedCache:
        return MemcachedCache(MemcachedCacheOptions(url=f"memcached://{memcached_address}"))


class TestMemcachedCacheOnSeveralServers(MemcachedConformance):
    @pytest.fixture
    def provider(self, memcached_address: str, other_memcached_address: str) -> MemcachedCache:
        return MemcachedCache(MemcachedCacheOptions(url=f"memcached://{memcached_address},{other_memcached_address}/"))
