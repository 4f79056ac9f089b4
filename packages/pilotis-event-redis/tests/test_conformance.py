"""The Redis provider does what every event provider must do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from pilotis.bridge import drive
from pilotis.providers import Context, DeadEvent, DeadFilter
from pilotis_event_redis import RedisEvents, RedisEventsOptions
from pilotis_testing.event import EventConformance
from pilotis_testing.redis import RedisWallClock


class AgedEvents(RedisEvents):
    """The provider, as it looks by a clock that was advanced.

    Where that makes what is in Redis older, the server's own clock stays where it is: times are translated.
    """

    async def dead(self, where: DeadFilter) -> AsyncGenerator[DeadEvent, None]:
        ahead = self._ahead
        async for dead in super().dead(self._aged(where)):
            yield replace(dead, first_at=dead.first_at + ahead, died_at=dead.died_at + ahead)

    async def bury(self, where: DeadFilter) -> int:
        return await super().bury(self._aged(where))

    @property
    def _ahead(self) -> float:
        return self.context.clock.monotonic()

    def _aged(self, where: DeadFilter) -> DeadFilter:
        since = None if where.since is None else where.since - self._ahead
        before = None if where.before is None else where.before - self._ahead
        return replace(where, since=since, before=before)


class OnRedis(EventConformance):
    """What is the same on one server and on a cluster. Needs a fixture: `url`."""

    slack = 60.0

    @pytest.fixture
    def provider(self, url: str) -> RedisEvents:
        return AgedEvents(RedisEventsOptions(url=url))

    @pytest.fixture
    def clock(self, url: str) -> RedisWallClock:
        return RedisWallClock(url)

    @pytest.fixture
    def another(self, url: str, context: Context) -> Iterator[Callable[[], RedisEvents]]:
        made: list[RedisEvents] = []

        def make() -> RedisEvents:
            made.append(AgedEvents(RedisEventsOptions(url=url)))
            return made[-1]

        yield make
        for provider in made:
            drive(provider.close())

    async def die(self, provider: Any) -> None:
        """Say of its worker what those say who find that its time is over."""
        keys, worker = provider._lanes.keys, provider._worker.id
        assert worker is not None
        for command in (
            ("ZREM", keys.workers, worker),
            ("HDEL", keys.infos, worker),
            ("XADD", keys.news, "*", "w", "dead"),
        ):
            await provider.link.execute(*command)


class TestRedisEvents(OnRedis):
    @pytest.fixture
    def url(self, redis_url: str) -> str:
        return redis_url


@pytest.mark.slow
class TestRedisEventsOnCluster(OnRedis):
    @pytest.fixture
    def url(self, redis_cluster_url: str) -> str:
        return redis_cluster_url
