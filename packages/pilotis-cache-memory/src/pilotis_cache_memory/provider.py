"""Entries in the memory of one process: bounded, least recently used out first."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from cachebox import LRUCache
from msgspec import Meta
from pilotis.errors import ConfigurationError
from pilotis.keys import glob
from pilotis.providers import CacheCapability, CacheProvider, Entry, counted, reset_after_fork

_MOST = 2**48

Kept = tuple[bytes, float]
"""A value, and until when it is kept by the monotonic clock; infinite for good."""


class MemoryCacheOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the in-process cache."""

    max_entries: Annotated[int, Meta(ge=1, le=_MOST)] = 10_000
    """How many entries there may be before the least recently used one is dropped."""


class MemoryCache(CacheProvider):
    """A cache for the threads and tasks of one process. After a fork, parent and child go on with a copy each."""

    Options = MemoryCacheOptions
    capabilities = CacheCapability.MATCHING | CacheCapability.MATCH_COUNT | CacheCapability.BOUNDED

    def __init__(self, options: MemoryCacheOptions | None = None, **clients: Any) -> None:
        super().__init__(options, **clients)
        if not 1 <= self.options.max_entries <= _MOST:
            raise ConfigurationError(
                f"expected a number from 1 to {_MOST}, got {self.options.max_entries}", path="max_entries"
            )
        self._entries: LRUCache[str, Any] = LRUCache(self.options.max_entries)
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    async def close(self) -> None:
        with self._lock:
            self._entries.clear()

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        return self.read_now(keys)

    def read_now(self, keys: Sequence[str]) -> list[bytes | None]:
        now = self.context.clock.monotonic()
        values: list[bytes | None] = []
        for key in keys:
            kept: Kept | None = self._entries.get(key)  # one step under the lock of cachebox: it needs none of ours
            values.append(kept[0] if kept is not None and kept[1] > now else self._over(key, kept, now))
        return values

    async def write(self, entries: Sequence[Entry], *, only_absent: bool = False) -> list[bool]:
        now = self.context.clock.monotonic()
        with self._lock:
            return [self._write(entry, now, only_absent=only_absent) for entry in entries]

    async def remove(self, keys: Sequence[str]) -> int:
        now = self.context.clock.monotonic()
        with self._lock:
            return sum(self._remove(key, now) for key in keys)

    async def count(self, key: str, by: int, ttl: float | None) -> int:
        now = self.context.clock.monotonic()
        with self._lock:
            value, deadline = self._live(key, now) or (None, _deadline(now, ttl))
            total = counted(value, by)
            self._entries.insert(key, (b"%d" % total, deadline))
            return total

    async def expire(self, key: str, ttl: float | None) -> bool:
        now = self.context.clock.monotonic()
        with self._lock:
            kept = self._live(key, now)
            if kept is not None:
                self._entries.insert(key, (kept[0], _deadline(now, ttl)))
            return kept is not None

    async def remove_matching(self, pattern: str) -> int:
        matches = glob(pattern)
        keys = [key for key in self._keys() if matches(key)]
        return await self.remove(keys)

    def _keys(self) -> list[str]:
        with self._lock:
            return list(self._entries.keys())

    def _over(self, key: str, kept: Kept | None, now: float) -> None:
        """Make room where an entry is over."""
        if kept is not None:
            with self._lock:
                self._live(key, now)

    def _live(self, key: str, now: float) -> Kept | None:
        """Return the entry if it is not over, else make room. Needs the lock."""
        kept: Kept | None = self._entries.get(key)
        if kept is None or kept[1] > now:
            return kept
        self._entries.pop(key)
        return None

    def _write(self, entry: Entry, now: float, *, only_absent: bool) -> bool:
        if only_absent and self._live(entry.key, now) is not None:
            return False
        self._entries.insert(entry.key, (entry.value, _deadline(now, entry.ttl)))
        return True

    def _remove(self, key: str, now: float) -> bool:
        is_there = self._live(key, now) is not None
        if is_there:
            self._entries.pop(key)
        return is_there


def _deadline(now: float, ttl: float | None) -> float:
    return math.inf if ttl is None else now + ttl
