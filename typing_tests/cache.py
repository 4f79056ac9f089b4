"""What pyright infers for the verbs of the cache, in both colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

from pilotis import Cache


@dataclass
class Product:
    id: int


def plain() -> Product:
    return Product(1)


async def slow() -> Product:
    return Product(1)


def check_blocking(cache: Cache) -> None:
    assert_type(cache.get("k"), Any)
    assert_type(cache.get("k", type=Product), Product | None)
    assert_type(cache.get("k", 0, type=Product), Product | int)
    assert_type(cache.get_many(["k"], type=Product), dict[str, Product])
    assert_type(cache.get_or_set("k", plain), Product)
    assert_type(cache.get_or_set("k", slow), Product)
    assert_type(cache.add("k", 1), bool)
    assert_type(cache.namespace("a"), Cache)
    cache.get(3)  # pyright: ignore[reportCallIssue, reportArgumentType] - the key is text
    cache.set("k", 1, ttl="5")  # pyright: ignore[reportArgumentType] - seconds are a number


async def check_async(cache: Cache) -> None:
    assert_type(await cache.aget("k", type=Product), Product | None)
    assert_type(await cache.aget_or_set("k", slow), Product)
    assert_type(await cache.aget_or_set("k", plain, ttl=None, stale_for=5), Product)


def check_cached(cache: Cache) -> None:
    @cache.cached(ttl=5)
    def price(product: int, currency: str = "eur") -> float:
        return 1.0

    class Shop:
        @cache.cached(key="shop:{product}")
        def price(self, product: int) -> Product:
            return Product(product)

    assert_type(price(1, currency="usd"), float)
    assert_type(price.invalidate(1), bool)
    assert_type(Shop().price(1), Product)
    price("1")  # pyright: ignore[reportArgumentType] - a product is a number
    price.invalidate()  # pyright: ignore[reportCallIssue] - it takes what the function takes
