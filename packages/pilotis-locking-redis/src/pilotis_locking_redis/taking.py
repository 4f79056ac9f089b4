"""A request on its way: tried, waited for, given up."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from pilotis.providers import Clock, Grant, Latch, LockRequest, finish
from pilotis_redis import RedisLink
from pilotis_redis.faults import is_lost
from redis.exceptions import RedisClusterException, RedisError

from pilotis_locking_redis.scripts import LEAVE, LOCKS, TAKE, microseconds

ROUNDING = 0.001
"""Seconds: what has run out to the microsecond on the server has done so a little later for whoever waits for it."""
ASKING = 0.1
"""Seconds between two looks where nobody can listen: with no more than somebody else's asyncio client."""


class Taking:
    """One call of `acquire`."""

    def __init__(self, link: RedisLink, keys: tuple[str, ...], clock: Clock, request: LockRequest) -> None:
        self._link = link
        self._keys = keys
        self._clock = clock
        self._request = request
        self._id = os.urandom(12).hex()
        self._terms = (
            self._id,
            request.owner,
            microseconds(request.ttl),
            int(request.shared),
            request.permits or 0,
        )
        self._ticket = 0
        self._chance = 0.0
        """Seconds, from when it was asked, until a lease in the way may have run out."""
        self._may_stand_in_line = False

    async def run(self) -> Grant | None:
        """Return what is granted in time, or None. Whatever it raises, nothing of it stays behind."""
        try:
            deadline = self._clock.monotonic() + self._request.wait
            grant = await self.take(None)
            if grant is None and self._request.wait:
                grant = await self._wait(deadline) or await self._leave()
        except BaseException as error:
            if self._may_stand_in_line or not isinstance(error, Exception) or is_lost(error):
                await finish(self.undo(error))
            raise
        return grant

    async def _wait(self, deadline: float) -> Grant | None:
        """Stand in line until the deadline. Who was woken for nothing listens anew: a latch is set once."""
        self._may_stand_in_line = True
        grant = None
        while grant is None and self._left(deadline):
            async with self._listening() as heard:
                grant = await self._look_on(heard, deadline)
        return grant

    async def _look_on(self, heard: Latch, deadline: float) -> Grant | None:
        """Look now, at a word, and when a lease in the way may have run out."""
        while left := self._left(deadline):
            grant = await self.take(left)
            if grant is not None or heard.is_set():
                return grant
            await self._clock.wait(heard, min(left, self._patience))
        return None

    def _left(self, deadline: float) -> float:
        """Return the seconds until a deadline, or zero where it is there."""
        left = deadline - self._clock.monotonic()
        return left if left > ROUNDING else 0.0

    async def take(self, wait: float | None) -> Grant | None:
        """Ask once; with a `wait`, stand in line from now on."""
        since = self._clock.monotonic()
        lasting = -1 if wait is None else microseconds(wait)
        answer = await self._link.script(TAKE, self._keys, (*self._terms, lasting, self._ticket, *self._request.keys))
        if isinstance(answer, int):
            return self._granted(answer, since)
        if answer is not None:
            self._chance, self._ticket = answer[0] / 1e6, answer[1]
        return None

    async def _leave(self) -> Grant | None:
        """End a wait that is over; what came in the last moment counts."""
        since = self._clock.monotonic()
        token = await self._link.script(LEAVE, self._keys, self._leaving(is_undone=False))
        return None if token is None else self._granted(token, since)

    async def undo(self, cause: BaseException) -> None:
        """Leave nothing behind, if the server can be told; else it is over when the ttl and the wait are."""
        try:
            await self._link.script(LEAVE, self._keys, self._leaving(is_undone=True))
        except (RedisError, RedisClusterException) as error:
            cause.add_note(f"pilotis: what it may have locked is free when its ttl is over: {error}")

    def _leaving(self, *, is_undone: bool) -> tuple[object, ...]:
        request = self._request
        return (self._id, request.owner, int(is_undone), microseconds(request.ttl), *request.keys)

    def _granted(self, token: int, since: float) -> Grant:
        request = self._request
        return Grant(
            keys=request.keys,
            owner=request.owner,
            token=token,
            ttl=request.ttl,
            since=since,
            shared=request.shared,
        )

    @property
    def _patience(self) -> float:
        """Seconds after which to look, whether or not there was a word."""
        chance = self._chance + ROUNDING
        return chance if self._link.can_listen else min(chance, ASKING)

    @asynccontextmanager
    async def _listening(self) -> AsyncGenerator[Latch]:
        """Listen for being told to look, if that can be."""
        if not self._link.can_listen:
            yield Latch()
            return
        async with self._link.listening(f"{self._keys[LOCKS]}:{self._id}") as heard:
            yield heard
