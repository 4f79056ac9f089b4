"""Handing on what the dead hold."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence

from pilotis_redis.lanes.keys import BusKeys
from pilotis_redis.lanes.taking import MOST_LANES
from pilotis_redis.lanes.turn import Turn
from pilotis_redis.link import RedisLink
from pilotis_redis.scripts import Script

logger = logging.getLogger("pilotis.redis.lanes")

RESCUE = Script.load("pilotis_redis", "entries", "rescue")
MOST = 100
"""Entries of a script."""
IN_PASSING = 4
"""Lanes that are looked at although nothing was heard of a death."""


class Rescue:
    """Looks through lanes for what is held by workers that are not alive."""

    def __init__(self, link: RedisLink, keys: BusKeys, turn: Turn, max_crashes: Callable[[str], int]) -> None:
        self._link = link
        self._keys = keys
        self._turn = turn
        self._max_crashes = max_crashes
        self._seen: dict[str, None] = {}
        """Lanes that were looked at; those where that is longest ago come first."""

    def start_over(self) -> None:
        """Have every lane be looked at again: somebody died."""
        self._seen.clear()

    async def look(self, lanes: Collection[str]) -> None:
        """Hand on what there is in lanes that were not looked at yet, and in a few others.

        The dead are given nothing more, so that once is enough; the others are for what nobody thought of.
        """
        chosen = self._chosen(lanes)
        for start in range(0, len(chosen), MOST_LANES):
            some = left = chosen[start : start + MOST_LANES]
            while left:
                left = await self._step(left)
            self._seen = {lane: None for lane in self._seen if lane not in some} | dict.fromkeys(some)

    def _chosen(self, lanes: Collection[str]) -> list[str]:
        wanted = set(lanes)
        self._seen = {lane: None for lane in self._seen if lane in wanted}
        return [*(wanted - self._seen.keys()), *list(self._seen)[:IN_PASSING]]

    async def _step(self, lanes: Sequence[str]) -> list[str]:
        """Hand on a bounded number of entries, and return the lanes where there may be more."""
        keys = self._keys
        async with self._turn:
            reply = await self._link.script(
                RESCUE,
                [keys.workers, keys.sequence, keys.news, *(key for lane in lanes for key in keys.lane(lane).all)],
                [MOST, *(item for lane in lanes for item in (lane, self._max_crashes(lane)))],
            )
        for lane, (rescued, died, _) in zip(lanes, reply, strict=True):
            if rescued or died:
                logger.warning(
                    "%r: handed on %d entries of workers that died; %d more are dead letters, having killed %d",
                    lane, rescued, died, self._max_crashes(lane),
                )  # fmt: skip
        return [lane for lane, (_, _, is_more) in zip(lanes, reply, strict=True) if is_more]
