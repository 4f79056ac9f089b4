"""The Redis provider does what every locking provider must do."""

from __future__ import annotations

import pytest
from pilotis_locking_redis import RedisLocks, RedisLocksOptions
from pilotis_testing.chaos import size
from pilotis_testing.locking import LockingConformance


@pytest.mark.usefixtures("still")
class TestRedisLocks(LockingConformance):
    @pytest.fixture
    def provider(self, redis_url: str) -> RedisLocks:
        return RedisLocks(RedisLocksOptions(url=redis_url))


@pytest.mark.slow
@pytest.mark.usefixtures("still")
class TestRedisLocksOnCluster(LockingConformance):
    races = size(20, 1_000)

    @pytest.fixture
    def provider(self, redis_cluster_url: str) -> RedisLocks:
        return RedisLocks(RedisLocksOptions(url=redis_cluster_url))
