"""Which lanes there are: kept in Redis, and remembered here until its version there is another one."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec
from pilotis.bridge import Flights, reset_after_fork
from pilotis.keys import glob

from pilotis_redis.lanes.keys import BusKeys
from pilotis_redis.link import RedisLink
from pilotis_redis.scripts import Script

logger = logging.getLogger("pilotis.redis")

_DECLARE = Script.load("pilotis_redis", "entries", "declare")
_FORGET = Script.load("pilotis_redis", "entries", "forget")
_MOST_ROUTES = 10_000
_CHANGES = 32
"""The bits of a version that count changes. Those above them are random, and tell one database from another."""


class LaneSpec(msgspec.Struct, frozen=True):
    """A lane, as everybody knows it."""

    name: str
    pattern: str
    """The names of the entries that it takes; `*` stands for any run of characters."""
    max_crashes: int = 3
    """How many workers may die of an entry before it is a dead letter."""
    about: dict[str, Any] = {}
    """What those who stand on lanes know of it besides."""


class Registry:
    """The lanes as of one version. Unchangeable, but for what it remembers of routes."""

    def __init__(self, version: str, lanes: Iterable[LaneSpec]) -> None:
        self.version = version
        self.lanes = {lane.name: lane for lane in sorted(lanes, key=_by_name)}
        self._matchers = [(name, glob(lane.pattern)) for name, lane in self.lanes.items()]
        self._routes: dict[str, list[str]] = {}

    def route(self, name: str) -> list[str]:
        """Return the lanes that take entries of a name."""
        found = self._routes.get(name)
        if found is None:
            if len(self._routes) >= _MOST_ROUTES:
                self._routes.clear()
            found = self._routes[name] = [lane for lane, matches in self._matchers if matches(name)]
        return found


class Registrar:
    """Declares lanes and reads the registry. Usable from any thread and event loop."""

    def __init__(self, link: RedisLink, keys: BusKeys) -> None:
        self._link = link
        self._keys = keys
        self._loads = Flights()
        self._declared: dict[str, LaneSpec] = {}
        self.known: Registry | None = None
        """What was read last, unless it may be of the past."""
        self._version = 0
        """The newest that was seen; 0 before the first."""
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    async def declare(self, lanes: Sequence[LaneSpec]) -> list[LaneSpec | None]:
        """Make lanes, or note what changed about them; return what was known of each until now."""
        with self._lock:
            self._declared |= {lane.name: lane for lane in lanes}
        return await self._declare(lanes)

    async def forget(self, lanes: Collection[str]) -> None:
        """Remove lanes with everything in them."""
        with self._lock:
            self._declared = {name: lane for name, lane in self._declared.items() if name not in lanes}
        keys = self._keys
        shared = (keys.version, keys.registry, keys.news, keys.paused)
        await self._link.script_each(_FORGET, [((*shared, *keys.lane(name).all), (name,)) for name in lanes])
        self.known = None

    async def registry(self) -> Registry:
        """Return what is known, or else what Redis has."""
        return self.known or await self._loads.run("load", self._load)

    async def newer(self, than: Registry) -> Registry:
        """Return another registry than the one that turned out to be of the past."""
        if self.known is than:
            self.known = None
        return await self.registry()

    async def fresh(self) -> Registry:
        """Return what Redis has now; where the database was emptied, what was declared here is declared again."""
        self.known = None
        return await self.registry()

    async def _load(self) -> Registry:
        version, rows = await self._read()
        if self._is_another(version):
            logger.warning(
                "the database at %s was emptied or set back, and what waited in it is gone; declaring %d lanes again",
                self._link.address, len(self._declared),
            )  # fmt: skip
            self._version = 0
            await self._declare(list(self._declared.values()))
            version, rows = await self._read()
        self._version = version or self._version
        self.known = Registry(str(version or ""), [_decode(row) for row in rows])
        return self.known

    async def _read(self) -> tuple[int, Collection[bytes]]:
        # The version first: a change in between leaves us with one that is too old, which is found out.
        version, rows = await self._link.pipeline([("GET", self._keys.version), ("HVALS", self._keys.registry)])
        return int(version or 0), rows

    def _is_another(self, version: int) -> bool:
        """Tell whether this is not the database, or no longer, in which lanes were declared here."""
        seen = self._version
        return bool(self._declared) and seen > 0 and (version >> _CHANGES != seen >> _CHANGES or version < seen)

    async def _declare(self, lanes: Sequence[LaneSpec]) -> list[LaneSpec | None]:
        keys = self._keys
        shared = (keys.version, keys.registry, keys.news)
        start = secrets.randbelow(1 << 20) + 1 << _CHANGES
        calls = [((*shared, *keys.lane(lane.name).all), (lane.name, _encode(lane), start)) for lane in lanes]
        replies = await self._link.script_each(_DECLARE, calls)
        self.known = None
        for _, version in replies:
            self._version = self._version or int(version)
        return [None if before is None else _decode(before) for before, _ in replies]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(LaneSpec).decode


def _by_name(lane: LaneSpec) -> str:
    return lane.name
