"""Cached values that are dropped on events, through the bus of the app."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pilotis import Cache, ConfigurationError, Event, Pilotis, UsageError
from pilotis_cache_memory import MemoryCache
from pilotis_testing import Colour

Tags = Callable[[Event[Any]], Any]


def product_tags(event: Event[Any]) -> list[str]:
    return [f"product:{event.data['id']}", "products"]


async def async_tags(event: Event[Any]) -> list[str]:
    return product_tags(event)


def always(*tags: str) -> Tags:
    return lambda event: tags


async def filled(cache: Any) -> None:
    await cache.set("price:1", 5, tags=["product:1"])
    await cache.set("price:2", 6, tags=["product:2"])
    await cache.set("list", [1, 2], tags=["products"])


async def left(cache: Any) -> list[str]:
    return list(await cache.get_many(["price:1", "price:2", "list"]))


class Backend(MemoryCache):
    """One that loses its connection now and then."""

    failures = 0

    async def write(self, *args: Any, **kwargs: Any) -> list[bool]:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("gone")
        return await super().write(*args, **kwargs)


@pytest.fixture
def backend() -> Backend:
    """What is behind the cache."""
    return Backend()


@pytest.fixture
def app(backend: Backend) -> Iterator[Pilotis]:
    """An app whose handlers are soon tried again."""
    app = Pilotis({"cache": backend, "event": {"backoff": 0.001}})
    yield app
    app.close()


class Shop:
    """The modules of an app, speaking in the colour of the test."""

    def __init__(self, app: Pilotis, colour: Colour) -> None:
        self.cache = colour.voice(app.cache)
        self.event = colour.voice(app.event)

    async def update(self, product: int) -> None:
        await self.event.emit("product.updated", {"id": product})
        assert await self.event.drain(5)


@pytest.fixture
def shop(app: Pilotis, colour: Colour) -> Shop:
    """The modules."""
    return Shop(app, colour)


@pytest.mark.parametrize("tags", [product_tags, async_tags])
async def test_an_event_drops_what_has_its_tags(app: Pilotis, shop: Shop, tags: Tags) -> None:
    """The function, plain or async, says which tags; all else stays."""
    app.cache.invalidate_on("product.*", tags=tags)
    await filled(shop.cache)
    await shop.update(1)
    assert await left(shop.cache) == ["price:2"]


async def test_a_namespace_has_rules_of_its_own(app: Pilotis, shop: Shop) -> None:
    """They drop what is in it, beside those of the others for the same event."""
    spaces = [shop.cache, shop.cache.namespace("tenant:7"), shop.cache.namespace("tenant:8")]
    for space in spaces:
        await filled(space)
    app.cache.invalidate_on("product.updated", tags=always("product:1"))
    app.cache.namespace("tenant:7").invalidate_on("product.updated", tags=always("product:2"))
    await shop.update(1)
    assert [["price:2", "list"], ["price:1", "list"], ["price:1", "price:2", "list"]] == [
        await left(space) for space in spaces
    ]


async def test_a_second_rule_needs_an_id(app: Pilotis, shop: Shop) -> None:
    """Two of them would be told apart by nothing."""
    app.cache.invalidate_on("product.updated", tags=always("product:1"))
    with pytest.raises(ConfigurationError, match="invalidate"):
        app.cache.invalidate_on("product.updated", tags=always("product:2"))
    app.cache.invalidate_on("product.updated", tags=always("product:2"), id="second")
    await filled(shop.cache)
    await shop.update(1)
    assert await left(shop.cache) == ["list"]


async def test_an_invalidation_that_fails_is_tried_again(app: Pilotis, shop: Shop, backend: Backend) -> None:
    """Until the backend is back."""
    app.cache.invalidate_on("product.updated", tags=product_tags)
    await filled(shop.cache)
    backend.failures = 2
    await shop.update(1)
    assert (0, ["price:2"]) == (backend.failures, await left(shop.cache))


def test_rules_hold_inside_an_override(app: Pilotis) -> None:
    """There they drop what is in the cache that stands in."""
    app.cache.invalidate_on("product.updated", tags=product_tags)
    with app.override({"cache": "memory", "event": {"mode": "inline"}}):
        app.cache.set("price:1", 5, tags=["product:1"])
        app.event.emit("product.updated", {"id": 1})
        assert app.cache.get("price:1") is None


def test_a_cache_without_an_app_has_no_events() -> None:
    """It says so at once, and what to do."""
    with pytest.raises(UsageError, match="that of a Pilotis app, or call invalidate_tags"):
        Cache(MemoryCache()).invalidate_on("product.updated", tags=product_tags)
