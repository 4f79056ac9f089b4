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
from pilotis.modules.cache.envelope import HEADED, unseal
from pilotis.modules.cache.names import Names
from pilotis.modules.cache.stats import Tally
from pilotis.modules.cache.store import UNCLEAR
from pilotis_cache_memory import MemoryCache

ROUNDS = 31
CALLS = 5_000
LARGEST = {"get": 2.2, "aget": 1.5}
VALUE = {"id": 17, "name": "lamp", "price": 12.5}
_HEADED = bytes([HEADED])


class PlainProvider:
    """The memory provider's `read`, as a function."""

    def __init__(self, provider: MemoryCache) -> None:
        self._entries: Any = provider._entries  # pyright: ignore[reportPrivateUsage]
        self.context = provider.context

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        now = self.context.clock.monotonic()
        values: list[bytes | None] = []
        for key in keys:
            kept = self._entries.get(key)
            values.append(kept[0] if kept is not None and kept[1] > now else None)
        return values

    async def aread(self, keys: Sequence[str]) -> list[bytes | None]:
        """Do the same in a coroutine."""
        now = self.context.clock.monotonic()
        values: list[bytes | None] = []
        for key in keys:
            kept = self._entries.get(key)
            values.append(kept[0] if kept is not None and kept[1] > now else None)
        return values


class PlainStore:
    """The store's `read`, as a function, and its `plain`."""

    def __init__(self, provider: PlainProvider, guard: Any) -> None:
        self.hot = True
        self.tally = Tally()
        self._provider = provider
        self._reading = guard
        self._at_hand = self._signer = None
        self._ailing: set[str] = set()

    def read(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        if self._at_hand is not None:
            raise AssertionError
        try:
            if not self.hot:
                raise OperationError
            with self._reading:
                data = self._provider.read(keys)
        except OperationError:
            return [None] * len(keys)
        if self._ailing:
            raise AssertionError
        return self._authenticated(data)

    async def aread(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """Do the same in a coroutine."""
        if self._at_hand is not None:
            raise AssertionError
        try:
            if not self.hot:
                raise OperationError
            with self._reading:
                data = await self._provider.aread(keys)
        except OperationError:
            return [None] * len(keys)
        if self._ailing:
            raise AssertionError
        return self._authenticated(data)

    def _authenticated(self, data: Sequence[bytes | None]) -> Sequence[bytes | None]:
        if self._signer is not None:
            raise AssertionError
        return data

    def plain(self, data: bytes | None, type: Any) -> Any:
        if data is None or data[:1] == _HEADED:
            return UNCLEAR
        try:
            value = unseal(data, type)
        except TypeMismatchError:
            return UNCLEAR
        size = len(data)
        self.tally.hits += 1
        self.tally.bytes_read += size
        return value


class PlainCache:
    """`get`, as a function, and `aget`, as a coroutine."""

    def __init__(self, names: Names, store: PlainStore) -> None:
        self._names = names
        self._store = store

    def get(self, key: str, default: Any = None, *, type: Any = Any) -> Any:
        mapped = self._names.key(key)
        data = self._store.read((mapped,))
        value = self._store.plain(data[0], type)
        return value if value is not UNCLEAR else default

    async def aget(self, key: str, default: Any = None, *, type: Any = Any) -> Any:
        mapped = self._names.key(key)
        data = await self._store.aread((mapped,))
        value = self._store.plain(data[0], type)
        return value if value is not UNCLEAR else default


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
    plain = PlainCache(Names("bench", ()), PlainStore(PlainProvider(provider), cache.calling("read")))
    assert VALUE == cache.get("product:17") == plain.get("product:17")

    async def under_a_loop() -> bool:
        assert VALUE == await cache.aget("product:17") == await plain.aget("product:17")
        return compare("aget", await amedians(tasks(cache.aget, plain.aget), ROUNDS))

    is_within = compare("get", medians(tasks(cache.get, plain.get), ROUNDS))
    is_within &= asyncio.run(under_a_loop())
    cache.close()
    return 0 if is_within else 1


if __name__ == "__main__":
    sys.exit(main())
