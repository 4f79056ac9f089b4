"""One life of a worker: from its registration until it stops, or is taken for dead."""

from __future__ import annotations

import contextlib
import logging
from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from pilotis.runtime import Runtime

from pilotis_redis.lanes.entry import Taken
from pilotis_redis.lanes.keys import BusKeys
from pilotis_redis.lanes.outlook import Outlook
from pilotis_redis.lanes.reading import LONGEST, Reader
from pilotis_redis.lanes.settling import Settling
from pilotis_redis.lanes.stock import Order, Stock
from pilotis_redis.lanes.taking import MOST_LANES, Taking
from pilotis_redis.lanes.turn import Turn
from pilotis_redis.link import RedisLink
from pilotis_redis.scripts import Script

logger = logging.getLogger("pilotis.redis.lanes")

_RING = Script.load("pilotis_redis", "entries", "ring")
SOON = 0.02
"""For how many seconds a worker that has enough to do leaves a read alone that does not wait for all quiet lanes."""


class Life:
    """What a worker has and knows under one id. Used by the tasks of one loop."""

    def __init__(
        self, id: str, link: RedisLink, keys: BusKeys, *, runtime: Runtime, turn: Turn, stir: Callable[[], None]
    ) -> None:
        """`turn` is for commands, and `stir` is called when there is something new."""
        self.id = id
        self.stock = Stock()
        self.outlook = Outlook()
        self.settling = Settling(link, keys)
        self.reader = Reader(link.patient(LONGEST), keys, id, runtime, self._arrive)
        self.is_over = False
        self.surplus: list[Taken] = []
        """What is to be given back."""
        self._link = link
        self._workers, self._bell = keys.workers, keys.bell(id)
        self._taking = Taking(link, keys, id)
        self._turn = turn
        self._stir = stir
        self._doubtful: set[str] = set()
        """Lanes of which an answer was lost, and with it perhaps entries."""

    # Taking

    async def take(self, wanted: Callable[[], Mapping[str, int]]) -> None:
        """Ask lanes where something may be, until there is something, or nothing to ask any more."""
        while not self.is_over:
            async with self._turn:
                while self._doubtful and not self.is_over:
                    await self._recall()
                asked = self.outlook.to_ask(wanted())
                if not asked or self.is_over or not await self._ask(asked):
                    return

    async def _ask(self, asked: Mapping[str, int]) -> bool:
        """Ask some lanes. Return whether to ask on."""
        heard, self.reader.heard = self.reader.heard, []
        try:
            answers = await self._taking.ask(asked, may_suspect=self.stock.suspect is None, heard=heard)
        except BaseException:
            self.reader.heard += heard
            self._doubt(asked.keys())
            raise
        if self.is_over or answers is None:
            self.is_over = True
            return False
        came = [entry for answer in answers.values() if answer is not None for entry in answer.taken]
        for lane, answer in answers.items():
            self.outlook.note(lane, answer)
        self._warn_of([lane for lane, answer in answers.items() if answer is None])
        self.surplus += self.stock.add(came) + self.stock.withdraw(unless=self.outlook.is_open)
        return not came

    async def _recall(self) -> None:
        """Look for entries that were handed out with an answer that was lost."""
        lanes = list(self._doubtful)[:MOST_LANES]
        taken = await self._taking.recall(lanes)
        if taken is None:
            self.is_over = True
            return
        self._doubtful.difference_update(lanes)
        self.surplus += self.stock.add(taken)

    def _doubt(self, lanes: AbstractSet[str]) -> None:
        self._doubtful |= lanes
        self.outlook.heat(lanes)

    def _warn_of(self, missing: Sequence[str]) -> None:
        if missing:
            logger.warning("there is no lane %s: its subscription was removed, or never declared", ", ".join(missing))

    # Waiting

    async def watch(self, wanted: Mapping[str, int], *, at_once: bool) -> None:
        """Have a read wait for all lanes where nothing is. One that waits for too few, or a paused one, is ended."""
        if self.is_over:
            return
        lanes = self.outlook.to_watch(wanted)
        may_suspect = self.stock.suspect is None
        reader = self.reader
        if not reader.is_waiting:
            if lanes and reader.error is None:
                self.outlook.begin(lanes)
                reader.begin(lanes, may_suspect=may_suspect)
            return
        is_fit = reader.covers(lanes, may_suspect=may_suspect) and all(map(self.outlook.is_open, reader.lanes))
        if not is_fit and (at_once or reader.age > SOON):
            await self.ring()

    async def ring(self) -> None:
        """End the read under way."""
        if self.reader.is_waiting and not self.reader.is_rung:
            self.reader.is_rung = True
            try:
                async with self._turn:
                    await self._link.script(_RING, (self._workers, self._bell))
            except BaseException:
                self.reader.is_rung = False
                raise

    async def finish_reading(self, seconds: float) -> bool:
        """End the read under way and take in what came. Return whether that was done within `seconds`."""
        await self.ring()
        return await self.reader.ended(seconds)

    def raise_error(self) -> None:
        """Raise what the last read broke off with, once."""
        error, self.reader.error = self.reader.error, None
        if error is not None:
            raise error

    def forgive_error(self) -> None:
        """Read again: what the last read broke off with is over, since something came."""
        self.reader.error = None

    def _arrive(self, taken: list[Taken], paused: AbstractSet[str]) -> None:
        """Take in what a read ended with."""
        if self.is_over:
            return
        if self.reader.error is not None:
            self._doubt(self.reader.lanes)
            if self._is_about_lane(self.reader.error):
                self.forgive_error()  # the next `take` finds out which lane is gone
        if paused:
            self.outlook.close(paused)
        if taken:
            self.outlook.heat(entry.lane for entry in taken)
            self.surplus += self.stock.add(taken) + self.stock.withdraw(unless=self.outlook.is_open)
        self._stir()

    def _is_about_lane(self, error: Exception) -> bool:
        """Tell whether a read broke off because a lane was removed."""
        text = str(error)
        return ("NOGROUP" in text and self._bell not in text) or "UNBLOCKED" in text

    # Handing out

    def holds(self, taken: Taken) -> bool:
        """Tell whether something was taken in this life and not settled yet."""
        return not self.is_over and taken.worker == self.id and self.stock.holds(taken)

    def lanes(self) -> AbstractSet[str]:
        """Return the lanes of which it holds something, or may."""
        waited_for = self.reader.lanes if self.reader.is_waiting else frozenset[str]()
        return self.stock.lanes() | self._doubtful | waited_for

    def serve(self, order: Order) -> bool:
        """Give an order what is kept for it. Return whether that was anything."""
        return not self.is_over and self.stock.serve(order)

    def clear(self, is_wanted: Callable[[str], bool]) -> list[Taken]:
        """Return what is to be given back: suspects that were too many, and what is of lanes that nobody wants."""
        surplus, self.surplus = self.surplus, []
        return surplus + self.stock.withdraw(unless=is_wanted)


def call_in(loop: AbstractEventLoop, function: Callable[..., object], *arguments: object) -> None:
    """Have a function called by a loop, unless that is closed."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)
