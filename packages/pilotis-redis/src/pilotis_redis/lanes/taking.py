"""Taking what is ready, from many lanes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pilotis_redis.lanes.entry import Stream, Taken, read_taken
from pilotis_redis.lanes.keys import BusKeys
from pilotis_redis.link import RedisLink
from pilotis_redis.scripts import Script

TAKE = Script.load("pilotis_redis", "entries", "take")
RECALL = Script.load("pilotis_redis", "entries", "recall")
MOST_LANES = 64
MOST_ENTRIES = 500
"""Of a script."""
MOST_DUE = 200
"""Delayed entries that one script makes ready."""

_STREAMS: dict[bytes, Stream] = {b"s": "s", b"h": "h", b"n": "n", b"l": "l"}
_encode = msgspec.msgpack.Encoder().encode


class Answer(msgspec.Struct):
    """What a lane had."""

    is_paused: bool
    next_due: float | None
    """In how many seconds, None where nothing is delayed."""
    may_have_more: bool
    taken: list[Taken]


class Taking:
    """Asks in the name of one life of a worker."""

    def __init__(self, link: RedisLink, keys: BusKeys, worker: str) -> None:
        self._link = link
        self._keys = keys
        self._worker = worker
        self._bell = keys.bell(worker)

    async def ask(
        self, capacity: Mapping[str, int], *, may_suspect: bool, heard: Sequence[bytes]
    ) -> dict[str, Answer | None] | None:
        """Take from lanes, and tell of each what it had: None where there is no such lane.

        None for all if the worker is taken for dead. `heard` are the entries of its bell that it has seen.
        """
        most = max(1, MOST_ENTRIES // len(capacity))
        asked = {lane: min(number, most) for lane, number in capacity.items()}
        keys = self._keys
        reply = await self._link.script(
            TAKE,
            [keys.workers, keys.paused, keys.sequence, self._bell, *self._keys_of(asked)],
            [self._worker, int(may_suspect), MOST_DUE, _encode([id.decode() for id in heard]), *_flat(asked)],
        )
        if reply == b"dead":
            return None
        return {
            lane: None if answer is None else self._answer(lane, number, answer)
            for (lane, number), answer in zip(asked.items(), reply, strict=True)
        }

    async def recall(self, lanes: Sequence[str]) -> list[Taken] | None:
        """Return all that the worker holds of some lanes; None if it is taken for dead."""
        reply = await self._link.script(RECALL, [self._keys.workers, *self._keys_of(lanes)], [self._worker])
        if reply == b"dead":
            return None
        return [entry for lane, found in zip(lanes, reply, strict=True) for entry in self._entries(lane, found)]

    def _keys_of(self, lanes: Mapping[str, int] | Sequence[str]) -> list[str]:
        return [key for lane in lanes for key in self._keys.lane(lane).all]

    def _answer(self, lane: str, asked: int, answer: list[Any]) -> Answer:
        paused, next_due, more_due, found = answer
        taken = self._entries(lane, found)
        return Answer(
            is_paused=bool(paused),
            next_due=None if next_due < 0 else next_due / 1000,
            may_have_more=len(taken) == asked or bool(more_due),
            taken=taken,
        )

    def _entries(self, lane: str, found: list[bytes]) -> list[Taken]:
        worker, streams = self._worker, _STREAMS
        return [
            read_taken((lane, streams[stream], entry.decode(), worker), head, body)
            for stream, entry, head, body in zip(found[::4], found[1::4], found[2::4], found[3::4], strict=True)
        ]


def _flat(asked: Mapping[str, int]) -> list[Any]:
    return [item for pair in asked.items() for item in pair]
