"""The worker: takes entries out of lanes, keeps them while they are handled, and settles them."""

from __future__ import annotations

import logging
import math
import os
import random
import socket
import time
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from pilotis.bridge import Latch, blocked_loops, finish, reset_after_fork
from pilotis.context import Context
from pilotis.errors import OperationError
from pilotis.ids import new_id
from pilotis.runtime import Job
from redis.exceptions import RedisClusterException, RedisError

from pilotis_redis.lanes.entry import Taken
from pilotis_redis.lanes.keys import BusKeys
from pilotis_redis.lanes.life import Life, call_in
from pilotis_redis.lanes.presence import MAX_CRASHES, Presence
from pilotis_redis.lanes.pulse import BEATS, EVERYTHING, Pulse, Ticks
from pilotis_redis.lanes.rescue import Rescue
from pilotis_redis.lanes.settling import Ending, refuse
from pilotis_redis.lanes.stock import Order
from pilotis_redis.lanes.turn import Turn
from pilotis_redis.link import RedisLink

logger = logging.getLogger("pilotis.redis.lanes")

LAST_READ_SECONDS = 2.0
"""How long the end of a read is waited for when a worker stops, or has to look at once."""
LINGER_SECONDS = 0.1
"""How long what came for nobody is kept for the next one to ask."""

_FAULTS = (RedisError, RedisClusterException, OSError, OperationError)


