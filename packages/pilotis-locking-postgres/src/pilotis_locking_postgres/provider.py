"""Locks in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from pilotis.errors import ConfigurationError, UnsupportedError
from pilotis.providers import Grant, LockingCapability, LockingProvider, LockRequest, LockState
from pilotis_postgres import PostgresBacked

from pilotis_locking_postgres import schema
from pilotis_locking_postgres.advisory import Advisory
from pilotis_locking_postgres.leases import Leases
from pilotis_locking_postgres.options import PostgresLocksOptions

ADVISORY = (
    LockingCapability.FENCING
    | LockingCapability.FAIR
    | LockingCapability.SHARED
    | LockingCapability.TRANSACTION
    | LockingCapability.CROSS_PROCESS
)
TABLE = (
    LockingCapability.EXPIRY
    | LockingCapability.FENCING
    | LockingCapability.FAIR
    | LockingCapability.OWNERS
    | LockingCapability.INSPECT
    | LockingCapability.SHARED
    | LockingCapability.SEMAPHORE
    | LockingCapability.LIST
    | LockingCapability.BREAK
    | LockingCapability.CROSS_PROCESS
)


class PostgresLocks(PostgresBacked, LockingProvider):
    """Locks for all processes that reach one PostgreSQL: advisory ones, or leases in a table, as `mode` says.

    An advisory lock lives with its connection: a crash of its holder frees it at once, nobody else can, and no ttl
    ends it. What it cannot do is an undeclared capability.
    """

    Options = PostgresLocksOptions
    capabilities = ADVISORY

    def __init__(
        self, options: PostgresLocksOptions | None = None, *, client: Any = None, async_client: Any = None
    ) -> None:
        super().__init__(options, client=client, async_client=async_client)
        if self.options.mode == "table":
            self.capabilities = TABLE  # pyright: ignore[reportAttributeAccessIssue] - of this one

    @property
    def namespace(self) -> str:
        """Whoever has the same one has the same locks."""
        return self.options.namespace or self.context.name

    @property
    def hears(self) -> bool:
        """Whether notifications arrive: a pooler that lends connections for a transaction keeps them back."""
        return self.facts.pooler != "transaction"

    async def migrate(self) -> list[str]:
        return await schema.migrate(self.postgres, self.options)

    async def open(self) -> None:
        await super().open()
        if self.options.mode == "session" and self.facts.pooler == "transaction":
            raise ConfigurationError(
                f"a pooler at {self.address} lends its connections for one transaction, and a lock of mode 'session' "
                f"would stay behind on a connection that others get; set mode to 'transaction' or 'table', or name the "
                f"server itself in url",
                path="locking.mode",
            )
        await schema.check(self.postgres, self.options)
        await self._locks.open()

    async def close(self) -> None:
        await self._locks.close()
        await super().close()

    async def acquire(self, request: LockRequest) -> Grant | None:
        return await self._locks.acquire(request)

    async def renew(self, grants: Sequence[Grant]) -> list[bool]:
        return await self._locks.renew(grants)

    async def release(self, grant: Grant) -> bool:
        return await self._locks.release(grant)

    async def release_owner(self, owner: str, keys: Sequence[str] | None = None) -> int:
        return await self._leases("OWNERS").release_owner(owner, keys)

    async def inspect(self, key: str) -> LockState | None:
        return await self._leases("INSPECT").inspect(key)

    async def held(self, prefix: str, limit: int) -> list[LockState]:
        return await self._leases("LIST").held(prefix, limit)

    async def break_lock(self, key: str) -> int:
        return await self._leases("BREAK").break_lock(key)

    @cached_property
    def _locks(self) -> Advisory | Leases:
        """Made when they are first needed: only then are the connections those that are shared."""
        if self.options.mode == "table":
            return Leases(self, self.postgres, self.options.table)
        return Advisory(self, self.postgres, self.options)

    def _leases(self, capability: str) -> Leases:
        if isinstance(self._locks, Leases):
            return self._locks
        raise UnsupportedError(capability, self.name or type(self).__name__)
