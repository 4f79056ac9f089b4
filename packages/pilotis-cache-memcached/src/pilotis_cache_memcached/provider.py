"""Entries in Memcached: on one server, or spread over several."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, MutableMapping, Sequence
from typing import Any, TypeVar

import msgspec
from pilotis.bridge import gather, running_loop
from pilotis.errors import ConfigurationError, OperationError
from pilotis.providers import CacheCapability, CacheProvider, Entry, Shared, run_blocking
from pymemcache.client.rendezvous import RendezvousHash  # pyright: ignore[reportMissingTypeStubs]

from pilotis_cache_memcached.faults import classify
from pilotis_cache_memcached.node import Node
from pilotis_cache_memcached.options import MemcachedCacheOptions, Place, name_of, read_url, shown
from pilotis_cache_memcached.patterns import Log
from pilotis_cache_memcached.records import Record, item_name
from pilotis_cache_memcached.shelf import Shelf

T = TypeVar("T")
R = TypeVar("R")


class MemcachedCache(CacheProvider):
    """A cache for all processes that reach the same servers of Memcached.

    A key is on the server that rendezvous hashing says, as in pymemcache's `HashClient`. But where that takes the keys
    of a server that fails to another one, and then finds what is out of date when it is back, here they are absent.
    """

    Options = MemcachedCacheOptions
    capabilities = CacheCapability.MATCHING | CacheCapability.SINGLE_FLIGHT
    shared = True

    def __init__(self, options: MemcachedCacheOptions | None = None, **clients: Any) -> None:
        super().__init__(options, **clients)
        if self.client is not None or self.async_client is not None:
            raise ConfigurationError("expected no client: the memcached cache makes its own, from its url")
        self._places = read_url(self.options.url)
        self._use(Shared({name_of(place): self._shelf(place) for place in self._places}))
        self._order: Any = RendezvousHash([*self._shelves])

    @property
    def address(self) -> str:
        return shown(self._places)

    def share(self, shared: MutableMapping[Hashable, Shared[Any]], connection: str) -> None:
        """Use the connections of every cache on Memcached that names the same, and has the same options."""
        key = ("memcached", connection, *msgspec.structs.astuple(self.options))
        self._use(shared.setdefault(key, self._shared))

    async def open(self) -> None:
        self._shared.join(self)

    async def ping(self) -> None:
        await self._each(lambda shelf: shelf.node.call(_ping))

    async def close(self) -> None:
        if self._shared.leave(self):
            for shelf in self._shelves.values():
                shelf.node.close()

    def classify(self, error: Exception) -> type[OperationError] | None:
        return classify(error) or super().classify(error)

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        if self._only is not None and running_loop() is None:
            return self._only.read(keys)  # without another coroutine, as most of what a cache does is this
        return await self._spread(keys, keys, Shelf.read)

    async def write(self, entries: Sequence[Entry], *, only_absent: bool = False) -> list[bool]:
        verb = _add if only_absent else Shelf.write
        if self._only is not None and running_loop() is None:
            return verb(self._only, entries)
        return await self._spread([entry.key for entry in entries], entries, verb)

    async def remove(self, keys: Sequence[str]) -> int:
        names = list(dict.fromkeys(keys))
        return sum(await gather(*(run_blocking(shelf.remove, part) for shelf, part in self._parts(names).items())))

    async def count(self, key: str, by: int, ttl: float | None) -> int:
        return await run_blocking(self._shelf_of(key).count, key, by, ttl)

    async def expire(self, key: str, ttl: float | None) -> bool:
        return await run_blocking(self._shelf_of(key).expire, key, ttl)

    async def remove_matching(self, pattern: str) -> None:
        await self._each(lambda shelf: shelf.remove_matching(pattern))

    async def claim(self, keys: Mapping[str, bytes | None], mark: bytes, ttl: float) -> list[Entry | None]:
        wanted = [(Entry(key, mark, ttl), old) for key, old in keys.items()]
        obstacles = await self._spread(list(keys), wanted, Shelf.place)
        now = self._now()
        return [_standing(key, record, now) for key, record in zip(keys, obstacles, strict=True)]

    async def settle(self, results: Mapping[str, Entry | None], mark: bytes) -> list[bool]:
        return await self._spread(
            list(results), list(results.items()), lambda shelf, part: shelf.settle(dict(part), mark)
        )

    # Servers

    def _use(self, shared: Shared[dict[str, Shelf]]) -> None:
        self._shared = shared
        self._shelves = shared.thing
        self._only = next(iter(self._shelves.values())) if len(self._shelves) == 1 else None

    def _now(self) -> float:
        return self.context.clock.time()

    def _shelf(self, place: Place) -> Shelf:
        logs: dict[str, Log | None] = {}
        return Shelf(Node(place, self.options, logs.clear), logs, self._now)

    def _shelf_of(self, key: str) -> Shelf:
        return self._only or self._shelves[self._order.get_node(item_name(key))]

    def _parts(self, keys: Sequence[str]) -> dict[Shelf, list[str]]:
        parts: dict[Shelf, list[str]] = {}
        for key in keys:
            parts.setdefault(self._shelf_of(key), []).append(key)
        return parts

    async def _spread(
        self, keys: Sequence[str], things: Sequence[T], verb: Callable[[Shelf, Sequence[T]], list[R]]
    ) -> list[R]:
        """Have each server do its part, side by side under a loop, and return the answers in order."""
        if self._only is not None:
            return await run_blocking(verb, self._only, things)
        parts: dict[Shelf, list[int]] = {}
        for index, key in enumerate(keys):
            parts.setdefault(self._shelf_of(key), []).append(index)
        calls = [run_blocking(verb, shelf, [things[index] for index in part]) for shelf, part in parts.items()]
        answers: dict[int, R] = {}
        for part, found in zip(parts.values(), await gather(*calls), strict=True):
            answers.update(zip(part, found, strict=True))
        return [answers[index] for index in range(len(keys))]

    async def _each(self, verb: Callable[[Shelf], object]) -> None:
        await gather(*(run_blocking(verb, shelf) for shelf in self._shelves.values()))


def _ping(client: Any) -> None:
    client.version()


def _add(shelf: Shelf, entries: Sequence[Entry]) -> list[bool]:
    return [obstacle is None for obstacle in shelf.place([(entry, None) for entry in entries])]


def _standing(key: str, record: Record | None, now: float) -> Entry | None:
    if record is None or record.value is None:
        return None
    return Entry(key, record.value, None if math.isinf(record.deadline) else record.deadline - now)
