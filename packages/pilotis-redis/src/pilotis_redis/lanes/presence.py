"""What others know of a worker: that it is there, and what it reads."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

import msgspec
from pilotis.bridge import reset_after_fork

from pilotis_redis.lanes.entry import WorkerInfo
from pilotis_redis.lanes.keys import BusKeys
from pilotis_redis.lanes.turn import Turn
from pilotis_redis.link import RedisLink
from pilotis_redis.scripts import Script

REGISTER = Script.load("pilotis_redis", "entries", "register")
DISMISS = Script.load("pilotis_redis", "entries", "dismiss")
MAX_CRASHES = 3
"""Of lanes of which nothing else is known."""


class Presence:
    """Tells Redis of a worker, and remembers what it told. Used by the tasks of one loop, but for `know`."""

    def __init__(self, link: RedisLink, keys: BusKeys, turn: Turn, *, service: str) -> None:
        self._link = link
        self._keys = keys
        self._turn = turn
        self._service = service
        self._handlers: dict[str, list[str]] = {}
        self._max_crashes: dict[str, int] = {}
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Read nothing yet. What is known of lanes holds for the child too."""
        self._started = time.time()
        self._asked: dict[str, float] = {}
        """When the lanes that are read were last asked for."""
        self._told: set[str] = set()

    def know(self, lane: str, handlers: Iterable[str], max_crashes: int) -> None:
        """Note what to tell of a lane, and how many workers may die of an entry of it."""
        self._handlers[lane] = list(handlers)
        self._max_crashes[lane] = max_crashes

    def max_crashes(self, lane: str) -> int:
        return self._max_crashes.get(lane, MAX_CRASHES)

    @property
    def lanes(self) -> AbstractSet[str]:
        """Those that are read."""
        return self._asked.keys()

    def note(self, lanes: Iterable[str]) -> None:
        """Note that lanes are read."""
        self._asked.update(dict.fromkeys(lanes, time.monotonic()))

    async def begin(self, id: str, liveness: float) -> str:
        """Have a worker be alive for so many seconds. Return the id of the last news."""
        last: bytes = await self._tell(id, liveness)
        return last.decode()

    async def update(self, id: str) -> None:
        """Tell what a worker reads, if that is not known."""
        if self._told != self._asked.keys():
            await self._tell(id, 0)

    def drop_unread(self, since: float, *, held: AbstractSet[str]) -> None:
        """Forget lanes that nobody has asked for since a time, but those of which something is held."""
        self._asked = {lane: asked for lane, asked in self._asked.items() if asked >= since or lane in held}

    async def end(self, id: str, *, is_heir_wanted: bool) -> None:
        """Have a worker be gone, and others look for what it holds."""
        async with self._turn:
            await dismiss(self._link, self._keys, [id], only_late=False, is_heir_wanted=is_heir_wanted)

    async def _tell(self, id: str, liveness: float) -> bytes:
        lanes = set(self._asked)
        info = WorkerInfo(
            service=self._service,
            host=socket.gethostname(),
            pid=os.getpid(),
            started=self._started,
            lanes={lane: self._handlers.get(lane, []) for lane in lanes},
        )
        keys = self._keys
        async with self._turn:
            last = await self._link.script(
                REGISTER,
                [keys.workers, keys.infos, keys.news, keys.bell(id)],
                [id, msgspec.json.encode(info), int(liveness * 1000)],
            )
        self._told = lanes
        return last


async def dismiss(
    link: RedisLink, keys: BusKeys, workers: Sequence[str], *, only_late: bool, is_heir_wanted: bool
) -> list[str]:
    """Have workers be gone, and return what those said of themselves that were there until now.

    `only_late` leaves those alone whose time is not over; `is_heir_wanted` has others look at once for what they hold.
    """
    infos = await link.script(
        DISMISS,
        (keys.workers, keys.infos, keys.news, *map(keys.bell, workers)),
        (int(only_late), int(is_heir_wanted), *workers),
    )
    return [info.decode() for info in infos]
