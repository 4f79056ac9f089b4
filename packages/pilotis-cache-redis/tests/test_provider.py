"""The Redis provider's own: what it sends, what it leaves alone, and how settings reach it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from importlib.metadata import entry_points
from typing import Any

import pytest
from pilotis import Pilotis
from pilotis.bridge import drive
from pilotis.errors import ConfigurationError, ConnectionFailedError, InvalidInputError
from pilotis.providers import Entry
from pilotis_cache_redis import RedisCache, RedisCacheOptions
from pilotis_cache_redis.plugin import pilotis_provider
from pilotis_testing import Colour
from pilotis_testing.clock import until
from pilotis_testing.redis import tell
from pilotis_testing.servers import free_port

DAY = 86_400
ONE_TRIP: dict[str, Callable[[RedisCache], Coroutine[Any, Any, object]]] = {
    "read": lambda cache: cache.read([f"k{number}" for number in range(100)]),
    "write": lambda cache: cache.write([Entry(f"k{number}", b"1", 60) for number in range(100)]),
    "write one": lambda cache: cache.write([Entry("k", b"1", None)]),
    "add": lambda cache: cache.write([Entry("k", b"1", 60), Entry("n", b"1", 60)], only_absent=True),
    "remove": lambda cache: cache.remove([f"k{number}" for number in range(100)]),
    "count": lambda cache: cache.count("n", 1, None),
    "count for a while": lambda cache: cache.count("n", 1, 60),
    "expire": lambda cache: cache.expire("k", 60),
    "keep for good": lambda cache: cache.expire("k", None),
}


@pytest.fixture
def cache(redis_url: str, colour: Colour) -> Any:
    """The provider."""
    provider = RedisCache(RedisCacheOptions(url=redis_url))
    yield provider
    drive(provider.close())


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix", "redis+sentinel", "redis+cluster"])
def test_the_plugin_names_the_provider(scheme: str) -> None:
    """Under each scheme that a URL may have."""
    assert pilotis_provider() is RedisCache
    (found,) = [entry for entry in entry_points(group="pilotis.cache") if entry.name == scheme]
    assert found.value == "pilotis_cache_redis.plugin"


@pytest.mark.parametrize("verb", ONE_TRIP)
async def test_each_verb_is_one_round_trip(cache: RedisCache, verb: str) -> None:
    """However many entries it is about: the server reads once more than it does for the question how often it did."""

    async def reads() -> int:
        return (await cache.link.execute("INFO", "stats"))["total_reads_processed"]

    await ONE_TRIP[verb](cache)
    before = await reads()
    await ONE_TRIP[verb](cache)
    assert await reads() - before == 2


async def test_entries_are_plain_texts_with_a_ttl(cache: RedisCache, redis_url: str) -> None:
    """In milliseconds, rounded, and at least one; a hundred years are no more trouble than a month."""
    lasting = {"a": 0.0001, "b": 0.0306, "c": 31 * DAY, "d": 36_500 * DAY}
    await cache.write([Entry(key, b"1", ttl) for key, ttl in lasting.items()])
    await cache.write([Entry("good", b"1", None)])
    assert tell(redis_url, "TYPE", "good") == b"string"
    assert tell(redis_url, "PTTL", "good") == -1
    assert tell(redis_url, "PTTL", "b") <= 31
    for key in ("c", "d"):
        assert lasting[key] * 1000 - 5000 < tell(redis_url, "PTTL", key) <= lasting[key] * 1000


async def test_the_server_ends_entries_by_its_own_clock(cache: RedisCache, redis_url: str) -> None:
    """Those that were written, counted and prolonged."""
    await cache.write([Entry("written", b"1", 0.03), Entry("prolonged", b"1", None)])
    await cache.count("counted", 1, 0.03)
    await cache.expire("prolonged", 0.03)
    until(lambda: tell(redis_url, "DBSIZE") == 0, 5)
    assert await cache.read(["written", "counted", "prolonged"]) == [None] * 3


async def test_what_is_no_text_is_no_entry(cache: RedisCache, redis_url: str) -> None:
    """Somebody else's list under our key is a miss, makes room for what is written or added, and is no number."""
    for key in ("read", "set", "added", "counted", "removed"):
        tell(redis_url, "RPUSH", key, "theirs")
    assert await cache.read(["read", "none"]) == [None, None]
    assert await cache.write([Entry("set", b"1", None)]) == [True]
    assert await cache.write([Entry("added", b"1", None), Entry("new", b"1", None)], only_absent=True) == [True, True]
    for ttl in (None, 60):
        with pytest.raises(Exception, match="WRONGTYPE") as caught:
            await cache.count("counted", 1, ttl)
        assert cache.classify(caught.value) is InvalidInputError
    assert await cache.remove(["removed"]) == 1
    assert await cache.read(["set", "added", "new"]) == [b"1"] * 3


async def test_a_flushed_script_is_no_trouble(cache: RedisCache, redis_url: str) -> None:
    """The number is counted once."""
    assert await cache.count("n", 1, 60) == 1
    tell(redis_url, "SCRIPT", "FLUSH")
    assert await cache.count("n", 1, 60) == 2


def test_an_app_takes_it_by_its_url(redis_url: str) -> None:
    """With portable settings and options side by side; the backend is shared, so the app must have a name."""
    with Pilotis({"name": "shop", "cache": {"url": redis_url, "default_ttl": 9, "max_connections": 3}}) as app:
        app.cache.set("k", {"a": 1})
        assert app.cache.get("k") == {"a": 1}
        assert 8000 < tell(redis_url, "PTTL", "shop::k") <= 9000
    with pytest.raises(ConfigurationError, match="name"), Pilotis({"cache": redis_url}):
        pass


def test_processes_see_one_another(redis_url: str) -> None:
    """What one writes another reads, invalidates and counts on."""
    settings = {"name": "shop", "cache": redis_url}
    with Pilotis(settings) as one, Pilotis(settings) as other, Pilotis({**settings, "name": "blog"}) as foreign:
        one.cache.set("k", 1, tags=["t"])
        assert (other.cache.get("k"), foreign.cache.get("k")) == (1, None)
        other.cache.invalidate_tags("t")
        assert one.cache.get("k") is None
        assert [1, 2] == [one.cache.increment("n"), other.cache.increment("n")]
        foreign.cache.set("k", 2)
        one.cache.clear()
        assert (other.cache.get("n"), foreign.cache.get("k")) == (None, 2)


def test_an_app_that_cannot_reach_it_says_where_it_is() -> None:
    """Module, provider and address, without the password."""
    port = free_port()
    app = Pilotis({"name": "shop", "cache": f"redis://ada:hidden@127.0.0.1:{port}/2"})
    with pytest.raises(
        ConnectionFailedError, match=rf"cache provider 'redis' \(redis://127.0.0.1:{port}/2\)"
    ) as caught:
        app.open()
    assert "hidden" not in str(caught.value)
