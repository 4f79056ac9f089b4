"""The Memcached provider's own: names, times, sizes, several servers, and how settings reach it."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

import pytest
from pilotis import Pilotis
from pilotis.bridge import drive, gather
from pilotis.errors import (
    ConfigurationError,
    ConnectionFailedError,
    InvalidInputError,
    OperationTimeoutError,
    StorageFullError,
)
from pilotis.modules.cache import Cache
from pilotis.providers import Context, Entry
from pilotis.settings.model import CacheSettings
from pilotis_cache_memcached import MemcachedCache, MemcachedCacheOptions
from pilotis_cache_memcached.plugin import pilotis_provider
from pilotis_cache_memcached.records import MONTH, expiry, item_name, log_name
from pilotis_testing import Colour, ManualClock
from pilotis_testing.servers import MemcachedServer, free_port
from pymemcache import exceptions  # pyright: ignore[reportMissingTypeStubs]

DAY = 86_400
KIB = 1024


@pytest.fixture
def cache(memcached_address: str, colour: Colour) -> Iterator[MemcachedCache]:
    """The provider."""
    provider = MemcachedCache(MemcachedCacheOptions(url=f"memcached://{memcached_address}"))
    yield provider
    drive(provider.close())


def seconds_left(server: Any, name: str) -> int:
    """Return the seconds that Memcached gives an item; -1 for good."""
    answer = server.raw_command(b"mg %s t" % name.encode())
    assert answer.startswith(b"HD t"), answer
    return int(answer[4:])


def commands(server: Any) -> dict[bytes, int]:
    """Return how often something was written, prolonged and flushed."""
    stats = server.stats()
    return {name: stats[name] for name in (b"cmd_set", b"cmd_touch", b"cmd_flush")}


def test_the_plugin_names_the_provider() -> None:
    """Under the scheme of its URL."""
    assert pilotis_provider() is MemcachedCache
    (found,) = [entry for entry in entry_points(group="pilotis.cache") if entry.name == "memcached"]
    assert found.value == "pilotis_cache_memcached.plugin"


# Times


@pytest.mark.parametrize(
    ("ttl", "told"),
    [
        (0.001, 2),
        (1, 2),
        (1.5, 3),
        (MONTH - 1, MONTH),
        (MONTH, 1_000_000 + MONTH + 1),
        (31 * DAY, 1_000_000 + 31 * DAY + 1),
        (100 * 365 * DAY, 0),
        (math.inf, 0),
    ],
)
def test_what_memcached_is_told(ttl: float, told: int) -> None:
    """Whole seconds, never too few; from 30 days on a point in time, and nothing beyond what it can hold."""
    assert told == expiry(1_000_000 + ttl, 1_000_000)


async def test_memcached_ends_items_as_well(cache: MemcachedCache, server: Any) -> None:
    """A month and a day too; without a ttl it never does."""
    lasting = {"short": 0.001, "long": 20 * DAY, "longer": 31 * DAY}
    await cache.write([Entry(key, b"1", ttl) for key, ttl in lasting.items()])
    await cache.write([Entry("good", b"1", None)])
    assert seconds_left(server, "good") == -1
    assert seconds_left(server, "short") <= 2
    for key in ("long", "longer"):
        assert 0 <= seconds_left(server, key) - lasting[key] <= 5  # its clock may lag behind
    await cache.expire("good", 40 * DAY)
    await cache.expire("longer", None)
    assert 0 <= seconds_left(server, "good") - 40 * DAY <= 5
    assert seconds_left(server, "longer") == -1


async def test_parts_of_a_second_count(cache: MemcachedCache) -> None:
    """An entry ends when it says, by the clock of the app, and not with Memcached's next second."""
    clock = ManualClock()
    cache.context = Context(name="shop", clock=clock)
    await cache.write([Entry("k", b"1", 0.5)])
    clock.advance(0.49)
    assert await cache.read(["k"]) == [b"1"]
    clock.advance(0.01)
    assert await cache.read(["k"]) == [None]


