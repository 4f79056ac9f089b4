"""Leases in a table: each verb is one function of the database, or one statement."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any

from pilotis.bridge import Latch, finish
from pilotis.providers import Grant, LockRequest, LockState
from pilotis_postgres import Postgres
from pilotis_postgres.sql import load

from pilotis_locking_postgres.grants import Surroundings, grant_of
from pilotis_locking_postgres.statements import PACKAGE

logger = logging.getLogger("pilotis.locking.postgres")

POLL = 0.25
"""Seconds between looks where notifications cannot be heard."""

GRACE = 5.0
"""Seconds for which a waiter may be late, as it is when its machine is busy, before its place in the queue is gone."""

NEXT = "\x01"
"""Appended to a key, it makes a text that sorts behind the key, and before every other one: keys have none below it."""

LAST = "\U0010ffff"
"""Sorts behind every other character."""


class Leases:
    """The verbs of a provider, for the mode `table`."""

    def __init__(self, provider: Surroundings, postgres: Postgres, table: str) -> None:
        self._provider = provider
        self._postgres = postgres
        self._table = table
        self._take = load(PACKAGE, "take", table=table)

    async def acquire(self, request: LockRequest) -> Grant | None:
        waiter = _Waiter(self, request)
        try:
            return await waiter.run()
        except BaseException:
            await finish(self._withdraw(waiter))
            raise

    async def renew(self, grants: Sequence[Grant]) -> list[bool]:
        parts = [(index, key, grant) for index, grant in enumerate(grants) for key in grant.keys]
        rows = await self._postgres.execute(
            self._renew,
            {
                "namespace": self._provider.namespace,
                "grants": [index for index, _, _ in parts],
                "keys": [key for _, key, _ in parts],
                "owners": [grant.owner for _, _, grant in parts],
                "tokens": [grant.token for _, _, grant in parts],
                "ttls": [grant.ttl for _, _, grant in parts],
            },
        )
        held = {index for (index,) in rows}
        return [index in held for index in range(len(grants))]

    async def release(self, grant: Grant) -> bool:
        try:
            return await self._release(grant)
        except Exception:
            raise
        except BaseException:  # whoever is interrupted lets go first
            await finish(self._release(grant))
            raise

    async def release_owner(self, owner: str, keys: Sequence[str] | None) -> int:
        return await self._call("release_owner", "%s, %s::text[]", owner, None if keys is None else list(keys))

    async def inspect(self, key: str) -> LockState | None:
        return next(iter(await self._states(key, key + NEXT, 1)), None)

    async def held(self, prefix: str, limit: int) -> list[LockState]:
        return await self._states(prefix, prefix + LAST, limit)

    async def break_lock(self, key: str) -> int:
        return await self._call("break", "%s", key)

    async def open(self) -> None:
        """Forget what ran out: a key that nobody asks for again would keep its row for ever."""
        script = load(PACKAGE, "forget", table=self._table)
        await self._postgres.script(script, {"namespace": self._provider.namespace})

    async def close(self) -> None:
        """Do nothing: the table keeps what is held."""

    # For waiters

    def now(self) -> float:
        return self._provider.context.clock.monotonic()

    async def wait(self, latch: Latch, seconds: float) -> None:
        await self._provider.context.clock.wait(latch, seconds)

    async def look(self, waiter: _Waiter, stay: float, channel: str | None, listener: int | None) -> Grant | float:
        """Take what can be had: the grant, or after how many seconds it is worth while to look again."""
        request, since = waiter.request, self.now()
        asked = {
            "namespace": self._provider.namespace,
            "keys": list(request.keys),
            "owner": request.owner,
            "ttl": request.ttl,
            "shared": request.shared,
            "permits": request.permits,
            "ticket": waiter.ticket,
            "stay": stay,
            "channel": channel,
            "listener": listener,
        }
        ((token, patience),) = await self._postgres.execute(self._take, asked)
        if token is not None:
            return grant_of(request, token, since)
        return request.wait if patience is None else max(0.0, patience)

    @asynccontextmanager
    async def listening(self, waiter: _Waiter) -> AsyncGenerator[Any]:
        """Listen to what wakes a waiter: an ear, or None where nothing can be heard."""
        if self._provider.hears:
            async with self._postgres.listening(waiter.channel) as ear:
                yield ear
        else:
            yield None

    async def withdraw(self, waiter: _Waiter) -> None:
        """Leave nothing of a request."""
        await self._call("withdraw", "%s::text[], %s", list(waiter.request.keys), waiter.ticket)

    async def _release(self, grant: Grant) -> bool:
        keys = list(grant.keys)
        return await self._call("release", "%s::text[], %s, %s", keys, grant.owner, grant.token) == len(keys)

    async def _withdraw(self, waiter: _Waiter) -> None:
        try:
            await self.withdraw(waiter)
        except Exception as error:  # the one that is under way says more
            logger.warning("a request for locks that failed may stay for its wait or its ttl: %s", error)

    async def _call(self, verb: str, places: str, *values: Any) -> Any:
        statement = f"SELECT {self._table}_{verb}(%s, {places})"
        ((answer,),) = await self._postgres.execute(statement, (self._provider.namespace, *values))
        return answer

    async def _states(self, first: str, last: str, most: int) -> list[LockState]:
        names = {"namespace": self._provider.namespace, "first": first, "last": last, "most": most}
        return [_state(row) for row in await self._postgres.execute(self._find, names)]

    @cached_property
    def _renew(self) -> str:
        return load(PACKAGE, "renew", table=self._table)

    @cached_property
    def _find(self) -> str:
        return load(PACKAGE, "states", table=self._table)


class _Waiter:
    """A request on its way. Its ticket is of its own making, so that it can be taken back though no answer came."""

    def __init__(self, leases: Leases, request: LockRequest) -> None:
        self._leases = leases
        self.request = request
        self.ticket = secrets.randbits(62)
        self.channel = f"pilotis_{self.ticket:x}"
        self._deadline = leases.now() + request.wait

    async def run(self) -> Grant | None:
        """Look once, and where that is not enough and there is a wait, stand in the queue."""
        answer = await self._leases.look(self, 0, None, None)
        if isinstance(answer, Grant):
            return answer
        return await self._queue() if self.request.wait > 0 else None

    async def _queue(self) -> Grant | None:
        async with self._leases.listening(self) as ear:
            while (left := self._deadline - self._leases.now()) > 0:
                answer = await self._turn(ear, left)
                if answer is not None:
                    return answer
        await self._leases.withdraw(self)
        return None

    async def _turn(self, ear: Any, left: float) -> Grant | None:
        if ear is None:
            latch = Latch()
            answer = await self._leases.look(self, min(left, POLL) + GRACE, None, None)
        else:
            latch = await ear.news()
            answer = await self._leases.look(self, left + GRACE, self.channel, ear.pid)
        if isinstance(answer, Grant):
            return answer
        await self._leases.wait(latch, min(left, answer, POLL if ear is None else left))
        return None


def _state(row: Sequence[Any]) -> LockState:
    key, owner, token, since, expires, shared, holders, waiters = row
    return LockState(
        key=key,
        owner=owner,
        token=token,
        since=since,
        expires=expires,
        waiters=waiters,
        holders=holders,
        shared=shared,
    )
