"""Dead letters: listed the oldest first over many lanes, put back, and removed."""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec

from pilotis_redis.lanes.entry import HEADS, Letter
from pilotis_redis.lanes.keys import BusKeys
from pilotis_redis.link import Call, RedisLink
from pilotis_redis.scripts import Script

_GRAVES = Script.load("pilotis_redis", "graves")
_LETTERS = Script.load("pilotis_redis", "entries", "letters")
_REPLAY = Script.load("pilotis_redis", "entries", "replay")
_BURY = Script.load("pilotis_redis", "entries", "bury")
_PAGE = 200
"""Letters that one run of a script is about."""
_ENOUGH = 1_000_000
"""Bytes that one run of a script reads."""


class Meant(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters are meant. None means all."""

    lanes: Sequence[str]
    name: str | None = None
    ids: Collection[str] | None = None
    since: int | None = None
    """Died at this time (ms since 1970) or later."""
    before: int | None = None
    """Died at this time or earlier."""

    def admits(self, letter: Letter) -> bool:
        """Tell whether a letter is meant, of a lane that is."""
        return (self.name is None or letter.head.name == self.name) and self.spans(letter.died)

    def spans(self, died: int) -> bool:
        """Tell whether letters of who died then (ms) are meant."""
        return (self.since is None or died >= self.since) and (self.before is None or died <= self.before)


Place = tuple[str, bytes]
"""The lane of a letter, and its id."""


class Letters:
    """The dead letters of a bus."""

    def __init__(self, link: RedisLink, keys: BusKeys) -> None:
        self._link = link
        self._keys = keys

    async def all(self, meant: Meant) -> AsyncGenerator[Letter, None]:
        """List letters, the oldest first."""
        async for places in self._pages(meant):
            letters = [letter for letter in await self._read(places) if meant.admits(letter)]
            for letter in sorted(letters, key=_by_death):
                yield letter

    async def replay(self, meant: Meant) -> int:
        """Put letters back into their lanes, each once, and return how many."""
        return await self._each(_REPLAY, (self._keys.sequence,), meant)

    async def bury(self, meant: Meant) -> int:
        """Remove letters, and return how many."""
        return await self._each(_BURY, (), meant)

    async def _each(self, script: Script, shared: tuple[str, ...], meant: Meant) -> int:
        done = 0
        async for places in self._chosen(meant):
            calls = [((*shared, *self._keys.lane(lane).all), ids) for lane, ids in _by_lane(places)]
            done += sum(await self._link.script_each(script, calls))
        return done

    async def _chosen(self, meant: Meant) -> AsyncGenerator[list[Place], None]:
        """Yield where letters are that are meant; only where it must be known what is in them, they are read."""
        async for places in self._pages(meant):
            if meant.name is None:
                yield places
            else:
                letters = await self._read(places)
                yield [(letter.lane, letter.head.id.encode()) for letter in letters if meant.admits(letter)]

    async def _pages(self, meant: Meant) -> AsyncGenerator[list[Place], None]:
        """Yield where letters are that may be meant, the oldest first."""
        page: list[Place] = []
        async for lane, id in self._places(meant) if meant.ids is None else self._named(meant, meant.ids):
            page.append((lane, id))
            if len(page) == _PAGE:
                yield page
                page = []
        if page:
            yield page

    async def _places(self, meant: Meant) -> AsyncGenerator[Place, None]:
        """Merge the letters of all lanes."""
        graveyards = [_Graveyard(lane, self._keys.lane(lane).dead, meant) for lane in meant.lanes]
        replies = await self._link.script_each(_GRAVES, [graveyard.query() for graveyard in graveyards])
        for graveyard, reply in zip(graveyards, replies, strict=True):
            graveyard.take(reply)
        heap = [(*graveyard.next, index) for index, graveyard in enumerate(graveyards) if graveyard.next]
        heapq.heapify(heap)
        while heap:
            _, id, index = heap[0]
            graveyard = graveyards[index]
            yield graveyard.lane, id
            if not graveyard.go_on():
                graveyard.take(await self._link.script(_GRAVES, *graveyard.query()))
            if graveyard.next:
                heapq.heapreplace(heap, (*graveyard.next, index))
            else:
                heapq.heappop(heap)

    async def _named(self, meant: Meant, ids: Collection[str]) -> AsyncGenerator[Place, None]:
        """Find letters by their ids."""
        wanted = list(ids)
        parts = [(lane, wanted[at : at + _PAGE]) for lane in meant.lanes for at in range(0, len(wanted), _PAGE)]
        commands = [("ZMSCORE", self._keys.lane(lane).dead, *part) for lane, part in parts]
        found = [
            (died, id, lane)
            for (lane, part), reply in zip(parts, await self._link.pipeline(commands), strict=True)
            for id, died in zip(part, reply, strict=True)
            if died is not None and meant.spans(int(died))
        ]
        for _, id, lane in sorted(found):
            yield lane, id.encode()

    async def _read(self, places: Sequence[Place]) -> list[Letter]:
        """Return the letters that are still there, a bounded number of bytes at a time."""
        letters: list[Letter] = []
        left = _by_lane(places)
        while left:
            calls = [(self._keys.lane(lane).all, (_ENOUGH, *ids)) for lane, ids in left]
            replies = await self._link.script_each(_LETTERS, calls)
            for (lane, _), (_, found) in zip(left, replies, strict=True):
                letters += [_letter(lane, *parts) for parts in found]
            rest = [(lane, ids[seen:]) for (lane, ids), (seen, _) in zip(left, replies, strict=True)]
            left = [(lane, ids) for lane, ids in rest if ids]
        return letters


class _Graveyard:
    """The letters of one lane in the order of their deaths, a page at a time.

    What died at the time of the last one that was seen is asked for again, and left out if it was seen: so nothing is
    missed where letters go meanwhile.
    """

    def __init__(self, lane: str, key: str, meant: Meant) -> None:
        self.lane = lane
        self.next: tuple[int, bytes] | tuple[()] = ()
        """When the next one died, and its id; nothing at the end."""
        self._key = key
        self._since: int | str = "-inf" if meant.since is None else meant.since
        self._before: int | str = "+inf" if meant.before is None else meant.before
        self._seen: set[bytes] = set()
        """Who died at `_since`."""
        self._page: list[tuple[int, bytes]] = []

    def query(self) -> Call:
        """Return what the script is asked for the next page."""
        return (self._key,), (self._since, self._before, _PAGE + len(self._seen))

    def take(self, reply: Sequence[tuple[int, bytes]]) -> None:
        """Take in what the script answered."""
        self._page = [(died, id) for died, id in reversed(reply) if id not in self._seen]
        self.next = ()
        self.go_on()

    def go_on(self) -> bool:
        """Go on to the next one. False at the end of the page."""
        if not self._page:
            return False
        self.next = died, id = self._page.pop()
        if died != self._since:
            self._since, self._seen = died, set()
        self._seen.add(id)
        return True


def _by_lane(places: Iterable[Place]) -> list[tuple[str, list[bytes]]]:
    together = groupby(sorted(places, key=itemgetter(0)), key=itemgetter(0))
    return [(lane, [id for _, id in mine]) for lane, mine in together]


def _letter(lane: str, head: bytes, body: bytes, *rest: Any) -> Letter:
    *texts, died = rest
    cause, error, traceback, worker = (text.decode(errors="replace") for text in texts)
    return Letter(lane, HEADS.decode(head), body, cause, error, traceback, worker, died)


def _by_death(letter: Letter) -> tuple[int, str]:
    return letter.died, letter.head.id
