"""Caches whose url is the same name under `[connections]` have their connections to Memcached in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pilotis import Pilotis
from pilotis_testing import Colour
from pilotis_testing.colours import soon
from pymemcache import Client  # pyright: ignore[reportMissingTypeStubs]


class Caches:
    """Two caches of an app, speaking in a colour, and a look at their server."""

    def __init__(self, address: str, colour: Colour, second: dict[str, Any]) -> None:
        host, _, port = address.partition(":")
        self.client: Any = Client((host, int(port)))
        self._others = 0
        self._others = self.connections()
        url = f"memcached://{address}"
        cache = {"url": "main", "instances": {"other": {"url": url} if second == {} else second}}
        self.app = Pilotis({"name": "shop", "connections": {"main": url}, "cache": cache})
        self.first, self.second = (colour.voice(self.app.module("cache", name)) for name in ("default", "other"))

    def connections(self) -> int:
        """Return how many there are beside those from before."""
        return self.client.stats()[b"curr_connections"] - self._others


@pytest.fixture
def make(memcached_address: str, colour: Colour) -> Iterator[Any]:
    """What makes them, with settings for the second one; its url is written out where there are none."""
    made: list[Caches] = []

    def add(second: dict[str, Any]) -> Caches:
        made.append(Caches(memcached_address, colour, second))
        return made[-1]

    yield add
    for caches in made:
        caches.app.close()
        caches.client.close()


async def test_one_that_is_closed_leaves_the_other_its_connections(make: Any) -> None:
    """There is one for both. The last one closes it."""
    caches = make({"url": "main"})
    await caches.first.set("k", 1)
    await caches.second.set("k", 2)
    assert 1 == caches.connections()
    made = caches.client.stats()[b"total_connections"]
    await caches.first.close()
    assert 2 == await caches.second.get("k")
    assert made == caches.client.stats()[b"total_connections"]
    await caches.second.close()
    await soon(lambda: caches.connections() == 0)


@pytest.mark.parametrize("second", [{}, {"url": "main", "max_connections": 7}], ids=["url", "options"])
async def test_others_have_connections_of_their_own(make: Any, second: dict[str, Any]) -> None:
    """Who sets something else about the same connection, or writes its url out."""
    caches = make(second)
    await caches.first.set("k", 1)
    await caches.second.set("k", 2)
    assert 2 == caches.connections()
