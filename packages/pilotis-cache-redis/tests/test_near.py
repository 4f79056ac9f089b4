"""The Redis provider behind a near cache: all that a cache must do, and faults of a real server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import redis
from pilotis.errors import ConfigurationError
from pilotis.modules.cache import Cache
from pilotis.providers import CacheCapability, Context
from pilotis.settings import CacheSettings, NearSettings
from pilotis.settings.secrets import Secret
from pilotis_cache_redis import RedisCache, RedisCacheOptions
from pilotis_testing import Colour
from pilotis_testing.cache import CacheConformance
from pilotis_testing.cache_near import at_hand, becomes
from pilotis_testing.clock import until
from pilotis_testing.colours import soon, together
from pilotis_testing.processes import started
from pilotis_testing.redis import RedisClock, tell
from pilotis_testing.servers import RedisServer

TIMEOUT = 0.2


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


class Process:
    """What a process has: a cache, near or not, and a voice for it."""

    def __init__(
        self, url: str, colour: Colour, near: NearSettings | bool, secret: str | None = None, **options: Any
    ) -> None:
        given: dict[str, Any] = {"url": url, "timeout": TIMEOUT} | options
        provider = RedisCache(RedisCacheOptions(**given))
        settings = CacheSettings(near=near, breaker_pause=0.05, secret=Secret(secret) if secret else None)
        self.cache = Cache(provider, settings=settings, context=Context(name="shop"))
        self.voice: Any = colour.voice(self.cache)

    @property
    def is_live(self) -> bool:
        """Whether changes are told at this moment."""
        near = self.cache._near  # pyright: ignore[reportPrivateUsage]
        return near is not None and near.tier.is_live

    def close(self) -> None:
        self.cache.close()
        self.cache.context.runtime.stop()


Make = Callable[..., Process]


@pytest.fixture
def make(own_redis: RedisServer, colour: Colour) -> Iterator[Make]:
    """What makes caches as processes of their own would have them, and closes them after the test."""
    made: list[Process] = []

    def add(near: NearSettings | bool = False, **options: Any) -> Process:
        made.append(Process(own_redis.url, colour, near, **options))
        return made[-1]

    yield add
    for process in made:
        process.close()


async def live(make: Make, **options: Any) -> Process:
    """Return one with a near cache that is told of changes, and would keep what it has for an hour."""
    process = make(near=NearSettings(ttl=3600), **options)
    await process.voice.open()
    await soon(lambda: process.is_live)
    return process


def kill_connection(server: RedisServer) -> None:
    """Kill the connections that hear of changes."""
    assert tell(server.url, "CLIENT", "KILL", "TYPE", "PUBSUB") >= 1


def restart(server: RedisServer) -> None:
    server.restart()


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("break_off", [kill_connection, restart])
async def test_everything_is_dropped_when_the_connection_breaks(
    own_redis: RedisServer, make: Make, break_off: Callable[[RedisServer], None], protocol: int
) -> None:
    """And kept again once there is another one; whatever was changed meanwhile is seen."""
    near = await live(make, protocol=protocol)
    await near.voice.set_many({"k": "old", "l": "old"})
    await becomes(lambda: at_hand(near.voice, "k", "l"), True)
    break_off(own_redis)
    await soon(lambda: not near.cache._near.tier._entries)  # pyright: ignore[reportPrivateUsage, reportOptionalMemberAccess]
    tell(own_redis.url, "SET", "shop::k", b"\x01\xa3new")
    await becomes(lambda: near.voice.get("k"), "new")
    await soon(lambda: near.is_live)
    await becomes(lambda: at_hand(near.voice, "k"), True)


async def test_a_frozen_server_is_trusted_for_seconds_only(own_redis: RedisServer, make: Make) -> None:
    """What does not answer may not tell of changes either; when it goes on, all is as before."""
    near = await live(make)
    await near.voice.set("k", "old")
    await becomes(lambda: at_hand(near.voice, "k"), True)
    own_redis.pause()
    await soon(lambda: not near.is_live)
    assert await near.voice.get("k", "default") == "default"
    own_redis.resume()
    await becomes(lambda: near.voice.get("k"), "old")
    await soon(lambda: near.is_live)
    await becomes(lambda: at_hand(near.voice, "k"), True)


async def test_flushing_drops_everything(own_redis: RedisServer, make: Make) -> None:
    """Redis names no keys then."""
    near = await live(make)
    await near.voice.set_many({"k": 1, "l": 2}, ttl=None)
    await becomes(lambda: at_hand(near.voice, "k", "l"), True)
    tell(own_redis.url, "FLUSHALL")
    await becomes(lambda: near.voice.get_many(["k", "l"]), {})


CHANGES: dict[str, Callable[[Cache], object]] = {
    "set": lambda cache: cache.set("k", "new"),
    "delete": lambda cache: cache.delete("k"),
    "invalidate_tags": lambda cache: cache.invalidate_tags("t"),
    "pattern": lambda cache: cache.invalidate("k*"),
    "clear": lambda cache: cache.clear(),
}


def change(url: str, name: str) -> None:
    """Do it in a process of its own."""
    process = Process(url, Colour.BLOCKING, near=True)
    CHANGES[name](process.cache)
    process.close()


@pytest.mark.parametrize("name", CHANGES)
async def test_another_process_is_seen(own_redis: RedisServer, make: Make, name: str) -> None:
    """A real one, whatever it does."""
    near = await live(make)
    await near.voice.set("k", "old", tags=["t"], ttl=None)
    await becomes(lambda: at_hand(near.voice, "k"), True)
    other = started(change, own_redis.url, name)
    await becomes(lambda: near.voice.get("k"), "new" if name == "set" else None)
    other.join(10)
    assert other.exitcode == 0


def read_in_child(process: Process, url: str) -> None:
    """Go on with the cache of the parent process."""
    before = process.cache.stats().near_hits
    assert process.cache.get("k") == 1
    until(lambda: process.is_live)
    until(lambda: process.cache.get("k") == 1 and process.cache.stats().near_hits > before)
    tell(url, "DEL", "shop::k")
    until(lambda: process.cache.get("k") is None)


async def test_a_child_process_begins_anew(own_redis: RedisServer, make: Make) -> None:
    """It hears of changes on a connection of its own; its parent is not disturbed."""
    near = await live(make)
    await near.voice.set("k", 1, ttl=None)
    await becomes(lambda: at_hand(near.voice, "k"), True)
    child = started(read_in_child, near, own_redis.url)
    child.join(20)
    assert child.exitcode == 0
    await becomes(lambda: near.voice.get("k"), None)
    assert near.is_live


async def test_nobody_sees_a_value_go_back(make: Make) -> None:
    """While others count on, what a reader sees grows, and ends where they do."""
    near, other = await live(make, timeout=10), make(timeout=10)
    is_over = threading.Event()
    await other.voice.set("n", 0)

    async def count() -> list[int]:
        try:
            return [await other.voice.increment("n") for _ in range(300)]
        finally:
            is_over.set()

    async def read() -> list[int]:
        seen: list[int] = []
        while not is_over.is_set():
            seen.append(await near.voice.get("n"))
            if len(seen) % 50 == 0:
                await near.voice.get("none")  # which asks the server, and so lets others have their turn
        await becomes(lambda: near.voice.get("n"), 300)
        return seen

    readers = await together(count, read, read, read)
    assert [sorted(seen) for seen in readers] == readers
    await becomes(lambda: at_hand(near.voice, "n"), True)


async def test_what_somebody_spoilt_is_not_served(own_redis: RedisServer, make: Make) -> None:
    """What is at hand is looked at as closely as what comes from the server: signatures and types."""
    near = await live(make, secret="a secret of some length")
    await near.voice.set("k", "good", ttl=None)
    await becomes(lambda: at_hand(near.voice, "k"), True)
    stored = tell(own_redis.url, "GET", "shop::k")
    tell(own_redis.url, "SET", "shop::k", stored[:-1] + b"!")
    await becomes(lambda: near.voice.get("k"), None)
    assert [None, None] == [await near.voice.get("k"), await near.voice.get("k", type=int)]


async def test_who_may_not_track_does_without(
    own_redis: RedisServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """That is logged once, and nothing is kept."""
    tell(own_redis.url, "ACL", "SETUSER", "blind", "on", "nopass", "~*", "&*", "+@all", "-client|tracking")
    blind = make(near=True, username="blind", password=Secret("any"))
    await blind.voice.set("k", 1)
    await soon(lambda: "near cache is off" in caplog.text)
    assert [1, 1] == [await blind.voice.get("k"), await blind.voice.get("k")]
    assert blind.cache.stats().near_hits == 0
    assert caplog.text.count("near cache is off") == 1


async def test_closing_leaves_no_connection(own_redis: RedisServer, make: Make) -> None:
    """The one that hears of changes ends with the cache."""
    near = await live(make)
    await near.voice.close()
    await soon(lambda: tell(own_redis.url, "CLIENT", "LIST", "TYPE", "PUBSUB") == b"")


def test_where_it_cannot_be_had(redis_url: str, redis_cluster_url: str) -> None:
    """Clients that were passed in are not ours to connect, and of a cluster one connection hears of one node."""
    lent = RedisCache(client=cast("Any", redis.Redis).from_url(redis_url))
    cluster = RedisCache(RedisCacheOptions(url=redis_cluster_url))
    for provider in (lent, cluster):
        assert CacheCapability.TRACKING not in provider.capabilities
        with pytest.raises(ConfigurationError, match=r"cache\.near"):
            Cache(provider, settings=CacheSettings(near=True))
