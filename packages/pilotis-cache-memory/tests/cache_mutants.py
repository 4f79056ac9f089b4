"""Providers that each break one obligation."""

from __future__ import annotations

import fnmatch
import unicodedata
from collections.abc import Sequence
from typing import Any

from cachebox import LRUCache
from pilotis.providers import CacheCapability, Entry, pause
from pilotis_cache_memory import MemoryCache, MemoryCacheOptions


class ForgetsTtl(MemoryCache):
    """Keeps everything for good."""

    async def write(self, entries: Sequence[Entry], *, only_absent: bool = False) -> list[bool]:
        lasting = [Entry(entry.key, entry.value, None) for entry in entries]
        return await super().write(lasting, only_absent=only_absent)


class TakesMonthsForDates(MemoryCache):
    """Takes a ttl of over thirty days for a point in time, long ago, as Memcached does."""

    async def write(self, entries: Sequence[Entry], *, only_absent: bool = False) -> list[bool]:
        fooled = [Entry(entry.key, entry.value, _fooled(entry.ttl)) for entry in entries]
        return await super().write(fooled, only_absent=only_absent)


def _fooled(ttl: float | None) -> float | None:
    return 0.001 if ttl is not None and ttl > 30 * 86_400 else ttl


class NormalisesKeys(MemoryCache):
    """Takes keys that look the same for one."""

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        return await super().read([unicodedata.normalize("NFC", key) for key in keys])

    async def write(self, entries: Sequence[Entry], *, only_absent: bool = False) -> list[bool]:
        folded = [Entry(unicodedata.normalize("NFC", entry.key), entry.value, entry.ttl) for entry in entries]
        return await super().write(folded, only_absent=only_absent)


class KeepsOldTtl(MemoryCache):
    """Replaces the value, and leaves the ttl of the old one."""

    async def write(self, entries: Sequence[Entry], *, only_absent: bool = False) -> list[bool]:
        old = {entry.key: self._entries.get(entry.key) for entry in entries}
        stored = await super().write(entries, only_absent=only_absent)
        for entry in entries:
            if not only_absent and (kept := old[entry.key]) is not None:
                self._entries.insert(entry.key, (entry.value, kept[1]))
        return stored


class IgnoresOnlyAbsent(MemoryCache):
    """Overwrites what is there."""

    async def write(self, entries: Sequence[Entry], *, only_absent: bool = False) -> list[bool]:
        return await super().write(entries)


class LooksThenWrites(MemoryCache):
    """Has a gap between looking for an entry and storing one."""

    async def write(self, entries: Sequence[Entry], *, only_absent: bool = False) -> list[bool]:
        absent = [value is None for value in await self.read([entry.key for entry in entries])]
        await pause(0.01)
        await super().write([entry for entry, free in zip(entries, absent, strict=True) if free or not only_absent])
        return absent if only_absent else [True] * len(entries)


class SharesBuffers(MemoryCache):
    """Hands out something that its reader can change."""

    async def read(self, keys: Sequence[str]) -> list[Any]:
        return [None if value is None else bytearray(value) for value in await super().read(keys)]


class ReadsInItsOwnOrder(MemoryCache):
    """Answers in the order that suits it."""

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        return await super().read(sorted(keys))


class TellsAtOnceWhatIsOver(MemoryCache):
    """Looks at no clock where it answers without being awaited."""

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        return super().read_now(keys)

    def read_now(self, keys: Sequence[str]) -> list[bytes | None]:
        kept = [self._entries.get(key) for key in keys]
        return [None if entry is None else entry[0] for entry in kept]


class ServesWhatIsOver(MemoryCache):
    """Prolongs entries whose time is over."""

    async def expire(self, key: str, ttl: float | None) -> bool:
        kept = self._entries.get(key)
        return kept is not None and (await self.write([Entry(key, kept[0], ttl)]))[0]


class CountsInTwoSteps(MemoryCache):
    """Loses what others add between its reading and its writing."""

    async def count(self, key: str, by: int, ttl: float | None) -> int:
        (value,) = await self.read([key])
        await pause(0.001)
        total = int(value or 0) + by
        await self.write([Entry(key, b"%d" % total, ttl)])
        return total


class RenewsWhenCounting(MemoryCache):
    """Begins a new ttl with every count."""

    async def count(self, key: str, by: int, ttl: float | None) -> int:
        total = await super().count(key, by, ttl)
        await self.expire(key, ttl)
        return total


class CountsWithText(MemoryCache):
    """Takes what is no number for zero."""

    async def count(self, key: str, by: int, ttl: float | None) -> int:
        (value,) = await self.read([key])
        if value is not None and not value.lstrip(b"-").isdigit():
            await self.remove([key])
        return await super().count(key, by, ttl)


class CountsWhatItWasAsked(MemoryCache):
    """Tells how many keys there were to remove, not how many entries."""

    async def remove(self, keys: Sequence[str]) -> int:
        await super().remove(keys)
        return len(keys)


class SearchesAnywhere(MemoryCache):
    """Finds the pattern inside of keys, too."""

    async def remove_matching(self, pattern: str) -> int:
        return await super().remove_matching(f"*{pattern}*")


class ReadsGlobs(MemoryCache):
    """Knows more special characters than it should."""

    async def remove_matching(self, pattern: str) -> int:
        return await self.remove([key for key in self._keys() if fnmatch.fnmatchcase(key, pattern)])


class ClearsTooMuch(MemoryCache):
    """Reaches into namespaces whose names begin the same."""

    async def remove_matching(self, pattern: str) -> int:
        return await super().remove_matching(pattern.replace(":*", "*") if pattern.endswith(":*") else pattern)


class Unbounded(MemoryCache):
    """Grows for as long as there is memory."""

    def __init__(self, options: MemoryCacheOptions | None = None) -> None:
        super().__init__(options)
        self._entries = LRUCache(0)


class EvictsTheNewest(MemoryCache):
    """Forgets that reading is using."""

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        now = self.context.clock.monotonic()
        kept = [self._entries.peek(key) for key in keys]
        return [None if entry is None or entry[1] <= now else entry[0] for entry in kept]


class ExpiresWhatIsAbsent(MemoryCache):
    """Tells of absent entries that they last on."""

    async def expire(self, key: str, ttl: float | None) -> bool:
        await super().expire(key, ttl)
        return True


class FoldsCase(MemoryCache):
    """Takes different keys for the same."""

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        return await super().read([key.lower() for key in keys])

    async def write(self, entries: Sequence[Entry], *, only_absent: bool = False) -> list[bool]:
        folded = [Entry(entry.key.lower(), entry.value, entry.ttl) for entry in entries]
        return await super().write(folded, only_absent=only_absent)


class DeclaresTooLittle(MemoryCache):
    """Is bounded and does not say so."""

    capabilities = CacheCapability.MATCHING | CacheCapability.MATCH_COUNT
