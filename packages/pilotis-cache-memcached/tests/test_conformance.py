"""The Memcached provider does what every cache provider must do."""

from __future__ import annotations

import pytest
from pilotis_cache_memcached import MemcachedCache, MemcachedCacheOptions
from pilotis_testing.cache import CacheConformance


class TestMemcachedCache(CacheConformance):
    @pytest.fixture
    def provider(self, memcached_address: str) -> MemcachedCache:
        return MemcachedCache(MemcachedCacheOptions(url=f"memcached://{memcached_address}"))


class TestMemcachedCacheOnSeveralServers(CacheConformance):
    @pytest.fixture
    def provider(self, memcached_address: str, other_memcached_address: str) -> MemcachedCache:
        return MemcachedCache(MemcachedCacheOptions(url=f"memcached://{memcached_address},{other_memcached_address}/"))
