"""`@cache.cached`: plain and async functions, keys, types."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from pilotis.errors import BlockingCallInEventLoopError, ConfigurationError, InvalidInputError
from pilotis.modules.cache import Cache
from pilotis_cache_memory import MemoryCache


@dataclass
class Price:
    product: int
    amount: float


@pytest.fixture
def cache() -> Iterator[Cache]:
    """A cache."""
    cache = Cache(MemoryCache())
    yield cache
    cache.close()


def test_a_plain_function_stays_plain(cache: Cache) -> None:
    """Its name, its signature, and the type that it says it returns."""
    calls: list[int] = []

    @cache.cached(key="price:{product}", tags=("product:{product}",))
    def price(product: int, currency: str = "eur") -> Price:
        """What it costs."""
        calls.append(product)
        return Price(product, 2.5)

    assert [Price(1, 2.5), Price(1, 2.5)] == [price(1), price(product=1, currency="usd")]
    assert [1] == calls
    assert ("price", "What it costs.") == (getattr(price, "__name__", ""), price.__doc__)
    assert list(inspect.signature(price).parameters) == ["product", "currency"]
    assert [True, False] == [price.invalidate(1), price.invalidate(1)]
    price(1)
    cache.invalidate_tags("product:1")
    price(1)
    assert [1, 1, 1] == calls


def test_an_async_function_stays_async(cache: Cache) -> None:
    """For frameworks that ask, too."""

    @cache.cached()
    async def double(number: int) -> int:
        return number * 2

    async def ask() -> list[int | bool]:
        return [await double(2), await double(2), await double.ainvalidate(2)]

    assert inspect.iscoroutinefunction(double)
    assert asyncio.run(ask()) == [4, 4, True]
    assert cache.stats().factory_calls == 1


def test_without_a_key_all_arguments_count(cache: Cache) -> None:
    """However they are passed, and together with the name of the function."""
    calls: list[int] = []

    @cache.cached()
    def add(left: int, right: int = 1) -> int:
        calls.append(left)
        return left + right

    @cache.cached()
    def subtract(left: int, right: int = 1) -> int:
        return left - right

    assert [3, 3, 3, 4, 1] == [add(2), add(2, 1), add(left=2, right=1), add(2, 2), subtract(2)]
    assert [2, 2] == calls


def test_a_method_needs_a_key(cache: Cache) -> None:
    """What of `self` belongs in it only its author knows."""

    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name

        @cache.cached(key="shop:{self.name}:{product}")
        def price(self, product: int) -> str:
            return f"{self.name} {product}"

    assert ["a 1", "b 1", "a 1"] == [Shop("a").price(1), Shop("b").price(1), Shop("a").price(1)]
    assert cache.get("shop:a:1") == "a 1"
    with pytest.raises(ConfigurationError, match="is a method"):

        @cache.cached()
        def price(self: Shop) -> None: ...


def test_mistakes_are_told_when_the_function_is_decorated(cache: Cache) -> None:
    """Not when it is called for the first time."""

    def function(product: int) -> None: ...

    def generator(product: int) -> Iterator[int]:
        yield product

    with pytest.raises(ConfigurationError, match="products"):
        cache.cached(key="price:{products}")(function)
    with pytest.raises(ConfigurationError, match="tag"):
        cache.cached(tags=("tag:{x}",))(function)
    with pytest.raises(ConfigurationError, match="generator"):
        cache.cached()(generator)
    with pytest.raises(InvalidInputError, match="ttl"):
        cache.cached(ttl=-1)
    with pytest.raises(InvalidInputError, match="refresh_ahead"):
        cache.cached(refresh_ahead=float("nan"))


def test_a_plain_function_under_a_loop_is_told(cache: Cache) -> None:
    """As every blocking verb is."""

    @cache.cached()
    def number() -> int:
        return 1

    async def ask() -> int:
        return number()

    with pytest.raises(BlockingCallInEventLoopError):
        asyncio.run(ask())