class Worker:
    """Reads the lanes of one bus in this process. Usable from any thread and event loop; it lives on the runtime's.

    It begins when something is first received. While it is alive, what it took stays its own, however long that takes;
    when it is taken for dead, that is handed on, and it starts afresh under a new id. It holds three connections: for
    commands, for the read that waits, and for its pulse. A child process made by a fork has none of it.
    """

    def __init__(
        self,
        link: RedisLink,
        keys: BusKeys,
        context: Context,
        *,
        restore: Callable[[], Awaitable[object]],
        liveness: float = 15.0,
        stall: float = 60.0,
    ) -> None:
        """Stand on a link. No I/O.

        `liveness` is for how many seconds it is taken for alive after a sign of life. It gives none while the runtime's
        event loop, or the handlers' home loop, has not gone round for `stall` seconds. `restore` is awaited before it
        starts afresh: the database may have been emptied.
        """
        self._link = link
        self._keys = keys
        self._context = context
        self._restore = restore
        self._liveness = liveness
        self._stall = stall
        self._turn = Turn()
        self._births = Turn()
        self._presence = Presence(link, keys, self._turn, service=context.name)
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._orders: list[Order] = []
        self._lingers = False
        self._life: Life | None = None
        self._has_lived = False
        self._pulse: Pulse | None = None
        self._cleaning: Job[Any] | None = None
        self._alarm = Latch()

    @property
    def id(self) -> str | None:
        """What it is called now; None while it does not work."""
        return None if self._life is None else self._life.id

    def know(self, lane: str, handlers: Sequence[str] = (), *, max_crashes: int = MAX_CRASHES) -> None:
        """Note what to tell of a lane, and how many workers may die of an entry of it."""
        self._presence.know(lane, handlers, max_crashes)

    # Receiving

    async def receive(self, capacity: Mapping[str, int], wake: Latch) -> list[Taken]:
        """Take what lanes have, at most `capacity` of each; wait while they have nothing.

        Returns at once, if need be with nothing, when `wake` is set; where it was set before, all lanes are asked once.
        Lanes that do not exist have nothing. Being cancelled loses nothing. Raises what Redis fails with.
        """
        order = Order(capacity, wake)
        loop = self._context.runtime.loop
        try:
            await self._context.runtime.run(self._fill(order, is_preset=wake.is_set()))
        except BaseException:
            call_in(loop, self._abandon, order)
            raise
        return order.taken

    def _abandon(self, order: Order) -> None:
        """Keep for others what was handed out to somebody who is gone."""
        order.is_over = True
        taken, order.taken = order.taken, []
        if self._life is not None and taken and taken[0].worker == self._life.id:
            self._life.stock.put_back(taken)
            self._stir()

    async def _fill(self, order: Order, *, is_preset: bool) -> None:
        self._orders.append(order)
        try:
            while not order.is_over:
                order.renew()
                life = await self._alive(order)
                if is_preset:
                    await self._look_everywhere(life, order)
                is_served = await self._look(life, order)
                if is_preset or (order.wake.is_set() and not is_served):
                    return
                await life.watch(self._wanted(), at_once=not is_served)
                if is_served:
                    return
                await order.stirred.wait(life.outlook.seconds_left(order.capacity))
        finally:
            order.retire()
            self._orders.remove(order)

    async def _look(self, life: Life, order: Order) -> bool:
        """Give an order what is kept, or what lanes have. Return whether that was anything."""
        await self._give_back(life)
        if not life.serve(order):
            await finish(life.take(self._wanted))
            self._bury(life)
            await self._give_back(life)
            if not life.serve(order):
                if not life.is_over:
                    life.raise_error()
                return False
        life.forgive_error()
        return True

    async def _look_everywhere(self, life: Life, order: Order) -> None:
        """Ask all lanes that an order names, and see what a read that waits may have at hand."""
        life.outlook.heat(order.capacity)
        await finish(life.take(self._wanted))
        if life.reader.is_waiting:
            await life.finish_reading(LAST_READ_SECONDS)

    def _wanted(self) -> dict[str, int]:
        """Return what all who wait have capacity for, less what is kept for them."""
        life, wanted = self._life, dict[str, int]()
        for order in self._orders:
            for lane, most in order.capacity.items():
                wanted[lane] = wanted.get(lane, 0) + most
        if life is not None:
            for lane in life.stock.kept_lanes() & wanted.keys():
                wanted[lane] -= life.stock.kept(lane)
        return wanted

    def _is_wanted(self, lane: str) -> bool:
        return any(lane in order.capacity for order in self._orders if not order.is_over)

    def _stir(self) -> None:
        """Have those who wait look again. What came for nobody is kept for a moment."""
        for order in self._orders:
            order.stirred.set()
        life = self._life
        if not self._orders and not self._lingers and life is not None and life.stock.kept_lanes():
            self._lingers = True
            self._context.runtime.spawn(self._linger(life), "lanes give back")

    async def _linger(self, life: Life) -> None:
        await Latch().wait(LINGER_SECONDS)
        self._lingers = False
        if not self._orders:
            await self._give_back(life)

    async def _give_back(self, life: Life) -> None:
        """Give back what nobody here wants, and suspects that are too many, before one is handed out."""
        surplus = life.clear(self._is_wanted)
        if surplus:
            await finish(self._return(life, surplus))

    async def _return(self, life: Life, surplus: Sequence[Taken]) -> None:
        try:
            await self._settle([Ending(taken, "back") for taken in surplus])
        except _FAULTS as error:
            logger.info("%d entries could not be given back yet: %s", len(surplus), error)
            life.stock.put_back(surplus)

    # Settling

    async def settle(self, endings: Sequence[Ending]) -> list[bool]:
        """End what was taken, and tell for each whether it was still this worker's: nothing happens where it was not.

        It may be repeated when it failed: what had arrived counts as settled. Raises what Redis fails with.
        """
        return await self._context.runtime.run(self._settle_whole(endings)) if endings else []

    async def _settle_whole(self, endings: Sequence[Ending]) -> list[bool]:
        return await finish(self._settle(endings))

    async def _settle(self, endings: Sequence[Ending]) -> list[bool]:
        async with self._turn:
            life = self._life
            holds = [life is not None and life.holds(ending.taken) for ending in endings]
            mine = [ending for ending, is_held in zip(endings, holds, strict=True) if is_held]
            if life is None or not mine:
                settled: list[bool] | None = []
            else:
                settled = await life.settling.send(mine)
            if life is not None and settled is not None:
                self._drop(life, mine)
            await self._refuse([ending for ending, is_held in zip(endings, holds, strict=True) if not is_held])
        if settled is None and life is not None:
            life.is_over = True
            self._bury(life)
        answers = iter(settled or [False] * len(mine))
        return [is_held and next(answers) for is_held in holds]

    def _drop(self, life: Life, endings: Iterable[Ending]) -> None:
        """Note what was settled. After a suspect, the next one may come, for which no read has waited until now."""
        had_suspect = life.stock.suspect is not None
        for ending in endings:
            life.stock.drop(ending.taken)
        if had_suspect and life.stock.suspect is None:
            self._stir()

    async def _refuse(self, endings: Iterable[Ending]) -> None:
        """Count what comes from lives that are over."""
        living = None if self._life is None or self._life.is_over else self._life.id
        stale = [ending for ending in endings if ending.taken.worker != living]
        if stale:
            logger.warning("%d entries were settled in vain: their worker had been taken for dead", len(stale))
            await refuse(self._link, self._keys, stale)

    # Living

    async def _alive(self, order: Order) -> Life:
        """Return the life of this worker, begun if need be, and known to read what is ordered."""
        async with self._births:
            self._presence.note(order.capacity)
            if self._life is None:
                await finish(self._begin())
            else:
                await self._presence.update(self._life.id)
            life = self._life
            assert life is not None
        return life

    async def _begin(self) -> None:
        runtime = self._context.runtime
        if self._has_lived:
            await self._restore()
        id = f"{socket.gethostname()}:{os.getpid()}:{new_id(self._context.clock)}"
        life = Life(id, self._link, self._keys, runtime=runtime, turn=self._turn, stir=self._stir)
        last = await self._presence.begin(id, self._liveness)
        loop = runtime.loop
        ticks = Ticks(self._loops, self._stall)
        link = self._link.patient(self._liveness / BEATS)
        ear = _Ear(self, life, loop)
        self._pulse = Pulse(id, link, self._keys, liveness=self._liveness, ticks=ticks, listener=ear)
        self._life, self._has_lived = life, True
        self._pulse.start(last)
        runtime.spawn(self._tend(life), "lanes upkeep")

    def _loops(self) -> list[AbstractEventLoop]:
        """Return the event loops that have to go round while this worker is alive."""
        runtime = self._context.runtime
        home = runtime.home
        return [loop for loop in (runtime.loop, home) if loop is not None and _is_due(loop)]

    def _bury(self, life: Life) -> None:
        """Let go of a life that is over. Doing so again does nothing."""
        if not life.is_over or self._life is not life:
            return
        logger.error(
            "worker %s was taken for dead: %d entries that it had are handed on, and it starts afresh",
            life.id, len(life.stock),
        )  # fmt: skip
        self._life = None
        self._cleaning = self._context.runtime.spawn(self._close(life, self._pulse), "lanes clean-up")
        self._stir()

    async def _close(self, life: Life, pulse: Pulse | None) -> None:
        if pulse is not None:
            await pulse.stop()
        await life.reader.close()
        self._alarm.set()

    def hear(self, life: Life, news: Iterable[str]) -> None:
        """Take in what has changed."""
        for what in news:
            if what == EVERYTHING:
                life.outlook.heat(self._presence.lanes)
            elif what in self._presence.lanes:
                life.outlook.heat([what])
            if what in (EVERYTHING, "dead"):
                self._alarm.set()
            if what in (EVERYTHING, "registry"):
                life.outlook.stop_missing()
        self._stir()

    def die(self, life: Life) -> None:
        """Take in that a life is over."""
        life.is_over = True
        self._bury(life)

    async def _tend(self, life: Life) -> None:
        """See to it, again and again, that nothing stays with the dead, and that it is known what is read here."""
        rescue = Rescue(self._link, self._keys, self._turn, self._presence.max_crashes)
        while not life.is_over:
            self._alarm = Latch()
            try:
                await rescue.look(list(self._presence.lanes))
                await self._tell(life)
            except _FAULTS as error:
                logger.info("looking for what dead workers hold failed: %s", error)
            await self._alarm.wait(self._liveness * random.uniform(0.75, 1.25))
            if self._alarm.is_set():
                rescue.start_over()  # but others were told at the same time
                await Latch().wait(self._liveness / 10 * random.random())

    async def _tell(self, life: Life) -> None:
        """Tell what is read, without what nobody here asked for in a while and of which nothing is held."""
        wanted = {lane for order in self._orders for lane in order.capacity}
        self._presence.drop_unread(time.monotonic() - 2 * self._liveness, held=life.lanes() | wanted)
        await self._presence.update(life.id)

    # Stopping

    async def stop(self) -> None:
        """Take nothing more, give back what nobody was given, and say good-bye. Idempotent.

        What is handed out and not settled by then is handed on by other workers. Receiving again begins anew.
        """
        if self._life is not None:
            await self._context.runtime.run(finish(self._stop()))
        if self._cleaning is not None:  # after an earlier life
            await self._cleaning.ended.wait(LAST_READ_SECONDS)

    async def _stop(self) -> None:
        life = self._life
        if life is None:
            return
        for order in self._orders:
            order.is_over = True
        self._stir()
        try:
            await life.finish_reading(LAST_READ_SECONDS)
            await self._settle([Ending(taken, "back") for taken in life.clear(self._is_wanted)])
            await self._presence.end(life.id, is_heir_wanted=bool(life.lanes()))
        except _FAULTS as error:
            logger.info("worker %s ends without a word to Redis: %s", life.id, error)
        life.is_over = True
        self._life = None
        self._presence.drop_unread(math.inf, held=set())
        await self._close(life, self._pulse)


class _Ear:
    """Takes what the pulse of one life says to where the worker lives."""

    def __init__(self, worker: Worker, life: Life, loop: AbstractEventLoop) -> None:
        self._worker = worker
        self._life = life
        self._loop = loop

    def is_there(self) -> bool:
        return not self._loop.is_closed()

    def hear(self, news: list[str]) -> None:
        call_in(self._loop, self._worker.hear, self._life, news)

    def die(self) -> None:
        call_in(self._loop, self._worker.die, self._life)

    def find_dead(self, infos: list[str]) -> None:
        for info in infos:
            logger.warning("a worker is dead: %s", info)


def _is_due(loop: AbstractEventLoop) -> bool:
    """Tell whether a loop has to go round: one that ended, or was stopped on purpose, need not."""
    return loop.is_running() and loop not in blocked_loops
