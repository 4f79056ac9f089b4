"""A provider that tells of changes, and others that each break one obligation of that."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, ClassVar

from pilotis.providers import CacheCapability, Entry, Latch
from pilotis_cache_memory import MemoryCache

OnChange = Callable[[Collection[str] | None], object]


class Tracking(MemoryCache):
    """Tells of changes as every provider with TRACKING must. Those with the same options share their entries."""

    shared = True
    capabilities = MemoryCache.capabilities | CacheCapability.TRACKING
    firsts: ClassVar[dict[int, Any]] = {}

    def __init__(self, *args: Any, **clients: Any) -> None:
        super().__init__(*args, **clients)
        self.lines: dict[Latch, tuple[str, OnChange]] = {}
        """Who is told, by what ends that."""
        self.is_down = False
        self.refusals = 0
        first: Any = self.firsts.setdefault(id(self.options), self)  # which keeps the options, and so their id
        self._entries, self._lock, self.lines = first._entries, first._lock, first.lines

    async def close(self) -> None:
        """Leave the entries to the others."""

    def cut(self) -> None:
        """Break every line, and refuse new ones until `is_down` is taken back."""
        self.is_down = True
        for broken in list(self.lines):
            broken.set()

    async def track(self, prefix: str, on_change: OnChange) -> None:
        if self.is_down:
            self.refusals += 1
            raise ConnectionError("refused")
        broken = Latch()
        self.lines[broken] = (prefix, on_change)
        try:
            on_change(None)
            await broken.wait()
            raise ConnectionError("cut")
        finally:
            del self.lines[broken]

    def tell(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        for prefix, on_change in list(self.lines.values()):
            on_change([key for key in keys if key.startswith(prefix)])

    async def read_entries(self, keys: Sequence[str]) -> list[Entry | None]:
        now = self.context.clock.monotonic()
        with self._lock:
            return [None if kept is None else left(key, *kept, now) for key in keys for kept in [self._live(key, now)]]

    async def write(self, entries: Sequence[Entry], *, only_absent: bool = False) -> list[bool]:
        stored = await super().write(entries, only_absent=only_absent)
        self.tell(entry.key for entry in entries)
        return stored

    async def remove(self, keys: Sequence[str]) -> int:
        removed = await super().remove(keys)
        self.tell(keys)
        return removed

    async def count(self, key: str, by: int, ttl: float | None) -> int:
        total = await super().count(key, by, ttl)
        self.tell([key])
        return total

    async def expire(self, key: str, ttl: float | None) -> bool:
        is_there = await super().expire(key, ttl)
        self.tell([key])
        return is_there


def left(key: str, value: bytes, deadline: float, now: float) -> Entry:
    return Entry(key, value, None if deadline == float("inf") else deadline - now)


class DeclaresTracking(MemoryCache):
    """Declares what it does not have."""

    shared = True
    capabilities = Tracking.capabilities


class HidesTracking(Tracking):
    """Has what it does not declare."""

    capabilities = MemoryCache.capabilities


class ForgetsWhatIsLeft(Tracking):
    """Takes every entry for one that lasts for good."""

    async def read_entries(self, keys: Sequence[str]) -> list[Entry | None]:
        entries = await super().read_entries(keys)
        return [None if entry is None else Entry(entry.key, entry.value, None) for entry in entries]


class TellsNoRemovals(Tracking):
    """Tells of what is written alone."""

    remove = MemoryCache.remove


class TellsNoCounts(Tracking):
    """Forgets that counting changes something."""

    count = MemoryCache.count


class TellsNoProlongings(Tracking):
    """Takes an entry with another ttl for the same."""

    expire = MemoryCache.expire


class TellsItsOwnAlone(Tracking):
    """Knows of no other process."""

    def __init__(self, *args: Any, **clients: Any) -> None:
        super().__init__(*args, **clients)
        self.lines = {}


class Deaf(Tracking):
    """Says that it tells, and never does."""

    def tell(self, keys: Iterable[str]) -> None:
        del keys
