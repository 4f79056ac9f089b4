"""Workers of this process: that they are alive, and what becomes of the runs of those that are not."""

from __future__ import annotations

import logging
from asyncio import AbstractEventLoop

import msgspec
from pilotis.bridge import blocked_loops, drive, running_loop
from pilotis.context import Context
from pilotis.providers import Fault
from pilotis_redis import RedisLink
from pilotis_redis.lanes.presence import Presence
from pilotis_redis.lanes.pulse import BEATS, EVERYTHING, Pulse, Ticks
from pilotis_redis.lanes.turn import Turn

from pilotis_workflow_redis.keys import RunKeys
from pilotis_workflow_redis.scripts import SCRIPTS

logger = logging.getLogger("pilotis.workflow.redis")

AT_ONCE = 100
"""Runs of a script."""


class Rescue:
    """Hands on the runs of workers that are dead."""

    def __init__(self, link: RedisLink, keys: RunKeys, max_crashes: int) -> None:
        self.link = link
        self.keys = keys
        self._max_crashes = max_crashes
        fault = Fault(type="WorkerDiedError", message=f"{max_crashes} workers in a row died while they had this run")
        self._fault = msgspec.msgpack.encode(fault)

    async def look(self) -> None:
        """Hand on what there is."""
        is_more = True
        while is_more:
            arguments = (AT_ONCE, self._max_crashes, self._fault)
            handed_on, stuck, is_more = await self.link.script(SCRIPTS["rescue"], [self.keys.base], arguments)
            if handed_on:
                logger.warning("handed on %d runs of workers that died", handed_on)
            for id in stuck:
                logger.error(
                    "run %s is stuck: %d workers in a row died while they had it", id.decode(), self._max_crashes
                )


class Life:
    """One life of a worker: from its first claim until it goes, or is taken for dead.

    It listens to its own pulse, on the thread of that.
    """

    def __init__(self, worker: str, rescue: Rescue, *, context: Context, liveness: float, stall: float) -> None:
        """No I/O. Its link and its keys are those of the rescue."""
        link, keys = rescue.link, rescue.keys
        self.worker = worker
        self.is_over = True
        """Whether it has ended, or never begun: Redis may know the worker all the same, but hears no more of it."""
        self._context = context
        self._loop = running_loop()
        self._liveness = liveness
        self._rescue = rescue
        self._presence = Presence(link, keys, Turn(), service=context.name)
        ticks = Ticks(self._loops, stall)
        beats = link.patient(liveness / BEATS)
        self._pulse = Pulse(worker, beats, keys, liveness=liveness, ticks=ticks, listener=self)

    async def begin(self) -> None:
        """Have the worker be alive, and look what the dead have left."""
        last = await self._presence.begin(self.worker, self._liveness)
        self.is_over = False
        self._pulse.start(last)
        await self._rescue.look()

    async def end(self) -> None:
        """Have the worker be gone."""
        self.is_over = True
        await self._pulse.stop()
        await self._presence.end(self.worker, is_heir_wanted=False)  # that would count as a death

    def _loops(self) -> list[AbstractEventLoop]:
        """Return the event loops that have to go round while the worker is alive."""
        loops = (self._loop, self._context.runtime.home)
        return [loop for loop in loops if loop is not None and loop.is_running() and loop not in blocked_loops]

    # What the pulse tells

    def is_there(self) -> bool:
        """Tell whether the worker may still be at work."""
        return not self.is_over and not (self._loop is not None and self._loop.is_closed())

    def hear(self, news: list[str]) -> None:
        """Take in that somebody died, or that nobody knows who did."""
        if not {"dead", EVERYTHING}.isdisjoint(news):
            drive(self._rescue.look())

    def die(self) -> None:
        """Take in that this worker is taken for dead. It lives again with its next claim; one that waits goes on."""
        if not self.is_over:
            logger.error("worker %s was taken for dead: its runs are handed on", self.worker)
            self.is_over = True
            drive(self._ring())

    async def _ring(self) -> None:
        """Ring, as nobody else does: the dead are no longer known."""
        bell = self._rescue.keys.bell(self.worker)
        expiry = ("PEXPIRE", bell, round(self._liveness * 1000 * BEATS))
        await self._rescue.link.transaction([("XADD", bell, "MAXLEN", 1, "*", "w", ""), expiry])

    def find_dead(self, infos: list[str]) -> None:
        """Take in what those said of themselves who were found dead."""
        for info in infos:
            logger.warning("a worker is dead: %s", info)
