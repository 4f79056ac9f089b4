"""Putting a single entry into lanes, the short way: most are due at once, and stand in no order."""

from __future__ import annotations

import msgspec

from pilotis_redis.lanes.entry import Head, Priority, Push, Pushed, milliseconds
from pilotis_redis.lanes.keys import STREAMS, BusKeys
from pilotis_redis.lanes.registry import Registry
from pilotis_redis.link import RedisLink
from pilotis_redis.scripts import Script

EMIT_ONE = Script.load("pilotis_redis", "emit_one")
_MOST_LANES = 100
_MOST_ROUTES = 10_000

_encode = msgspec.msgpack.Encoder().encode


class _Route(msgspec.Struct, frozen=True):
    """What the script is told of all entries of a name and a priority."""

    registry: Registry
    keys: tuple[str, ...]
    lanes: int


class Singles:
    """Emits entries one at a time. Usable from any thread and event loop."""

    def __init__(self, link: RedisLink, keys: BusKeys) -> None:
        self._link = link
        self._keys = keys
        self._routes: dict[tuple[str, Priority], _Route] = {}

    async def emit(self, registry: Registry, push: Push) -> Pushed | None:
        """Put an entry into the lanes that a registry names for it.

        Returns None where anything is out of the ordinary, such as a repetition, or a registry of the past: nothing
        happened then, and the long way is to be gone.
        """
        if push.delay or push.key is not None or push.dedupe is not None:
            return None
        route = self._routes.get((push.name, push.priority))
        if route is None or route.registry is not registry:
            route = self._prepared(registry, push)
        if route.lanes > _MOST_LANES:
            return None
        done = await self._link.script(
            EMIT_ONE,
            (self._keys.version, self._keys.id(push.id), *route.keys),
            (
                registry.version,
                milliseconds(push.remember),
                _encode(Head(push.id, push.name, push.priority)),
                push.body,
            ),
        )
        return Pushed(push.id, route.lanes) if done else None

    def _prepared(self, registry: Registry, push: Push) -> _Route:
        lanes = [self._keys.lane(lane) for lane in registry.route(push.name)]
        stream = STREAMS.index(push.priority)
        keys = (
            self._keys.tail,
            *(lane.due for lane in lanes),
            *(lane.streams[stream] for lane in lanes),
            *(lane.counters for lane in lanes),
        )
        if len(self._routes) >= _MOST_ROUTES:
            self._routes.clear()
        route = self._routes[push.name, push.priority] = _Route(registry, keys, len(lanes))
        return route
