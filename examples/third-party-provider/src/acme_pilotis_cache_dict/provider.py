"""A cache of one process, in a dict."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence

import msgspec
from pilotis.providers import CacheCapability, CacheProvider, Entry, counted


class DictCacheOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of `acme-dict`."""

    max_entries: int = 10_000
    """How many entries there may be. When there are more, the oldest go."""


class DictCache(CacheProvider):
    """Keeps entries until they expire, or until there are too many."""

    Options = DictCacheOptions
    capabilities = CacheCapability.MATCHING | CacheCapability.MATCH_COUNT

    def __init__(self, options: DictCacheOptions | None = None) -> None:
        super().__init__(options)
        self._entries: dict[str, tuple[bytes, float | None]] = {}
        self._lock = threading.Lock()

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        with self._lock:
            return [self._live(key) for key in keys]

    async def write(self, entries: Sequence[Entry], *, only_absent: bool = False) -> list[bool]:
        with self._lock:
            return [self._write(entry, only_absent=only_absent) for entry in entries]

    async def remove(self, keys: Sequence[str]) -> int:
        with self._lock:
            live = sum(self._live(key) is not None for key in set(keys))
            for key in keys:
                self._entries.pop(key, None)
            return live

    async def count(self, key: str, by: int, ttl: float | None) -> int:
        with self._lock:
            held = self._live(key)
            total = counted(held, by)
            due = self._due(ttl) if held is None else self._entries[key][1]
            self._keep(key, b"%d" % total, due)
            return total

    async def expire(self, key: str, ttl: float | None) -> bool:
        with self._lock:
            held = self._live(key)
            if held is not None:
                self._entries[key] = (held, self._due(ttl))
            return held is not None

    async def remove_matching(self, pattern: str) -> int:
        fits = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL).fullmatch
        with self._lock:
            matching = [key for key in self._entries if fits(key)]
            live = sum(self._live(key) is not None for key in matching)
            for key in matching:
                del self._entries[key]
            return live

    def _write(self, entry: Entry, *, only_absent: bool) -> bool:
        if only_absent and self._live(entry.key) is not None:
            return False
        self._keep(entry.key, entry.value, self._due(entry.ttl))
        return True

    def _keep(self, key: str, value: bytes, due: float | None) -> None:
        self._entries[key] = (value, due)
        while len(self._entries) > self.options.max_entries:
            del self._entries[next(iter(self._entries))]

    def _due(self, ttl: float | None) -> float | None:
        return None if ttl is None else self.context.clock.monotonic() + ttl

    def _live(self, key: str) -> bytes | None:
        value, due = self._entries.get(key, (None, None))
        return None if due is not None and due <= self.context.clock.monotonic() else value
