"""Handing on what the dead hold."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from pilotis_redis.lanes.keys import BusKeys
from pilotis_redis.lanes.taking import MOST_LANES
from pilotis_redis.lanes.turn import Turn
from pilotis_redis.link import RedisLink
from pilotis_redis.scripts import Script

logger = logging.getLogger("pilotis.redis.lanes")

RESCUE = Script.load("pilotis_redis", "entries", "rescue")
MOST = 100
"""Entries of a script."""


class Rescue:
    """Looks through lanes for what is held by workers that are not alive."""

    def __init__(self, link: RedisLink, keys: BusKeys, turn: Turn, max_crashes: Callable[[str], int]) -> None:
        self._link = link
        self._keys = keys
        self._turn = turn
        self._max_crashes = max_crashes

    async def look(self, lanes: Sequence[str]) -> None:
        """Hand on what there is, lane by lane."""
        for start in range(0, len(lanes), MOST_LANES):
            left: Sequence[str] = lanes[start : start + MOST_LANES]
            while left:
                left = await self._step(left)

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