async def test_a_clock_that_jumps_moves_the_end(cache: MemcachedCache) -> None:
    """Forward, what was to last is over; back, Memcached still ends it by its own clock."""
    clock = ManualClock()
    cache.context = Context(name="shop", clock=clock)
    await cache.write([Entry("k", b"1", 60), Entry("good", b"1", None)])
    clock.jump(3600)
    assert await cache.read(["k", "good"]) == [None, b"1"]
    clock.jump(-7200)
    assert await cache.read(["k", "good"]) == [b"1", b"1"]


# Names and sizes


@pytest.mark.parametrize("key", ["a:b:c", "x" * 250, "%61{}\\", "!"])
def test_a_fit_key_is_itself(key: str) -> None:
    """So that it can be read on the server."""
    assert key == item_name(key)


@pytest.mark.parametrize(
    "key", ["a b", "a\nb", "a\r\nset x 0 0 1", "ä", "\U0001f600", "x" * 251, "x" * 10 * KIB, "~a", "", "\x7f", "\ud800"]
)
def test_an_unfit_key_is_mapped(key: str) -> None:
    """To one that Memcached takes; no other key has it, not even one that looks like it."""
    name = item_name(key)
    assert len(name) <= 250
    assert name.isascii()
    assert name.isprintable()
    assert " " not in name
    assert len({name, item_name(name), item_name(key + "a"), log_name(key), item_name(log_name(key))}) == 5


async def test_odd_keys_are_kept_apart(cache: MemcachedCache) -> None:
    """Also from the names that they are mapped to."""
    keys = ["a b", "a\nb", "\U0001f600", "x" * 10 * KIB, "x" * 10 * KIB + "x"]
    keys += [item_name(key) for key in keys]
    await cache.write([Entry(key, str(index).encode(), 60) for index, key in enumerate(keys)])
    assert [str(index).encode() for index in range(len(keys))] == await cache.read(keys)


async def test_a_value_over_the_item_limit_is_refused(memcached_address: str, colour: Colour) -> None:
    """With an error that says so, and the old value is gone, as is usual with Memcached; the connection goes on."""
    context = Context(name="shop")
    owner = Cache(MemcachedCache(MemcachedCacheOptions(url=f"memcached://{memcached_address}")), context=context)
    cache = colour.voice(owner)
    await cache.set("k", "small")
    with pytest.raises(InvalidInputError, match="object too large"):
        await cache.set("k", "x" * 2 * KIB * KIB)
    await cache.set("other", 1)
    assert await cache.get_many(["k", "other"]) == {"other": 1}
    await cache.close()


async def test_a_value_over_the_item_limit_may_be_a_miss(memcached_address: str, colour: Colour) -> None:
    """By setting: the claim is given back, and who comes next computes."""
    context = Context(name="shop")
    provider = MemcachedCache(MemcachedCacheOptions(url=f"memcached://{memcached_address}"))
    settings = CacheSettings(max_value_bytes=1_000_000, on_too_long="miss")
    cache = colour.voice(Cache(provider, settings=settings, context=context))
    for _ in range(2):
        assert 2 * KIB * KIB == len(await cache.get_or_set("k", lambda: "x" * 2 * KIB * KIB))
        assert {"a", "b"} == set(await cache.get_or_set_many(["a", "b"], too_long))
        assert [None] * 3 == await provider.read(["shop::k", "shop::a", "shop::b"])
    assert (6, 4) == (cache.stats().too_long, cache.stats().factory_calls)
    await cache.close()
    context.runtime.stop()


def too_long(keys: list[str]) -> dict[str, str]:
    """Values that Memcached does not take."""
    return dict.fromkeys(keys, "x" * 2 * KIB * KIB)


async def test_a_computed_value_over_the_item_limit_holds_up_nobody(memcached_address: str, colour: Colour) -> None:
    """Its caller is told; the claim is given back, so that the next one need not wait for its end."""
    context = Context(name="shop")
    provider = MemcachedCache(MemcachedCacheOptions(url=f"memcached://{memcached_address}"))
    cache = colour.voice(Cache(provider, context=context))
    with pytest.raises(InvalidInputError, match="object too large"):
        await cache.get_or_set("k", lambda: "x" * 2 * KIB * KIB)
    with pytest.raises(InvalidInputError, match="object too large"):
        await cache.get_or_set_many(["a", "b"], too_long)
    assert [None] * 3 == await provider.read(["shop::k", "shop::a", "shop::b"])
    await cache.close()
    context.runtime.stop()


