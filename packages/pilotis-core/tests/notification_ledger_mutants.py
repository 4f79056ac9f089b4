"""Ledgers that break one obligation each: the conformance suite must catch every one."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace
from pilotis.modules.notification import LedgerEntry, LedgerQuery, MemoryLedger
from pilotis.providers import pause


class KnowsNoKeys(MemoryLedger):
    """Everything is written, whoever has the key."""

    async def record(self, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
        for entry in entries:
            self._entries[entry.id] = entry
        return list(entries)


class SharesTheMissingKey(MemoryLedger):
    """No key is a key like any other."""

    async def record(self, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
        first = next(iter(self._entries.values()), entries[0])
        await super().record([first] if first.id not in self._entries else [])
        return [first if entry.notification.idempotency_key is None else entry for entry in entries]


class LooksThenWrites(MemoryLedger):
    """Between the look and the writing another caller finds the key free as well."""

    async def record(self, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
        held = [self._keys.get(entry.notification.idempotency_key or entry.id) for entry in entries]
        await pause(0.01)
        for entry, holder in zip(entries, held, strict=True):
            if holder is None:
                self._entries[entry.id] = entry
                self._keys[entry.notification.idempotency_key or entry.id] = entry.id
        return [self._entries[holder or entry.id] for entry, holder in zip(entries, held, strict=True)]


class LosesBytes(MemoryLedger):
    """What follows a zero byte is gone."""

    async def record(self, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
        return await super().record([replace(one, message=one.message.partition(b"\0")[0]) for one in entries])


class LeavesOutGaps(MemoryLedger):
    """Unknown ids have no place in the answer."""

    async def read(self, ids: Sequence[str]) -> list[LedgerEntry | None]:
        return [entry for entry in await super().read(ids) if entry is not None]


class IgnoresVersions(MemoryLedger):
    """The last writer wins."""

    async def replace(self, entries: Sequence[LedgerEntry]) -> list[bool]:
        known = [entry.id in self._entries for entry in entries]
        self._entries.update({entry.id: entry for entry in entries if entry.id in self._entries})
        return known


class WritesUnknownEntries(MemoryLedger):
    """Replaces what was never there."""

    async def replace(self, entries: Sequence[LedgerEntry]) -> list[bool]:
        for entry in entries:
            self._entries.setdefault(entry.id, replace(entry, version=entry.version - 1))
        return await super().replace(entries)


class ReplacesAllOrNone(MemoryLedger):
    """One entry that is too late keeps the others from being written."""

    async def replace(self, entries: Sequence[LedgerEntry]) -> list[bool]:
        stored = [self._entries.get(entry.id) for entry in entries]
        late = any(one is None or one.version != new.version - 1 for one, new in zip(stored, entries, strict=True))
        return [False for _ in entries] if late else await super().replace(entries)


class FindsOldestFirst(MemoryLedger):
    """The wrong way round."""

    async def find(self, query: LedgerQuery) -> list[LedgerEntry]:
        return list(reversed(await super().find(query)))


class FindsAll(MemoryLedger):
    """The limit is not looked at."""

    async def find(self, query: LedgerQuery) -> list[LedgerEntry]:
        return await super().find(replace(query, limit=None))


class ForgetsTheResource(MemoryLedger):
    """One filter of several is not looked at."""

    async def find(self, query: LedgerQuery) -> list[LedgerEntry]:
        return await super().find(replace(query, resource=None))


class SinceIsAfter(MemoryLedger):
    """What was created at that very time is left out."""

    async def find(self, query: LedgerQuery) -> list[LedgerEntry]:
        return [one for one in await super().find(query) if one.notification.created_at != query.since]


class TrustsTheStatus(MemoryLedger):
    """A lease never ends."""

    async def find(self, query: LedgerQuery) -> list[LedgerEntry]:
        return await super().find(replace(query, now=0.0))
