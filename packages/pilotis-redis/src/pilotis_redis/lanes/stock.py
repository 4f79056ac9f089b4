"""What a worker has in its hands."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet

from pilotis.bridge import Latch

from pilotis_redis.lanes.entry import Taken
from pilotis_redis.lanes.keys import STREAMS


class Order:
    """What one call of `receive` asks for, and what it is given."""

    def __init__(self, capacity: Mapping[str, int], wake: Latch) -> None:
        self.capacity = {lane: most for lane, most in capacity.items() if most > 0}
        self.wake = wake
        self.taken: list[Taken] = []
        self.stirred = Latch()
        """Set when there is something new to look at."""
        self.is_over = False
        """Whether nobody waits for it any more."""

    def retire(self) -> None:
        """Wait no more."""
        self.is_over = True
        self.wake.forget(self.stirred.set)

    def renew(self) -> None:
        """Wait anew: for news from now on, and to be woken."""
        self.wake.forget(self.stirred.set)
        self.stirred = Latch()
        self.wake.on_set(self.stirred.set)


class Stock:
    """The entries that a worker holds: those it keeps for the next who asks, and those it handed out.

    Used by the tasks of one loop.
    """

    def __init__(self) -> None:
        self._kept: dict[str, deque[Taken]] = {}
        self._held: dict[str, set[str]] = {}
        """By lane, all that was taken and not settled: the letter of the stream and the id of the entry."""
        self.suspect: Taken | None = None
        """The one that may be dangerous: a worker holds no two at a time."""

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    def add(self, taken: Iterable[Taken]) -> list[Taken]:
        """Keep entries that came, those again that are held already excepted. Return the suspects that are too many."""
        too_many: list[Taken] = []
        disordered = list(self._kept)  # a read that waits may be overtaken by what was asked for after it
        for entry in taken:
            held = self._held.setdefault(entry.lane, set())
            place = entry.stream + entry.entry
            if place in held:
                continue
            held.add(place)
            if entry.stream == "s" and self.suspect is not None:
                too_many.append(entry)
                continue
            if entry.stream == "s":
                self.suspect = entry
            self._keep(entry)
        for lane in disordered:
            self._kept[lane] = deque(sorted(self._kept[lane], key=_rank))
        return too_many

    def holds(self, entry: Taken) -> bool:
        """Tell whether an entry was taken and not settled."""
        held = self._held.get(entry.lane)
        return held is not None and entry.stream + entry.entry in held

    def drop(self, entry: Taken) -> None:
        """Note that an entry was settled."""
        held = self._held.get(entry.lane)
        if held is not None:
            held.discard(entry.stream + entry.entry)
        if self.suspect is not None and _place(self.suspect) == _place(entry):
            self.suspect = None

    def serve(self, order: Order) -> bool:
        """Give an order what is kept of what it asks for. Return whether that was anything."""
        for lane in self._kept.keys() & order.capacity.keys() if self._kept else ():
            kept = self._kept[lane]
            order.taken.extend(kept.popleft() for _ in range(min(len(kept), order.capacity[lane])))
            if not kept:
                del self._kept[lane]
        return bool(order.taken)

    def put_back(self, taken: Iterable[Taken]) -> None:
        """Keep again what was handed out to somebody who is gone, before all else, unless it was lost meanwhile."""
        for entry in reversed(list(taken)):
            if self.holds(entry):
                self._kept.setdefault(entry.lane, deque()).appendleft(entry)

    def withdraw(self, unless: Callable[[str], bool]) -> list[Taken]:
        """Return what is kept, of all lanes but those that `unless` says. It is held until it is settled."""
        lanes = [lane for lane in self._kept if not unless(lane)]
        return [entry for lane in lanes for entry in self._kept.pop(lane)]

    def kept_lanes(self) -> AbstractSet[str]:
        """Return the lanes of which something is kept."""
        return self._kept.keys()

    def kept(self, lane: str) -> int:
        """Return how many entries of a lane are kept."""
        return len(self._kept.get(lane, ()))

    def lanes(self) -> AbstractSet[str]:
        """Return the lanes of which something is held."""
        return {lane for lane, held in self._held.items() if held}

    def _keep(self, entry: Taken) -> None:
        self._kept.setdefault(entry.lane, deque()).append(entry)


def _rank(taken: Taken) -> tuple[int, int, int]:
    """Return the order in which entries of a lane are handed out."""
    time, number = taken.entry.split("-")
    return STREAMS.index(taken.stream), int(time), int(number)


def _place(taken: Taken) -> tuple[str, str, str]:
    return taken.lane, taken.stream, taken.entry