async def test_what_somebody_else_wrote_is_no_entry(cache: MemcachedCache, server: Any) -> None:
    """A bare value under one of our names is a miss, and makes room."""
    for key in ("read", "added", "counted", "touched"):
        server.set(key, b"theirs")
    assert await cache.read(["read"]) == [None]
    assert await cache.write([Entry("added", b"1", None)], only_absent=True) == [True]
    assert await cache.count("counted", -2, None) == -2
    assert await cache.expire("touched", 60) is False
    assert await cache.read(["added", "counted"]) == [b"1", b"-2"]


async def test_a_read_is_one_request(cache: MemcachedCache, server: Any) -> None:
    """The log of patterns comes with the entries."""
    keys = [f"a:n:{number}" for number in range(100)]
    await cache.write([Entry(key, b"1", 60) for key in keys])
    before, written = server.stats(), commands(server)
    assert await cache.read(keys) == [b"1"] * 100
    after = server.stats()
    assert after[b"get_hits"] - before[b"get_hits"] == 101
    assert commands(server) == written


# Connections


async def test_callers_wait_for_a_connection(memcached_address: str) -> None:
    """More of them than connections are served one after the other."""
    options = MemcachedCacheOptions(url=f"memcached://{memcached_address}", max_connections=2)
    cache = MemcachedCache(options)
    await cache.write([Entry("k", b"1", None)])
    assert [[b"1"]] * 30 == await gather(*(cache.read(["k"]) for _ in range(30)))
    await cache.close()


def test_who_waits_too_long_for_a_connection_is_told(memcached_address: str) -> None:
    """After the time-out, naming the server."""
    options = MemcachedCacheOptions(url=f"memcached://{memcached_address}", max_connections=1, timeout=0.02)
    node = MemcachedCache(options)._only  # pyright: ignore[reportPrivateUsage]
    assert node is not None
    with pytest.raises(TimeoutError, match=rf"all 1 connections to {memcached_address} are in use"):
        node.node.call(lambda _: node.read(["k"]))


def test_a_child_process_has_connections_of_its_own(memcached_address: str) -> None:
    """Parent and child do not read each other's answers."""
    with Pilotis({"name": "shop", "cache": f"memcached://{memcached_address}"}) as app:
        app.cache.set_many({"mine": "parent", "yours": "child"})
        child = os.fork()
        if child == 0:
            wrong = sum(app.cache.get("yours") != "child" for _ in range(200))
            os._exit(int(wrong > 0))
        assert ["parent"] * 200 == [app.cache.get("mine") for _ in range(200)]
        assert os.waitpid(child, 0)[1] == 0


# Several servers


async def test_keys_are_spread_over_servers(
    memcached_address: str, other_memcached_address: str, colour: Colour
) -> None:
    """Each is on one, which does not depend on the order in the URL, and answers come back in order."""
    places = [memcached_address, other_memcached_address]
    one, other = (
        MemcachedCache(MemcachedCacheOptions(url=f"memcached://{','.join(order)}")) for order in (places, places[::-1])
    )
    keys = [f"k{number}" for number in range(100)]
    await one.write([Entry(key, key.encode(), 60) for key in keys])
    assert [key.encode() for key in keys] == await other.read(keys)
    alone = MemcachedCache(MemcachedCacheOptions(url=f"memcached://{memcached_address}"))
    assert 20 < sum(value is not None for value in await alone.read(keys)) < 80
    assert await other.remove([*keys, "none", "k0"]) == 100
    for provider in (one, other, alone):
        await provider.close()


