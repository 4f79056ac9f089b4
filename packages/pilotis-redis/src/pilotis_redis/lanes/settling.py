"""Ending what was taken."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from pilotis_redis.lanes.entry import Taken
from pilotis_redis.lanes.keys import BusKeys
from pilotis_redis.link import RedisLink
from pilotis_redis.scripts import Script

SETTLE = Script.load("pilotis_redis", "entries", "settle")
_REFUSE = Script.load("pilotis_redis", "entries", "refuse")
MOST = 250
"""Endings of a script."""

_encode = msgspec.msgpack.Encoder().encode


class Ending(msgspec.Struct, frozen=True):
    """What becomes of an entry that was taken."""

    taken: Taken
    verdict: Literal["done", "retry", "dead", "back"]
    """Removed; handed out again later; a dead letter; given back unharmed."""
    delay: float = 0.0
    """Of "retry": seconds from now, by the server's clock."""
    counted: bool = True
    """Of "retry": whether the run counts as an attempt."""
    cause: str = ""
    error: str = ""
    traceback: str = ""
    """Of "dead": what is kept about it."""


class Settling:
    """Sends endings, for the tasks of one loop. It remembers of which it does not know whether they arrived."""

    def __init__(self, link: RedisLink, keys: BusKeys) -> None:
        self._link = link
        self._keys = keys
        self._unsure: set[tuple[str, str, str]] = set()

    async def send(self, endings: Sequence[Ending]) -> list[bool] | None:
        """End what one worker holds, and tell for each whether it was still its own; None if the worker is dead.

        Sending again what may have arrived counts as arrived.
        """
        batches = _batches(endings)
        try:
            calls = [self._call([endings[index] for index in batch]) for batch in batches]
            answers = await self._link.script_each(SETTLE, calls)
        except BaseException:
            self._unsure.update(_place(ending.taken) for ending in endings)
            raise
        if b"dead" in answers:
            return None
        unsure, settled = self._unsure, [False] * len(endings)
        for batch, answered in zip(batches, answers, strict=True):
            for index, answer in zip(batch, answered, strict=True):
                settled[index] = answer == 1 or (bool(unsure) and _place(endings[index].taken) in unsure)
        if unsure:
            self._unsure = unsure - {_place(ending.taken) for ending in endings}
        return settled

    def _call(self, batch: Sequence[Ending]) -> tuple[list[str], list[Any]]:
        first = batch[0].taken
        keys = self._keys
        return (
            [keys.workers, keys.sequence, keys.news, *keys.lane(first.lane).all],
            [first.worker, first.lane, _encode([_said(ending) for ending in batch])],
        )


async def refuse(link: RedisLink, keys: BusKeys, endings: Iterable[Ending]) -> None:
    """Count endings that come from a worker that was taken for dead."""
    lanes = Counter(ending.taken.lane for ending in endings)
    calls = [((keys.workers, *keys.lane(lane).all), (number,)) for lane, number in lanes.items()]
    await link.script_each(_REFUSE, calls)


def _batches(endings: Sequence[Ending]) -> list[list[int]]:
    """Cut endings into those of one lane, a bounded number each."""
    by_lane: dict[str, list[int]] = {}
    for index, ending in enumerate(endings):
        by_lane.setdefault(ending.taken.lane, []).append(index)
    return [mine[start : start + MOST] for mine in by_lane.values() for start in range(0, len(mine), MOST)]


def _place(taken: Taken) -> tuple[str, str, str]:
    return taken.lane, taken.stream, taken.entry


def _said(ending: Ending) -> tuple[Any, ...]:
    taken = ending.taken
    match ending.verdict:
        case "done":
            return taken.stream, taken.entry, "done", taken.head.member
        case "back":
            return taken.stream, taken.entry, "back"
        case "retry":
            return taken.stream, taken.entry, "retry", math.ceil(ending.delay * 1000), int(ending.counted)
        case "dead":
            return taken.stream, taken.entry, "dead", ending.cause, _text(ending.error), _text(ending.traceback)


def _text(text: str) -> str:
    """Return a text that can be sent: errors may quote what was half a character."""
    return text.encode("utf-8", "backslashreplace").decode()
