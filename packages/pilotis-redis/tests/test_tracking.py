"""Changes to keys, told on a connection of their own."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import pytest
from pilotis.bridge import drive
from pilotis.providers import Context
from pilotis_redis import RedisLink, RedisOptions
from pilotis_testing.clock import until
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import TimeoutError as NoAnswerError

Told = list[Collection[str] | None]


class Tracker:
    """A link whose changes are told to a list, on a background loop."""

    def __init__(self, url: str, **options: Any) -> None:
        self.told: Told = []
        self.error: Exception | None = None
        self._link = RedisLink(RedisOptions(url=url, **options))
        self._runtime = Context().runtime
        self._job = self._runtime.spawn(self._track(), "tracking")

    async def _track(self) -> None:
        try:
            await self._link.track("shop:", self.told.append)
        except Exception as error:  # for the test to look at
            self.error = error

    def close(self) -> None:
        self._job.cancel()
        drive(self._job.ended.wait(5))
        self._runtime.stop()
        drive(self._link.close())


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def tracker(own_redis: RedisServer, request: pytest.FixtureRequest) -> Iterator[Tracker]:
    """One that has begun, whatever protocol other connections speak."""
    tracker = Tracker(own_redis.url, protocol=request.param, timeout=0.5)
    until(lambda: tracker.told == [None])
    yield tracker
    tracker.close()


def test_changes_under_the_prefix_are_told(own_redis: RedisServer, tracker: Tracker) -> None:
    """By their keys, and in order; others are not."""
    for command in (("SET", "shopping", 1), ("SET", "shop:é", 1), ("INCR", "shop:n"), ("DEL", "shop:é")):
        tell(own_redis.url, *command)
    until(lambda: len(tracker.told) >= 4)
    assert [None, ["shop:é"], ["shop:n"], ["shop:é"]] == tracker.told


def test_keys_of_any_bytes_are_no_trouble(own_redis: RedisServer, tracker: Tracker) -> None:
    """Those that are no text are none of ours."""
    tell(own_redis.url, "SET", b"shop:\xff\xfe", 1)
    tell(own_redis.url, "SET", "shop:k", 1)
    until(lambda: ["shop:k"] in tracker.told)


def test_a_flush_is_about_all_keys(own_redis: RedisServer, tracker: Tracker) -> None:
    """Redis names none."""
    tell(own_redis.url, "FLUSHALL")
    until(lambda: len(tracker.told) == 2)
    assert [None, None] == tracker.told


def test_a_quiet_server_is_asked_and_stays(own_redis: RedisServer, tracker: Tracker) -> None:
    """Nothing to tell is no reason to end, for however many time-outs."""
    until(lambda: tell(own_redis.url, "INFO", "commandstats").get("cmdstat_ping", {}).get("calls", 0) >= 2)
    tell(own_redis.url, "SET", "shop:k", 1)
    until(lambda: ["shop:k"] in tracker.told)
    assert tracker.error is None


def test_a_frozen_server_is_an_error(own_redis: RedisServer, tracker: Tracker) -> None:
    """After two time-outs: one until it is asked, and one for the answer."""
    own_redis.pause()
    until(lambda: tracker.error is not None)
    assert isinstance(tracker.error, NoAnswerError)
    own_redis.resume()


def test_a_broken_connection_is_an_error(own_redis: RedisServer, tracker: Tracker) -> None:
    """At once."""
    tell(own_redis.url, "CLIENT", "KILL", "TYPE", "PUBSUB")
    until(lambda: tracker.error is not None)
    assert isinstance(tracker.error, LostError)


def test_no_connection_is_left(own_redis: RedisServer, no_leaks: None) -> None:
    """When whoever tracks is cancelled."""
    tracker = Tracker(own_redis.url)
    until(lambda: tracker.told == [None])
    tracker.close()
    until(lambda: tell(own_redis.url, "CLIENT", "LIST", "TYPE", "PUBSUB") == b"")