# Errors and settings


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (exceptions.MemcacheUnexpectedCloseError(), ConnectionFailedError),
        (exceptions.MemcacheIllegalInputError("Key contains space"), InvalidInputError),
        (exceptions.MemcacheServerError(b"object too large for cache"), InvalidInputError),
        (exceptions.MemcacheServerError(b"out of memory storing object"), StorageFullError),
        (exceptions.MemcacheServerError(b"something else"), None),
        (exceptions.MemcacheUnknownError(b"?"), None),
        (TimeoutError(), OperationTimeoutError),
        (ConnectionResetError(), ConnectionFailedError),
        (OSError(113, "No route to host"), ConnectionFailedError),
        (ValueError(), None),
    ],
    ids=repr,
)
def test_errors_of_pymemcache_are_known(error: Exception, ours: type[Exception] | None) -> None:
    """Each is one of ours, where it says enough."""
    assert ours is MemcachedCache().classify(error)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "memcached://a:b:c",
        "memcached://a:0",
        "memcached://a:99999",
        "memcached://a,a",
        "memcached://a,",
        "memcached://a/1",
        "memcached://a?x=1",
        "memcached://[::1",
    ],
)
def test_an_unfit_url_is_refused(url: str) -> None:
    """Showing the form that it should have."""
    with pytest.raises(InvalidInputError, match=r"url: "):
        MemcachedCacheOptions(url=url)


def test_a_password_is_refused_and_not_shown() -> None:
    """There is nothing to do with it."""
    with pytest.raises(InvalidInputError, match="no user and password") as caught:
        MemcachedCacheOptions(url="memcached://ada:hidden@localhost")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"connect_timeout": -1}, {"max_connections": 0}], ids=repr)
def test_unfit_numbers_are_refused(options: dict[str, Any]) -> None:
    """By name."""
    with pytest.raises(InvalidInputError, match=next(iter(options))):
        MemcachedCacheOptions(**options)


def test_a_client_of_the_callers_is_refused() -> None:
    """Rather than left unused."""
    with pytest.raises(ConfigurationError, match="expected no client"):
        MemcachedCache(client=object())


def test_the_address_names_every_server() -> None:
    """With the ports that the URL leaves out."""
    cache = MemcachedCache(MemcachedCacheOptions(url="memcached://one,[::1]:5/"))
    assert cache.address == "memcached://one:11211,[::1]:5"


def test_an_app_takes_it_by_its_url(memcached_address: str, server: Any) -> None:
    """With portable settings and options side by side; the backend is shared, so the app must have a name."""
    url = f"memcached://{memcached_address}"
    with Pilotis({"name": "shop", "cache": {"url": url, "default_ttl": 9, "max_connections": 3}}) as app:
        app.cache.set("k", {"a": 1})
        assert app.cache.get("k") == {"a": 1}
        assert 9 <= seconds_left(server, "shop::k") <= 11
    with pytest.raises(ConfigurationError, match="name"), Pilotis({"cache": url}):
        pass


def test_an_app_that_cannot_reach_it_says_where_it_is(own_memcached: MemcachedServer) -> None:
    """Also if one server of several is missing."""
    missing = f"127.0.0.1:{free_port()}"
    app = Pilotis({"name": "shop", "cache": f"memcached://{own_memcached.address},{missing}"})
    with pytest.raises(ConnectionFailedError, match=rf"cache provider 'memcached' \(memcached://.*,{missing}\)"):
        app.open()


def count_up(app: Pilotis) -> None:
    for _ in range(50):
        app.cache.increment("n")


def test_processes_see_one_another(memcached_address: str) -> None:
    """What one writes another reads, invalidates and counts on, from threads of both."""
    settings = {"name": "shop", "cache": f"memcached://{memcached_address}"}
    with Pilotis(settings) as one, Pilotis(settings) as other, Pilotis({**settings, "name": "blog"}) as foreign:
        one.cache.set("k", 1, tags=["t"])
        assert (other.cache.get("k"), foreign.cache.get("k")) == (1, None)
        other.cache.invalidate_tags("t")
        assert one.cache.get("k") is None
        threads = [threading.Thread(target=count_up, args=(app,)) for app in (one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert one.cache.get("n") == 100
        foreign.cache.set("k", 2)
        assert one.cache.invalidate("*") is None
        assert (other.cache.get("n"), foreign.cache.get("k")) == (None, 2)
