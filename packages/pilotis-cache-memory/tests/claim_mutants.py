"""A provider that keeps claims, and others that each break one obligation of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pilotis.providers import CLAIM_MARK, CacheCapability, CacheProvider, Entry, Latch
from pilotis_cache_memory import MemoryCache


class Claiming(MemoryCache):
    """Keeps claims as every provider with SINGLE_FLIGHT must. Those with the same options share their entries."""

    capabilities = MemoryCache.capabilities | CacheCapability.SINGLE_FLIGHT | CacheCapability.PUSH
    firsts: ClassVar[dict[int, Any]] = {}

    def __init__(self, *args: Any, **clients: Any) -> None:
        super().__init__(*args, **clients)
        self.waiting: dict[str, list[Latch]] = {}
        first: Any = self.firsts.setdefault(id(self.options), self)  # which keeps the options, and so their id
        self._entries, self._lock, self.waiting = first._entries, first._lock, first.waiting

    async def claim(self, keys: Mapping[str, bytes | None], mark: bytes, ttl: float) -> list[Entry | None]:
        now = self.context.clock.monotonic()
        with self._lock:
            return [self.claimed(key, old, Entry(key, mark, ttl), now) for key, old in keys.items()]

    def claimed(self, key: str, old: bytes | None, entry: Entry, now: float) -> Entry | None:
        kept = self._live(key, now)
        if kept is not None and kept[0] != old:
            return Entry(key, kept[0], None if kept[1] == float("inf") else kept[1] - now)
        self._write(entry, now, only_absent=False)
        return None

    async def settle(self, results: Mapping[str, Entry | None], mark: bytes) -> list[bool]:
        now = self.context.clock.monotonic()
        with self._lock:
            done = [self.settled(key, entry, mark, now) for key, entry in results.items()]
        for key, entry in results.items():
            if entry is None or entry.value != mark:
                self.wake(key)
        return done

    def settled(self, key: str, entry: Entry | None, mark: bytes, now: float) -> bool:
        kept = self._live(key, now)
        if kept is None or kept[0] != mark:
            return False
        if entry is None:
            return self._remove(key, now)
        return self._write(entry, now, only_absent=False)

    def wake(self, key: str) -> None:
        for latch in self.waiting.pop(key, []):
            latch.set()

    async def await_change(self, key: str, mark: bytes, timeout: float) -> bool:
        latch = Latch()
        self.waiting.setdefault(key, []).append(latch)
        if await self.read([key]) != [mark]:
            return True
        return await self.context.clock.wait(latch, timeout)

    async def expire(self, key: str, ttl: float | None) -> bool:
        (value,) = await self.read([key])
        return value is not None and value[:1] != CLAIM_MARK and await super().expire(key, ttl)


class Polling(Claiming):
    """Keeps claims, and cannot push."""

    capabilities = Claiming.capabilities & ~CacheCapability.PUSH
    await_change = CacheProvider.await_change


class ProlongsClaims(Claiming):
    """Takes a claim for a value that lasts on."""

    async def expire(self, key: str, ttl: float | None) -> bool:
        return await MemoryCache.expire(self, key, ttl)


class DeclaresClaims(MemoryCache):
    """Declares what it does not have."""

    capabilities = Claiming.capabilities


class ClaimsWhatIsThere(Claiming):
    """Overwrites values by claims."""

    def claimed(self, key: str, old: bytes | None, entry: Entry, now: float) -> Entry | None:
        self._write(entry, now, only_absent=False)
        return None


class ClaimsNothingNamed(Claiming):
    """Leaves what is out of date."""

    def claimed(self, key: str, old: bytes | None, entry: Entry, now: float) -> Entry | None:
        return super().claimed(key, None, entry, now)


class ClaimsForGood(Claiming):
    """Forgets how long a claim lasts."""

    def claimed(self, key: str, old: bytes | None, entry: Entry, now: float) -> Entry | None:
        return super().claimed(key, old, Entry(key, entry.value, None), now)


class SettlesForOthers(Claiming):
    """Does not mind whose claim it is."""

    def settled(self, key: str, entry: Entry | None, mark: bytes, now: float) -> bool:
        kept = self._live(key, now)
        return super().settled(key, entry, mark if kept is None else kept[0], now)


class GivesNothingBack(Claiming):
    """Keeps claims that nobody needs any more."""

    def settled(self, key: str, entry: Entry | None, mark: bytes, now: float) -> bool:
        return entry is None or super().settled(key, entry, mark, now)


class WakesEverybody(Claiming):
    """Wakes those who wait for other keys."""

    def wake(self, key: str) -> None:
        for other in list(self.waiting):
            super().wake(other)
