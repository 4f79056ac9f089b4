"""What the bridge costs: a memory `get` through it, against the same layers in plain code.

Blocking, at most 2.2 times the plain functions; under a loop, at most 1.5 times plain coroutines. The plain layers do
the same work with the same helpers: check and map the key, guard the provider's call, look at the clock and the entry,
take the envelope off, decode, count. Rounds of both candidates alternate, and their medians are compared.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from harness import Task, amedians, medians
from pilotis.context import Context
from pilotis.errors import OperationError, TypeMismatchError
from pilotis.modules.cache import Cache
from pilotis.modules.cache.envelope import unseal
from pilotis.modules.cache.names import Names
from pilotis.modules.cache.stats import Tally
from pilotis_cache_memory import MemoryCache

ROUNDS = 31
CALLS = 5_000
LARGEST = {"get": 2.2, "aget": 1.5}
VALUE = {"id": 17, "name": "lamp", "price": 12.5}


class PlainProvider:
    """The memory provider's `read`, as a function."""

    def __init__(self, provider: MemoryCache) -> None:
        self._entries: Any = provider._entries  # pyright: ignore[reportPrivateUsage]
        self.context = provider.context

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        now = self.context.clock.monotonic()
        return [self._value(key, now) for key in keys]

    def _value(self, key: str, now: float) -> bytes | None:
        kept = self._entries.get(key)
        if kept is None:
            return None
        return kept[0] if kept[1] > now else None


class PlainStore:
    """The store's `read`, as a function."""

    def __init__(self, provider: PlainProvider, guard: Any) -> None:
        self.hot = True
        self._provider = provider
        self._reading = guard
        self._down = False

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        try:
            if not self.hot:
                raise OperationError
            with self._reading:
                data = self._provider.read(keys)
        except OperationError:
            return [None] * len(keys)
        if self._down:
            raise AssertionError
        return data


class PlainCache:
    """`get`, as a function."""

    def __init__(self, names: Names, store: PlainStore) -> None:
        self._names = names
        self._store = store
        self._tally = Tally()

    def get(self, key: str, default: Any = None, *, type: Any = Any) -> Any:
        mapped = self._names.key(key)
        data = self._store.read((mapped,))[0]
        if data is not None and data[:1] == b"\x02":
            raise AssertionError
        if data is None:
            self._tally.misses += 1
            return default
        try:
            value = unseal(data, type)
        except TypeMismatchError:
            return default
        self._tally.hits += 1
        self._tally.bytes_read += len(data)
        return value


class AsyncProvider(PlainProvider):
    """The same, as a coroutine."""

    async def aread(self, keys: Sequence[str]) -> list[bytes | None]:
        now = self.context.clock.monotonic()
        return [self._value(key, now) for key in keys]


class AsyncStore:
    """The same, as a coroutine."""

    def __init__(self, provider: AsyncProvider, guard: Any) -> None:
        self.hot = True
        self._provider = provider
        self._reading = guard
        self._down = False

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        try:
            if not self.hot:
                raise OperationError
            with self._reading:
                data = await self._provider.aread(keys)
        except OperationError:
            return [None] * len(keys)
        if self._down:
            raise AssertionError
        return data


class AsyncCache:
    """The same, as a coroutine."""

    def __init__(self, names: Names, store: AsyncStore) -> None:
        self._names = names
        self._store = store
        self._tally = Tally()

    async def aget(self, key: str, default: Any = None, *, type: Any = Any) -> Any:
        mapped = self._names.key(key)
        data = (await self._store.read((mapped,)))[0]
        if data is not None and data[:1] == b"\x02":
            raise AssertionError
        if data is None:
            self._tally.misses += 1
            return default
        try:
            value = unseal(data, type)
        except TypeMismatchError:
            return default
        self._tally.hits += 1
        self._tally.bytes_read += len(data)
        return value


def tasks(bridged: Callable[[str], Any], plain: Callable[[str], Any]) -> dict[str, Task]:
    return {name: Task(partial(get, "product:17"), CALLS) for name, get in {"bridged": bridged, "plain": plain}.items()}


def compare(verb: str, times: Mapping[str, float]) -> bool:
    """Print the medians and their ratio, and tell whether it is within its bound."""
    bridged, plain = (times[name] * 1e6 for name in ("bridged", "plain"))
    ratio = bridged / plain
    print(f"{verb:5} bridged {bridged:6.3f} us   plain {plain:6.3f} us   ratio {ratio:.2f} (at most {LARGEST[verb]})")
    return ratio <= LARGEST[verb]


def main() -> int:
    """Return 0 if both ratios are within their bounds."""
    provider = MemoryCache()
    cache = Cache(provider, context=Context(name="bench"))
    cache.set("product:17", VALUE, ttl=None)
    names, guard = Names("bench", ()), cache.calling("read")
    plain = PlainCache(names, PlainStore(PlainProvider(provider), guard))
    coroutines = AsyncCache(names, AsyncStore(AsyncProvider(provider), guard))
    assert VALUE == cache.get("product:17") == plain.get("product:17")

    async def under_a_loop() -> bool:
        assert VALUE == await cache.aget("product:17") == await coroutines.aget("product:17")
        return compare("aget", await amedians(tasks(cache.aget, coroutines.aget), ROUNDS))

    is_within = compare("get", medians(tasks(cache.get, plain.get), ROUNDS))
    is_within &= asyncio.run(under_a_loop())
    cache.close()
    return 0 if is_within else 1


if __name__ == "__main__":
    sys.exit(main())
