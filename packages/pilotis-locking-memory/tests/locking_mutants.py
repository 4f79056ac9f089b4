"""Providers that break one obligation each. The conformance suite must catch every one."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from pilotis.providers import Grant, LockingCapability, LockingProvider, LockRequest, LockState, pause
from pilotis_locking_memory import MemoryLocking
from pilotis_locking_memory.table import Key, Table, Waiter


class GrantsToAll(MemoryLocking):
    async def acquire(self, request: LockRequest) -> Grant | None:
        return await super().acquire(msgspec.structs.replace(request, owner="everybody"))


class ForgetsExpiry(MemoryLocking):
    async def acquire(self, request: LockRequest) -> Grant | None:
        grant = await super().acquire(msgspec.structs.replace(request, ttl=1e6))
        return None if grant is None else msgspec.structs.replace(grant, ttl=request.ttl)


class RepeatsTokens(MemoryLocking):
    async def acquire(self, request: LockRequest) -> Grant | None:
        self.table.token = 0
        return await super().acquire(request)


class TakesPart(MemoryLocking):
    async def acquire(self, request: LockRequest) -> Grant | None:
        grants = [await super(TakesPart, self).acquire(part) for part in _parts(request)]
        last = grants[-1]
        return None if last is None or None in grants else msgspec.structs.replace(last, keys=request.keys)


class KeepsPartAfterWaiting(MemoryLocking):
    async def acquire(self, request: LockRequest) -> Grant | None:
        grant = None
        for part in _parts(request):
            grant = await super().acquire(part)
            if grant is None:
                return None
        return None if grant is None else msgspec.structs.replace(grant, keys=request.keys)


class ReleasesByName(MemoryLocking):
    async def release(self, grant: Grant) -> bool:
        return await self.release_owner(grant.owner, grant.keys) == len(grant.keys)


class AlwaysReleases(MemoryLocking):
    async def release(self, grant: Grant) -> bool:
        await super().release(grant)
        return True


class Revives(MemoryLocking):
    async def renew(self, grants: Sequence[Grant]) -> list[bool]:
        return [await self._take_again(grant) for grant in grants]

    async def _take_again(self, grant: Grant) -> bool:
        return await self.acquire(LockRequest(keys=grant.keys, owner=grant.owner, ttl=grant.ttl)) is not None


class RenewsTheFirstOnly(MemoryLocking):
    async def renew(self, grants: Sequence[Grant]) -> list[bool]:
        return [True for _ in grants] if all(await super().renew(grants[:1])) else [False for _ in grants]


class CutsShort(MemoryLocking):
    async def renew(self, grants: Sequence[Grant]) -> list[bool]:
        held = await super().renew(grants)
        for grant in grants:
            for name in grant.keys:
                for holding in self.table.keys[name].holders.values():
                    holding.expires = self._now() + grant.ttl
        return held


class FreesOthers(MemoryLocking):
    async def release_owner(self, owner: str, keys: Sequence[str] | None = None) -> int:
        holders = {held for key in self.table.keys.values() for held in key.holders}
        return sum([await super(FreesOthers, self).release_owner(each, keys) for each in sorted(holders)])


class CountsAgain(MemoryLocking):
    async def acquire(self, request: LockRequest) -> Grant | None:
        await super().release_owner(request.owner, request.keys)
        return await super().acquire(request)


class FoldsCase(MemoryLocking):
    async def acquire(self, request: LockRequest) -> Grant | None:
        folded = tuple(sorted({key.lower() for key in request.keys}))
        return await super().acquire(msgspec.structs.replace(request, keys=folded))


class InspectsNothing(MemoryLocking):
    async def inspect(self, key: str) -> LockState | None:
        return None


class DeclaresTooMuch(MemoryLocking):
    async def release_owner(self, owner: str, keys: Sequence[str] | None = None) -> int:
        return await LockingProvider.release_owner(self, owner, keys)


class OrphanTable(Table):
    def withdraw(self, waiter: Waiter, now: float) -> None:
        if waiter.grant is None:
            super().withdraw(waiter, now)


class LeavesOrphans(MemoryLocking):
    def after_fork(self) -> None:
        self.table = OrphanTable()


class LingeringTable(Table):
    def withdraw(self, waiter: Waiter, now: float) -> None:
        """Leave the place in the queue as it is."""


class LingersInQueues(MemoryLocking):
    def after_fork(self) -> None:
        self.table = LingeringTable()


class LastFirstTable(Table):
    def _advance(self, waiter: Waiter, now: float) -> None:
        super()._advance(waiter, now)
        for key in self.keys.values():
            if waiter in key.queue:
                key.queue.move_to_end(waiter, last=False)


class ServesTheLastFirst(MemoryLocking):
    def after_fork(self) -> None:
        self.table = LastFirstTable()


class EagerSharersTable(Table):
    def _passes(self, key: Key, request: LockRequest, now: float) -> bool:
        return key.fits(request, now) if request.shared else super()._passes(key, request, now)


class LetsSharersPass(MemoryLocking):
    def after_fork(self) -> None:
        self.table = EagerSharersTable()


class SuspendsAfterTheGrant(MemoryLocking):
    """Waits once more when it has the lock, as who reads an answer does, and forgets it when it is cancelled then."""

    async def acquire(self, request: LockRequest) -> Grant | None:
        grant = await super().acquire(request)
        await pause(1e-6)
        return grant


class SuspendsAfterThePermit(MemoryLocking):
    """The same with permits alone."""

    async def acquire(self, request: LockRequest) -> Grant | None:
        grant = await super().acquire(request)
        if request.permits is not None:
            await pause(1e-6)
        return grant


class SuspendsBeforeTheRelease(MemoryLocking):
    """Forgets to let go when it is interrupted before it has begun to."""

    async def release(self, grant: Grant) -> bool:
        await pause(1e-6)
        return await super().release(grant)


# Several holders


class GrantsPermitsToAll(MemoryLocking):
    async def acquire(self, request: LockRequest) -> Grant | None:
        return await super().acquire(msgspec.structs.replace(request, permits=None))


class TakesOnePermitTooMany(MemoryLocking):
    async def acquire(self, request: LockRequest) -> Grant | None:
        permits = None if request.permits is None else request.permits + 1
        return await super().acquire(msgspec.structs.replace(request, permits=permits))


class CountsTheOwnerToo(MemoryLocking):
    async def acquire(self, request: LockRequest) -> Grant | None:
        held = await self.inspect(request.keys[0])
        if request.permits is not None and held is not None and held.holders >= request.permits:
            return None
        return await super().acquire(request)


class CountingReservationsTable(Table):
    def _passes(self, key: Key, request: LockRequest, now: float) -> bool:
        others = len(key.holders) + len(key.reserved)
        is_full = request.permits is not None and request.owner not in key.holders and others >= request.permits
        return not is_full and super()._passes(key, request, now)


class CountsWhoWaitsForMoreTwice(MemoryLocking):
    def after_fork(self) -> None:
        self.table = CountingReservationsTable()


class RemembersTheFirstBound(MemoryLocking):
    first: int | None = None

    async def acquire(self, request: LockRequest) -> Grant | None:
        self.first = self.first or request.permits
        return await super().acquire(msgspec.structs.replace(request, permits=self.first))


class BesideTheOwnerTable(Table):
    def _passes(self, key: Key, request: LockRequest, now: float) -> bool:
        return request.permits is not None or super()._passes(key, request, now)


class LetsPermitsPass(MemoryLocking):
    def after_fork(self) -> None:
        self.table = BesideTheOwnerTable()


class LetsInAfterTheFirst(MemoryLocking):
    async def release(self, grant: Grant) -> bool:
        freed = await super().release(grant)
        if grant.shared:
            await self.break_lock(grant.keys[0])
        return freed


class SharesTokens(MemoryLocking):
    async def acquire(self, request: LockRequest) -> Grant | None:
        before = self.table.token
        grant = await super().acquire(request)
        if grant is None or not request.shared or not before:
            return grant
        return msgspec.structs.replace(grant, token=before)


class CountsOneHolder(MemoryLocking):
    async def inspect(self, key: str) -> LockState | None:
        state = await super().inspect(key)
        return None if state is None else msgspec.structs.replace(state, holders=1)

    async def held(self, prefix: str, limit: int) -> list[LockState]:
        return [msgspec.structs.replace(state, holders=1) for state in await super().held(prefix, limit)]


# Owners who want more


class RenewsWhatIsLeft(MemoryLocking):
    async def renew(self, grants: Sequence[Grant]) -> list[bool]:
        return [any([await self._renewed(grant, key) for key in grant.keys]) for grant in grants]

    async def _renewed(self, grant: Grant, key: str) -> bool:
        return (await super().renew([msgspec.structs.replace(grant, keys=(key,))]))[0]


class ReleasesAllOrNothing(MemoryLocking):
    async def release(self, grant: Grant) -> bool:
        return await super().release(grant) if (await self.renew([grant]))[0] else False


class GivesUpWhatItHas(MemoryLocking):
    async def acquire(self, request: LockRequest) -> Grant | None:
        if len(request.keys) > 1:
            await self.release_owner(request.owner)
        return await super().acquire(request)


class GreedyTable(Table):
    def withdraw(self, waiter: Waiter, now: float) -> None:
        super().withdraw(waiter, now)
        self.release_owner(waiter.request.owner, None, now)


class TakesAwayWhenCancelled(MemoryLocking):
    def after_fork(self) -> None:
        self.table = GreedyTable()


# Operating


class CountsNobody(MemoryLocking):
    async def inspect(self, key: str) -> LockState | None:
        state = await super().inspect(key)
        return None if state is None else msgspec.structs.replace(state, waiters=0)


class ListsEverything(MemoryLocking):
    async def held(self, prefix: str, limit: int) -> list[LockState]:
        return await super().held("", limit)


class ListsByPattern(MemoryLocking):
    async def held(self, prefix: str, limit: int) -> list[LockState]:
        return await super().held(prefix.rstrip("*"), limit)


class ListsWithoutLimit(MemoryLocking):
    async def held(self, prefix: str, limit: int) -> list[LockState]:
        return await super().held(prefix, 1000)


class ListsTheFirstKeys(MemoryLocking):
    async def held(self, prefix: str, limit: int) -> list[LockState]:
        return [state for state in await super().held(prefix, 1000) if int(state.key[-2:]) < limit]


class ListsUnsorted(MemoryLocking):
    async def held(self, prefix: str, limit: int) -> list[LockState]:
        return (await super().held(prefix, limit))[::-1]


class RemembersWhatItListed(MemoryLocking):
    async def acquire(self, request: LockRequest) -> Grant | None:
        self.remembered = {**getattr(self, "remembered", {}), **dict.fromkeys(request.keys)}
        return await super().acquire(request)

    async def held(self, prefix: str, limit: int) -> list[LockState]:
        return [LockState(key=key, owner="somebody", token=1) for key in self.remembered]


class BreaksNothing(MemoryLocking):
    async def break_lock(self, key: str) -> int:
        return 1


class BreaksTheWholeLease(MemoryLocking):
    async def break_lock(self, key: str) -> int:
        state = await self.inspect(key)
        return 0 if state is None else min(1, await self.release_owner(state.owner))


class BreaksOneOfMany(MemoryLocking):
    async def break_lock(self, key: str) -> int:
        state = await self.inspect(key)
        return 0 if state is None else await self.release_owner(state.owner, [key])


class BreaksAndTells(MemoryLocking):
    async def release(self, grant: Grant) -> bool:
        await super().release(grant)
        return True


class IgnoresConnections(MemoryLocking):
    capabilities = MemoryLocking.capabilities | LockingCapability.TRANSACTION


def _parts(request: LockRequest) -> list[LockRequest]:
    return [msgspec.structs.replace(request, keys=(key,)) for key in request.keys]
