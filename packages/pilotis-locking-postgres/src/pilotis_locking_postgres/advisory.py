"""Advisory locks: they live with a connection, each held set of keys with one of its own."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Sequence
from typing import NamedTuple

import psycopg
from pilotis.bridge import finish
from pilotis.errors import ConnectionFailedError, OperationTimeoutError, ThrottledError
from pilotis.providers import Grant, LockRequest
from pilotis_postgres import Postgres, Session
from pilotis_postgres.client import Pools
from pilotis_postgres.connections import is_quiet

from pilotis_locking_postgres import statements
from pilotis_locking_postgres.grants import Surroundings, grant_of
from pilotis_locking_postgres.hashes import numbers_of
from pilotis_locking_postgres.inside import lock_inside
from pilotis_locking_postgres.options import PostgresLocksOptions
from pilotis_locking_postgres.pins import Pin
from pilotis_locking_postgres.waits import TIMED_OUT, is_early, milliseconds


class _Handle(NamedTuple):
    """Where the locks of a grant are."""

    numbers: list[int]
    process: int
    pin: Pin | None
    """None: they are in a transaction of the caller's."""


class Advisory:
    """The verbs of a provider, for the modes `transaction` and `session`."""

    def __init__(self, provider: Surroundings, postgres: Postgres, options: PostgresLocksOptions) -> None:
        self._provider = provider
        self._options = options
        self._postgres = postgres
        self._scope = statements.scope_of(options.mode)
        self._pools = Pools(postgres.options, close_lent=True)
        self._next_token = statements.token(options.table)
        self._own_token = f"SELECT nextval('{options.table}_token')"

    async def acquire(self, request: LockRequest) -> Grant | None:
        numbers = numbers_of(self._provider.namespace, request.keys)
        taken = self._pinned if request.connection is None else self._inside
        handle = await taken(request, numbers)
        if handle is None:
            return None
        try:
            token = await self._token(request, handle)
            return grant_of(request, token, self._provider.context.clock.monotonic(), handle)
        except BaseException:
            if handle.pin is not None:
                await finish(self._let_go(handle.pin))
            raise

    async def renew(self, grants: Sequence[Grant]) -> list[bool]:
        """Tell of each whether its locks are there. They need no renewal. One statement for all."""
        handles = [_handle(grant) for grant in grants]
        processes = [handle.process for handle in handles if handle.pin is None or handle.pin.may_hold()]
        found = await self._holdings(processes) if processes else set[tuple[int, int]]()
        return [all((handle.process, number) in found for number in handle.numbers) for handle in handles]

    async def release(self, grant: Grant) -> bool:
        numbers, process, pin = _handle(grant)
        if pin is not None:
            return pin.unpin() and await pin.at_home(self._released(pin, numbers, shared=grant.shared))
        return await self._has(process, numbers)

    async def open(self) -> None:
        """Do nothing: connections are made when they are needed."""

    async def close(self) -> None:
        """End the connections, and the locks with them."""
        await self._pools.close()

    async def _token(self, request: LockRequest, handle: _Handle) -> int:
        """Return the next token of the sequence, read while the locks are held.

        Not in a transaction that holds them: now and then a token makes it one that writes, and that would keep the
        database from tidying up for as long as the lock is held.
        """
        if handle.pin is not None and self._scope == "session":
            ((token,),) = await Session(handle.pin.connection).execute(self._own_token)
            return token
        ((token, held),) = await self._postgres.execute(self._next_token, {"process": handle.process})
        if not set(handle.numbers).issubset(held):
            keys = ", ".join(request.keys)
            raise ConnectionFailedError(f"{keys}: the connection of the lock ended before it had a token; try again")
        return token

    async def _has(self, process: int, numbers: list[int]) -> bool:
        """Tell whether one of the server's processes has all of these locks."""
        found = await self._holdings([process])
        return all((process, number) in found for number in numbers)

    async def _holdings(self, processes: list[int]) -> set[tuple[int, int]]:
        return set(await self._postgres.execute(statements.holdings(), {"processes": processes}))

    # Taking

    async def _inside(self, request: LockRequest, numbers: list[int]) -> _Handle | None:
        def sees(process: int) -> Awaitable[bool]:
            return self._has(process, numbers)

        process = await lock_inside(request, numbers, sees, self._postgres.address)
        return None if process is None else _Handle(numbers, process, None)

    async def _pinned(self, request: LockRequest, numbers: list[int]) -> _Handle | None:
        deadline = time.monotonic() + request.wait
        pin = await self._pin(request.wait)
        try:
            process = await self._taken(pin, request, numbers, deadline - time.monotonic())
            if process is not None:
                return _Handle(numbers, process, pin)
        except BaseException:
            await finish(self._let_go(pin))
            raise
        await self._let_go(pin)
        return None

    async def _pin(self, wait: float) -> Pin:
        pool = self._pools.here()
        try:
            return Pin(pool, await pool.take(wait))
        except OperationTimeoutError:
            raise ThrottledError(
                f"{self._options.max_connections} locks are held or waited for here, each with a connection of its "
                f"own, and there are no more; raise max_connections, or set mode to 'table'"
            ) from None

    async def _taken(self, pin: Pin, request: LockRequest, numbers: list[int], seconds: float) -> int | None:
        """Return the server's process that has the locks now, or None."""
        session = Session(pin.connection)
        version: int = session.connection.info.server_version
        waits = request.wait > 0 and seconds > 0
        script = statements.lock(self._scope, waits=waits, shared=request.shared, version=version)
        if waits:
            return await self._waited(session, script, numbers, seconds)
        ((process, is_granted),) = await session.script(script, {"numbers": numbers})
        return process if is_granted else None

    async def _waited(self, session: Session, script: str, numbers: list[int], seconds: float) -> int | None:
        began, wait = time.monotonic(), milliseconds(seconds)
        try:
            async with session.patient(seconds):
                ((process,),) = await session.script(script, {"numbers": numbers, "wait": wait})
        except TIMED_OUT as error:
            if is_early(error, began, wait):
                raise
            return await self._granted_after_all(session, numbers) if self._scope == "session" else None
        return process

    async def _granted_after_all(self, session: Session, numbers: list[int]) -> int | None:
        """Look whether the time-out and the grant came at once. PostgreSQL says then that it timed out, and holds.

        A transaction that failed gives its locks back; a connection does not.
        """
        ((process,),) = await session.script("ROLLBACK; SELECT pg_backend_pid()")
        return process if await self._has(process, numbers) else None

    # Letting go

    async def _released(self, pin: Pin, numbers: list[int], *, shared: bool) -> bool:
        """Let the locks go, and tell whether they were held. A connection that ended took them along."""
        try:
            was_held = is_quiet(pin.connection) and await self._unlocked(pin, numbers, shared=shared)
        except psycopg.OperationalError:
            was_held = False
        except BaseException:  # whoever is interrupted lets go first
            await finish(self._let_go(pin))
            raise
        await (pin.pool.give(pin.connection) if was_held else pin.pool.drop(pin.connection))
        return was_held

    async def _unlocked(self, pin: Pin, numbers: list[int], *, shared: bool) -> bool:
        session = Session(pin.connection)
        if self._scope == "transaction":
            await session.execute("COMMIT")
            return True
        ((were_held,),) = await session.execute(statements.unlock(shared=shared), {"numbers": numbers})
        return were_held

    async def _let_go(self, pin: Pin) -> None:
        """Leave nothing of a request that came to nothing."""
        pin.unpin()
        try:
            if self._scope == "session" and not pin.connection.closed:
                await Session(pin.connection).script("ROLLBACK; SELECT pg_advisory_unlock_all()")
        except BaseException:
            await pin.pool.drop(pin.connection)
            raise
        await pin.pool.give(pin.connection)


def _handle(grant: Grant) -> _Handle:
    assert isinstance(grant.handle, _Handle), "a grant of another provider"
    return grant.handle
