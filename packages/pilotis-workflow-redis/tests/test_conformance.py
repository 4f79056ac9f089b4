"""The Redis provider does what every workflow provider must do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pilotis import step, workflow
from pilotis.bridge import drive
from pilotis_testing.conformance import Conformance
from pilotis_testing.redis import RedisRunClock
from pilotis_testing.workflow import WorkflowConformance, check_crashes
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


@step
def add(left: int, right: int) -> int:
    return left + right


@add.compensate
def subtract(left: int, right: int, total: int) -> None:
    assert left + right == total


@workflow("crash-on-cluster")
def adds(number: int) -> int:
    total = add(number, 1)
    raise ValueError(total + workflow.wait_for("more", type=int))


@pytest.mark.slow
def test_a_crash_anywhere_changes_nothing_on_a_cluster(redis_cluster_url: str) -> None:
    """Of a run that waits and is compensated: before and after each operation in turn."""
    provider = RedisWorkflows(RedisWorkflowsOptions(url=redis_cluster_url))
    clock = RedisRunClock(redis_cluster_url)
    assert check_crashes(adds, 3, signals={"more": 4}, provider=provider, clock=clock) > 10
    drive(provider.close())
