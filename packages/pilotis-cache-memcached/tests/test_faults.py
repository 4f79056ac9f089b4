"""A Memcached that restarts, hangs or is full while a cache is in use."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from pilotis.bridge import drive
from pilotis.errors import ConnectionFailedError, OperationTimeoutError
from pilotis.modules.cache import Cache
from pilotis.providers import Context, Entry
from pilotis_cache_memcached import MemcachedCache, MemcachedCacheOptions
from pilotis_testing import Colour
from pilotis_testing.colours import together
from pilotis_testing.loads import under_load
from pilotis_testing.servers import MemcachedServer, empty_memcached
from pymemcache import Client, MemcacheUnexpectedCloseError  # pyright: ignore[reportMissingTypeStubs]


@pytest.fixture
def cache(own_memcached: MemcachedServer, colour: Colour) -> Iterator[Any]:
    """A cache that is soon out of patience, speaking in the colour of the test."""
    context = Context(name="shop")
    url = f"memcached://{own_memcached.address}"
    cache = Cache(MemcachedCache(MemcachedCacheOptions(url=url, timeout=1, connect_timeout=1)), context=context)
    yield colour.voice(cache)
    cache.close()
    context.runtime.stop()


async def answers(cache: Any) -> None:
    """Wait until the cache works again: it leaves a server alone for a while that failed."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        await cache.set("probe", 1)
        if await cache.get("probe") == 1:
            return
        time.sleep(0.01)
    raise AssertionError("the cache did not recover")


async def test_a_restart_in_the_middle_of_a_load(cache: Any, own_memcached: MemcachedServer) -> None:
    """Reads miss and writes drop, nothing else fails but with a lost connection, and all is well afterwards."""
    assert await under_load(cache, own_memcached.restart) == []
    await answers(cache)


async def test_a_server_that_hangs_is_a_miss_within_the_time_out(cache: Any, own_memcached: MemcachedServer) -> None:
    """Verbs that cannot be honest raise; once the server goes on, no caller gets the answer to another one."""
    await cache.set_many({"k": "right", "other": "wrong"})
    own_memcached.pause()
    begun = time.monotonic()
    with pytest.raises(OperationTimeoutError, match=r"cache provider 'MemcachedCache' \(memcached://127"):
        await cache.increment("n")
    assert await cache.get("other", "default") == "default"
    assert await cache.get_or_set("other", lambda: 5) == 5
    assert time.monotonic() - begun < 20
    own_memcached.resume()
    await answers(cache)
    assert ["right"] * 20 == await together(*[lambda: cache.get("k")] * 20)


async def test_a_server_that_is_gone_is_a_miss_until_it_is_back(cache: Any, own_memcached: MemcachedServer) -> None:
    """Killed, not asked to end; nothing that it had comes back, and the same cache goes on with the next one."""
    await cache.set("k", 1)
    own_memcached.kill()
    assert await cache.get("k", "default") == "default"
    with pytest.raises(ConnectionFailedError):
        await cache.delete("k")
    own_memcached.start()
    await answers(cache)
    assert await cache.get("k") is None
    await cache.set("k", 2)
    assert await cache.get("k") == 2


def test_idle_connections_do_not_outlive_a_restart(own_memcached: MemcachedServer) -> None:
    """One call finds out that they are dead, and takes all of them along; logs begin anew as well."""
    provider = MemcachedCache(MemcachedCacheOptions(url=f"memcached://{own_memcached.address}"))
    drive(provider.write([Entry("k", b"1", None)]))
    node = provider._only.node  # pyright: ignore[reportPrivateUsage, reportOptionalMemberAccess]
    node.call(lambda _: node.call(lambda _: node.call(lambda client: client.version())))
    own_memcached.restart()
    with pytest.raises(MemcacheUnexpectedCloseError):
        drive(provider.read(["k"]))
    drive(provider.write([Entry("k", b"2", None)]))
    values = node.call(lambda _: node.call(lambda _: drive(provider.read(["k"]))))
    assert values == [b"2"]
    drive(provider.close())


async def test_a_full_server_evicts_and_never_goes_back(cache: Any, own_memcached: MemcachedServer) -> None:
    """Whatever it drops, a log too, what was removed stays removed."""
    own_memcached.options = ("-m", "2")
    own_memcached.restart()
    await answers(cache)
    await cache.set_many({f"old:{number}": number for number in range(200)}, ttl=None)
    await cache.invalidate("old:*")
    for number in range(400):
        await cache.namespace("filler").set(f"{number}", "x" * 20_000, ttl=None)
    assert 0 < evictions(own_memcached) < 400
    assert await cache.get_many([f"old:{number}" for number in range(200)]) == {}
    await cache.set("old:1", "new")
    assert await cache.get_many([f"old:{number}" for number in range(200)]) in ({"old:1": "new"}, {})


def evictions(server: MemcachedServer) -> int:
    client: Any = Client(("127.0.0.1", server.port))
    try:
        return client.stats()[b"evictions"]
    finally:
        client.close()


async def test_a_flush_by_somebody_else_is_a_miss(cache: Any, own_memcached: MemcachedServer) -> None:
    """The cache begins anew by itself."""
    await cache.set("k", 1, tags=["t"])
    empty_memcached(own_memcached.address)
    assert await cache.get("k") is None
    assert await cache.get_or_set("k", lambda: 2, tags=["t"]) == 2
    assert await cache.get_or_set("k", lambda: 3, tags=["t"]) == 2
