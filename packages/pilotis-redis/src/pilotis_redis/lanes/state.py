"""How lanes are doing, and who reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from pilotis_redis.lanes.entry import WorkerInfo
from pilotis_redis.lanes.keys import BusKeys
from pilotis_redis.link import RedisLink
from pilotis_redis.scripts import Script

_INFO = Script.load("pilotis_redis", "entries", "info")
_WORKERS = Script.load("pilotis_redis", "entries", "workers")

_decode = msgspec.json.Decoder(WorkerInfo).decode


class LaneState(msgspec.Struct, frozen=True, kw_only=True):
    """How a lane is doing. Durations are seconds."""

    lane: str
    paused: bool
    queued: int
    """Entries that wait for a reader."""
    held: int
    """Entries that wait behind another one of their key."""
    delayed: int
    """Entries whose time has not come."""
    next_due: float | None
    """How long until the first of these is due."""
    in_flight: int
    dead: int
    oldest: float | None
    """For how long the first of those that wait for a reader has been due."""
    counters: dict[str, int]
    """How often what happened: emitted, delivered (but for what is in flight), succeeded, retried, died, fenced. What
    never did may be missing."""
    readers: int
    """Live workers that read it."""
    disagrees: bool
    """Whether these name different handlers for it."""


async def workers(link: RedisLink, keys: BusKeys) -> list[WorkerInfo]:
    """Return what each live worker says of itself."""
    return [_decode(info) for info in await link.script(_WORKERS, (keys.workers, keys.infos))]


async def unattended(link: RedisLink, keys: BusKeys, lanes: Sequence[str]) -> list[str]:
    """Return those of lanes that no live worker reads, or for which live workers name different handlers."""
    readers = await workers(link, keys)
    named = {lane: {tuple(reader.lanes[lane]) for reader in readers if lane in reader.lanes} for lane in lanes}
    return [lane for lane in lanes if len(named[lane]) != 1]


async def states(link: RedisLink, keys: BusKeys, lanes: Sequence[str]) -> list[LaneState]:
    """Tell how lanes are doing, in their order, each at a moment of its own."""
    replies = await link.script_each(_INFO, [((keys.paused, *keys.lane(lane).all), (lane,)) for lane in lanes])
    readers = await workers(link, keys)
    return [_state(lane, readers, *reply) for lane, reply in zip(lanes, replies, strict=True)]


def _state(lane: str, workers: Sequence[WorkerInfo], *reply: Any) -> LaneState:
    paused, queued, held, delayed, next_due, in_flight, dead, oldest, flat = reply
    counters = {name.decode(): int(number) for name, number in zip(flat[::2], flat[1::2], strict=True)}
    handlers = [worker.lanes[lane] for worker in workers if lane in worker.lanes]
    return LaneState(
        lane=lane,
        paused=bool(paused),
        queued=queued,
        held=held,
        delayed=delayed,
        next_due=_seconds(next_due),
        in_flight=in_flight,
        dead=dead,
        oldest=_seconds(oldest),
        counters=counters,
        readers=len(handlers),
        disagrees=any(named != handlers[0] for named in handlers),
    )


def _seconds(milliseconds: int) -> float | None:
    return None if milliseconds < 0 else milliseconds / 1000
