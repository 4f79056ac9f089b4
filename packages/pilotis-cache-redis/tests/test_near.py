"""The Redis provider behind a near cache: all that a cache must do, and faults of a real server."""

from __future__ import annotations

import pytest
from pilotis.settings.model import CacheSettings
from pilotis_cache_redis import RedisCache, RedisCacheOptions
from pilotis_testing.cache import CacheConformance
from pilotis_testing.redis import RedisClock


class TestRedisCacheWithNear(CacheConformance):
    @pytest.fixture
    def provider(self, redis_url: str) -> RedisCache:
        return RedisCache(RedisCacheOptions(url=redis_url))

    @pytest.fixture
    def settings(self) -> CacheSettings:
        return CacheSettings(near=True)

    @pytest.fixture
    def clock(self, redis_url: str) -> RedisClock:
        return RedisClock(redis_url)
