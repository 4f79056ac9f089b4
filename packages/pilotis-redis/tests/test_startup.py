"""What is looked at before a Redis is relied on."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import redis
from pilotis.bridge import drive
from pilotis.errors import OperationError
from pilotis_redis import Eviction, RedisBacked, RedisOptions, startup
from pilotis_testing import Colour
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer

WARNINGS = {
    (Eviction.WELCOME, "noeviction"): "set allkeys-lru",
    (Eviction.WELCOME, "allkeys-lru"): "",
    (Eviction.HARMFUL, "noeviction"): "",
    (Eviction.HARMFUL, "allkeys-lfu"): "set noeviction",
    (Eviction.HARMFUL, "volatile-ttl"): "set noeviction",
}


def backed(url: str, eviction: Eviction = Eviction.WELCOME) -> RedisBacked:
    """Return a provider that does nothing but stand on Redis."""
    provider = type("Backed", (RedisBacked,), {"eviction": eviction})
    return provider(RedisOptions(url=url))


async def test_a_server_that_will_do(redis_url: str, colour: Colour, caplog: pytest.LogCaptureFixture) -> None:
    """It is opened, pinged and closed, without a word."""
    provider = backed(redis_url)
    await provider.open()
    await provider.ping()
    await provider.close()
    assert caplog.records == []
    assert provider.address == redis_url


@pytest.mark.parametrize(("eviction", "policy"), WARNINGS)
def test_a_policy_that_does_not_fit_is_warned_about(
    own_redis: RedisServer, eviction: Eviction, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Where there is a limit to reach; without one the policy means nothing."""
    provider = backed(own_redis.url, eviction)
    tell(own_redis.url, "CONFIG", "SET", "maxmemory-policy", policy)
    drive(provider.open())
    assert caplog.text == ""
    tell(own_redis.url, "CONFIG", "SET", "maxmemory", "100mb")
    drive(provider.open())
    expected = WARNINGS[eviction, policy]
    assert expected in caplog.text
    assert len(caplog.records) == bool(expected)
    drive(provider.close())


def test_a_server_that_tells_nothing_of_itself_will_do(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Where INFO is not allowed, its version is taken on trust."""
    caplog.set_level(logging.INFO, "pilotis.redis")
    tell(own_redis.url, "ACL", "SETUSER", "shy", "on", ">pw", "~*", "+@all", "-info")
    provider = backed(own_redis.url.replace("redis://", "redis://shy:pw@"))
    drive(provider.open())
    assert "does not allow INFO" in caplog.text
    assert "pw" not in caplog.text
    drive(provider.close())


@pytest.mark.parametrize("version", ["6.2.14", "5.0", "2.8.17"])
def test_an_old_server_is_refused(version: str) -> None:
    """With its version and the one it takes."""
    with pytest.raises(OperationError, match=rf"expected Redis 7\.0 or newer at redis://h, got {version}"):
        check_version({"redis_version": version})


@pytest.mark.parametrize("version", ["7.0.0", "7.0.15", "8.4.0", "10.0.1", "unstable"])
def test_a_newer_server_will_do(version: str) -> None:
    """One that does not tell numbers, too."""
    check_version({"redis_version": version})


def check_version(facts: dict[str, Any]) -> None:
    startup._check_version(facts, "redis://h")  # pyright: ignore[reportPrivateUsage] - no old server is at hand


def test_a_failed_start_leaves_nothing_behind(own_redis: RedisServer) -> None:
    """It may be opened again once the server is there."""
    provider = backed(own_redis.url)
    own_redis.stop()
    with pytest.raises(redis.ConnectionError):
        drive(provider.open())
    drive(provider.close())
    own_redis.start()
    drive(provider.open())
    drive(provider.close())
