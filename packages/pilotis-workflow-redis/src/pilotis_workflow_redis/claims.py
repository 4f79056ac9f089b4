"""Claiming runs: what one worker asks for, waits for, and may have been given without knowing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import msgspec
from pilotis.providers import Claimed, finish
from pilotis_redis import RedisLink
from pilotis_redis.lanes.turn import Turn

from pilotis_workflow_redis.keys import RunKeys
from pilotis_workflow_redis.lives import Life
from pilotis_workflow_redis.records import UNREADABLE, encode, read_claimed, unreadable
from pilotis_workflow_redis.scripts import SCRIPTS

logger = logging.getLogger("pilotis.workflow.redis")

LOOK = 1.0
"""Seconds after which a worker looks by itself: those that were rung in its place may all be dead."""
_DEAD = b"dead"

Flows = Collection[tuple[str, str]]


class Rest(NamedTuple):
    """What a worker that found nothing waits for."""

    heard: bytes
    """The last entry of its bell: a later one means that there is something."""
    due: float | None
    """Seconds until a wait ends, in which others may be interested."""


def flow_name(flow: tuple[str, str]) -> str:
    """Return what the queue of a workflow and a version is called."""
    return msgspec.json.encode(flow).decode()


class Claimant:
    """One worker of this process. Its claims go one after the other."""

    def __init__(self, worker: str, link: RedisLink, reads: RedisLink, keys: RunKeys, live: Callable[[], Life]) -> None:
        """`reads` is for what waits on the server, and `live` begins a life of the worker."""
        self._worker = worker
        self._link = link
        self._reads = reads
        self._keys = keys
        self._live = live
        self._life: Life | None = None
        self._turn = Turn()
        self.is_claiming = False
        """Whether it waits for runs, or is about to have some."""
        self._ticket = time.time_ns() // 1000
        """The number of its last claim; nobody of its name who was there before had a greater one."""
        self._unanswered: int | None = None
        """The first claim of those whose answer was lost: what they took is asked for again."""
        self._flows: Flows = ()
        self._known: frozenset[tuple[str, str]] = frozenset()
        """The workflows that it is rung for."""

    async def claim(self, flows: Flows, limit: int, timeout: float | None) -> list[Claimed]:
        """Take runs, or wait for some: at most until something is due."""
        end = None if timeout is None else time.monotonic() + timeout
        async with self._turn:
            self.is_claiming = True
            try:
                return await self._claim(flows, limit, end)
            finally:
                self.is_claiming = False

    async def _claim(self, flows: Flows, limit: int, end: float | None) -> list[Claimed]:
        while True:
            left = LOOK if end is None else min(LOOK, end - time.monotonic())
            claimed, rest = await self._take(flows, limit, waits=left > 0)
            if claimed or left <= 0 or rest.due == 0:
                return claimed
            await self._listen(rest, left)

    def is_deaf_to(self, flow: tuple[str, str]) -> bool:
        """Tell whether it waits, and is not rung for a workflow that it knows by now."""
        return flow not in self._known and flow in self._flows

    async def ring(self) -> None:
        """Have it look again."""
        bell = self._keys.bell(self._worker)
        await self._link.execute("XADD", bell, "NOMKSTREAM", "MAXLEN", 1, "*", "w", "")

    async def end(self) -> None:
        """Have the worker be gone, until its next claim."""
        life, self._life = self._life, None
        if life is not None:
            await life.end()

    async def _take(self, flows: Flows, limit: int, *, waits: bool) -> tuple[list[Claimed], Rest]:
        self._flows, self._known = flows, frozenset(flows)
        while True:
            found, heard, due = await self._look(limit, waits=waits)
            claimed = [one for each in found if (one := await self._read(*each)) is not None]
            self._unanswered = None
            if claimed or not found:  # else what stood in the way is gone now
                return claimed, Rest(heard, None if due < 0 else due / 1000)

    async def _look(self, limit: int, *, waits: bool) -> Any:
        self._ticket += 1
        since = self._unanswered = self._unanswered or self._ticket
        return await finish(
            self._ask((self._worker, limit, int(waits), self._ticket, since, *map(flow_name, self._known)))
        )

    async def _read(self, id: bytes, run: list[bytes], waits: list[bytes]) -> Claimed | None:
        """Return a run that was handed out, or have it be stuck: it must hold up neither others nor itself."""
        try:
            return read_claimed(run, waits)
        except UNREADABLE as error:
            logger.exception("run %s is stuck: it cannot be read", id.decode())
            fault = encode(unreadable(error))
            await self._link.script(SCRIPTS["set_aside"], [self._keys.base], (id, self._worker, fault))
            return None

    async def _ask(self, arguments: tuple[object, ...]) -> list[Any]:
        while True:
            if self._life is None or self._life.is_over:
                await self.end()
                await self._begin()
            reply = await self._link.script(SCRIPTS["claim"], [self._keys.base], arguments)
            if reply != _DEAD:
                return reply
            await self.end()

    async def _begin(self) -> None:
        self._life = self._live()
        await self._life.begin()

    async def _listen(self, rest: Rest, seconds: float) -> None:
        """Wait for the bell."""
        most = seconds if rest.due is None else min(seconds, rest.due)
        wait = max(1, int(min(most, self._reads.patience / 2) * 1000))
        bell = self._keys.bell(self._worker)
        await self._reads.execute("XREAD", "BLOCK", wait, "STREAMS", bell, rest.heard)
