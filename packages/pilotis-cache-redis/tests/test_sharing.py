"""Modules whose url is the same name under `[connections]` have their connections to Redis in common."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import redis
import redis.asyncio
from pilotis import Cache, Pilotis
from pilotis_testing import Colour
from pilotis_testing.colours import together
from pilotis_testing.redis import tell

MINE = {"url": "main", "client_name": "mine"}


def settings(url: str, second: dict[str, Any]) -> dict[str, Any]:
    """Return those of an app with two caches, the second one of which is `other`."""
    return {"name": "shop", "connections": {"main": url}, "cache": {**MINE, "instances": {"other": second}}}


@asynccontextmanager
async def two_caches(colour: Colour, url: str, second: dict[str, Any] = MINE) -> AsyncGenerator[tuple[Any, Any]]:
    """Yield both, speaking in the colour, and opened one after the other by their first use."""
    app = Pilotis(settings(url, second))
    caches = colour.voice(app.module("cache")), colour.voice(app.module("cache", "other"))
    for number, cache in enumerate(caches):
        await cache.set(f"k{number}", number)
    yield caches
    await colour.voice(app).close()


def ours(url: str) -> set[str]:
    """Return the ids of the connections that are named so; those of blocking use and of loops."""
    return {client["id"] for client in tell(url, "CLIENT LIST") if client["name"] == "mine"}


async def test_they_use_one_pool(redis_url: str, colour: Colour) -> None:
    """Also many callers at once: no more connections than one pool may have."""
    few = MINE | {"max_connections": 3}
    app = Pilotis({"name": "shop", "connections": {"main": redis_url}, "cache": few | {"instances": {"other": few}}})
    async with colour.voice(app) as app:
        caches = [app.module("cache"), app.module("cache", "other")]
        kind = redis.Redis if colour is Colour.BLOCKING else redis.asyncio.Redis
        assert caches[0].native(kind) is caches[1].native(kind)
        await together(*[lambda cache=cache: cache.increment("n", ttl=None) for cache in caches * 20])
        assert 40 == await caches[0].get("n")
        assert 1 <= len(ours(redis_url)) <= 3
    assert set() == ours(redis_url)


async def test_one_after_the_other_they_use_one_connection(redis_url: str, colour: Colour) -> None:
    """That is all there is."""
    async with two_caches(colour, redis_url):
        assert 1 == len(ours(redis_url))


@pytest.mark.parametrize("second", ["options", "url"])
async def test_others_have_a_pool_of_their_own(redis_url: str, colour: Colour, second: str) -> None:
    """Who sets something else about the same connection, or writes its url out."""
    other = MINE | ({"max_connections": 7} if second == "options" else {"url": redis_url})
    async with two_caches(colour, redis_url, other):
        assert 2 == len(ours(redis_url))


async def test_one_that_is_closed_leaves_the_other_its_connections(redis_url: str, colour: Colour) -> None:
    """They are the same as before. The last one closes them."""
    async with two_caches(colour, redis_url) as (first, second):
        before = ours(redis_url)
        await first.close()
        await first.close()
        assert 1 == await second.get("k1")
        assert before == ours(redis_url)
        await second.close()
        assert set() == ours(redis_url)


async def test_one_that_was_never_opened_closes_nothing(redis_url: str, colour: Colour) -> None:
    """It has nothing to close."""
    app = Pilotis(settings(redis_url, MINE))
    first, second = (colour.voice(app.module("cache", name)) for name in ("default", "other"))
    await first.set("k", 1)
    before = ours(redis_url)
    await second.close()
    assert 1 == await first.get("k")
    assert before == ours(redis_url)
    await first.close()


async def test_an_override_has_connections_of_its_own(redis_url: str, colour: Colour) -> None:
    """Its end leaves those of the app."""
    app = Pilotis(settings(redis_url, MINE))
    async with colour.voice(app):
        caches = [colour.voice(app.module("cache", name)) for name in ("default", "other")]
        before = ours(redis_url)
        async with colour.voice(app.override({"cache": {"default_ttl": 5}})):
            for cache in caches:
                await cache.set("k", 2)
            theirs = ours(redis_url) - before
            assert theirs
        assert before == ours(redis_url)
        assert [2, 2] == [await cache.get("k") for cache in caches]
        assert before == ours(redis_url)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_after_a_fork_parent_and_child_have_connections_of_their_own(redis_url: str) -> None:
    """Closing one module in the child leaves the child's other one, and all of the parent's."""
    with Pilotis(settings(redis_url, MINE)) as app:
        first, second = app.cache, cast("Cache", app.module("cache", "other"))
        first.set("k", 1)
        before = ours(redis_url)

        def in_child() -> None:
            assert [1, 1] == [first.get("k"), second.get("k")]
            theirs = ours(redis_url) - before
            assert 1 == len(theirs)
            first.close()
            assert 1 == second.get("k")
            assert before | theirs == ours(redis_url)

        assert 0 == exit_code_of(in_child)
        assert [1, 1] == [first.get("k"), second.get("k")]
        assert before == ours(redis_url)


def exit_code_of(action: Callable[[], None]) -> int:
    """Return that of a child process which does something on a thread of its own."""

    def act() -> None:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)

    child = os.fork()
    if child == 0:
        signal.alarm(10)
        threading.Thread(target=act).start()
        signal.pause()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
