"""How many connections a process needs that works."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pilotis import Event, Pilotis
from pilotis.bridge import pause
from pilotis_testing import Colour
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer

pytestmark = pytest.mark.slow

SUBSCRIPTIONS = 1_000
STREAMS_OF_A_LANE = 4
SETTLING_SECONDS = 1.5
"""Long enough for a beat."""


def app_on(url: str, subscriptions: int, role: Any = "all") -> Pilotis:
    event: dict[str, Any] = {"provider": "redis", "url": url, "client_name": "counted", "liveness": 3}
    app = Pilotis({"name": "shop", "event": event}, role=role)
    for number in range(subscriptions):
        app.event.on(f"order.{number}", id="pack")(handle)
    return app


async def handle(event: Event[Any]) -> None:
    """Do nothing."""


@asynccontextmanager
async def entered(app: Pilotis, colour: Colour) -> AsyncGenerator[None]:
    """Enter an app by `with` or by `async with`."""
    if colour is Colour.BLOCKING:
        with app:
            yield
    else:
        async with app:
            yield


def connections(url: str) -> int:
    return sum(client["name"] == "counted" for client in tell(url, "CLIENT LIST"))


async def until_all_are_read(url: str, count: int) -> None:
    """Wait until a worker tells that it reads so many lanes."""
    while not any(info.count(b"shop/order.") == count for info in tell(url, "HVALS", "{pilotis:events}:wi")):
        await pause(0.05)


@pytest.mark.parametrize("subscriptions", [1, SUBSCRIPTIONS])
async def test_a_process_that_works_has_three_connections(redis_url: str, colour: Colour, subscriptions: int) -> None:
    """Commands, the read that waits, and the beat: however many subscriptions it has, and however it was entered."""
    async with entered(app_on(redis_url, subscriptions), colour):
        await until_all_are_read(redis_url, subscriptions)
        await pause(SETTLING_SECONDS)
        assert 3 == connections(redis_url)


def looked_at(url: str) -> int:
    """Return how many streams the server was asked about, by whoever wants to know how lanes are doing."""
    return tell(url, "INFO", "commandstats")["cmdstat_xinfo|groups"]["calls"]


async def test_a_worker_on_the_lookout_asks_about_no_lane_that_is_read(own_redis: RedisServer, colour: Colour) -> None:
    """Of a thousand it asks about the one that nobody reads, and tells of it."""
    emitter = app_on(own_redis.url, 0, role="emit")
    emitter.event.on("order.paid", id="book")(handle)
    async with entered(emitter, colour):
        await emitter.event.adeclare_all()
    async with entered(app := app_on(own_redis.url, SUBSCRIPTIONS), colour):
        await until_all_are_read(own_redis.url, SUBSCRIPTIONS)
        tell(own_redis.url, "CONFIG", "RESETSTAT")
        [finding] = await app.event.aunattended()
        assert STREAMS_OF_A_LANE == looked_at(own_redis.url)
    assert "lane 'order.paid book' is declared by nobody" == finding.what


async def test_a_process_that_only_emits_has_one_connection(redis_url: str, colour: Colour) -> None:
    """It is that of whoever emits."""
    async with entered(app := app_on(redis_url, 0), colour):
        await app.event.aemit("order.placed") if colour is Colour.ASYNC else app.event.emit("order.placed")
        assert 1 == connections(redis_url)
