"""The Redis provider does what every workflow provider must do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pilotis.bridge import drive
from pilotis_testing.conformance import Conformance
from pilotis_testing.redis import RedisRunClock
from pilotis_testing.workflow import WorkflowConformance
from pilotis_testing.workflow_provider import WorkflowProviderChecks
from pilotis_testing.workflow_waiting import WorkflowWaitingChecks
from pilotis_workflow_redis import RedisWorkflows, RedisWorkflowsOptions


class OnRedis:
    """What is the same on one server and on a cluster. Needs a fixture: `url`."""

    slack = 5.0

    @pytest.fixture
    def provider(self, url: str) -> Iterator[RedisWorkflows]:
        provider = RedisWorkflows(RedisWorkflowsOptions(url=url))
        yield provider
        drive(provider.close())

    @pytest.fixture
    def clock(self, url: str) -> RedisRunClock:
        return RedisRunClock(url)


class TestRedisWorkflows(OnRedis, WorkflowConformance):
    @pytest.fixture
    def url(self, redis_url: str) -> str:
        return redis_url


@pytest.mark.slow
class TestRedisWorkflowsOnCluster(OnRedis, WorkflowProviderChecks, WorkflowWaitingChecks, Conformance):
    """Each verb by itself, and some of them in their order: the engine sees no difference."""

    @pytest.fixture
    def url(self, redis_cluster_url: str) -> str:
        return redis_cluster_url
