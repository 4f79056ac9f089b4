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

pytestmark = pytest.mark.slow

SUBSCRIPTIONS = 1_000
SETTLING_SECONDS = 1.5
"""Long enough for a beat."""


def app_on(url: str, subscriptions: int) -> Pilotis:
    event: dict[str, Any] = {"provider": "redis", "url": url, "client_name": "counted", "liveness": 3}
    app = Pilotis({"name": "shop", "event": event})
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


async def test_a_process_that_only_emits_has_one_connection(redis_url: str, colour: Colour) -> None:
    """It is that of whoever emits."""
    async with entered(app := app_on(redis_url, 0), colour):
        await app.event.aemit("order.placed") if colour is Colour.ASYNC else app.event.emit("order.placed")
        assert 1 == connections(redis_url)
