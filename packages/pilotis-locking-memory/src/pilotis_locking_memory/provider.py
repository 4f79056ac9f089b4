"""Locks of one process."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from pilotis.providers import (
    Grant,
    LockingCapability,
    LockingProvider,
    LockRequest,
    LockState,
    reset_after_fork,
)

from pilotis_locking_memory.table import ROUNDING, Table, Waiter


class MemoryLocking(LockingProvider):
    """Locks for the threads and tasks of one process. After a fork, the child begins with none."""

    capabilities = (
        LockingCapability.EXPIRY
        | LockingCapability.FENCING
        | LockingCapability.FAIR
        | LockingCapability.OWNERS
        | LockingCapability.INSPECT
        | LockingCapability.SHARED
        | LockingCapability.SEMAPHORE
        | LockingCapability.LIST
        | LockingCapability.BREAK
    )

    def __init__(
        self,
        options: msgspec.Struct | None = None,
        *,
        client: object | None = None,
        async_client: object | None = None,
    ) -> None:
        super().__init__(options, client=client, async_client=async_client)
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self.table = Table()

    async def acquire(self, request: LockRequest) -> Grant | None:
        waiter = Waiter(request)
        try:
            await self._wait_for(waiter)
        except BaseException:
            self.table.withdraw(waiter, self._now())
            raise
        return waiter.grant or self.table.give_up(waiter, self._now())

    async def renew(self, grants: Sequence[Grant]) -> list[bool]:
        now = self._now()
        return [self.table.renew(grant, now) for grant in grants]

    async def release(self, grant: Grant) -> bool:
        return self.table.release(grant, self._now())

    async def release_owner(self, owner: str, keys: Sequence[str] | None = None) -> int:
        return self.table.release_owner(owner, keys, self._now())

    async def inspect(self, key: str) -> LockState | None:
        return self._state(key, self._now())

    async def held(self, prefix: str, limit: int) -> list[LockState]:
        now = self._now()
        states = [self._state(key, now) for key in self.table.held(prefix, limit, now)]
        return [state for state in states if state is not None]  # one may have been released meanwhile

    async def break_lock(self, key: str) -> int:
        return self.table.break_key(key, self._now())

    def _state(self, key: str, now: float) -> LockState | None:
        holders, waiters = self.table.inspect(key, now)
        if not holders:
            return None
        first = holders[0]
        offset = self.context.clock.time() - now
        return LockState(
            key=key,
            owner=first.owner,
            token=first.token,
            since=datetime.fromtimestamp(first.since + offset, UTC),
            expires=datetime.fromtimestamp(first.expires + offset, UTC),
            waiters=waiters,
            holders=len(holders),
            shared=first.shared,
        )

    async def _wait_for(self, waiter: Waiter) -> None:
        table, clock = self.table, self.context.clock
        now = self._now()
        deadline = now + waiter.request.wait
        table.enter(waiter, now)
        while waiter.grant is None and deadline - now > ROUNDING:
            await clock.wait(waiter.granted, min(deadline - now, table.patience(waiter, now)))
            now = self._now()
            table.look(waiter, now)

    def _now(self) -> float:
        return self.context.clock.monotonic()
