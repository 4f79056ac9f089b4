"""The Redis provider does what every cache provider must do."""

from __future__ import annotations

import pytest
from pilotis_cache_redis import RedisCache, RedisCacheOptions
from pilotis_testing.cache import CacheConformance
from pilotis_testing.redis import RedisClock


class TestRedisCache(CacheConformance):
    @pytest.fixture
    def provider(self, redis_url: str) -> RedisCache:
        return RedisCache(RedisCacheOptions(url=redis_url))

    @pytest.fixture
    def clock(self, redis_url: str) -> RedisClock:
        return RedisClock(redis_url)


class TestRedisCacheOnCluster(CacheConformance):
    @pytest.fixture
    def provider(self, redis_cluster_url: str) -> RedisCache:
        return RedisCache(RedisCacheOptions(url=redis_cluster_url))

    @pytest.fixture
    def clock(self, redis_cluster_url: str) -> RedisClock:
        return RedisClock(redis_cluster_url)
