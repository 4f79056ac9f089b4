"""What a worker knows of lanes: where something may be."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from pilotis_redis.lanes.taking import MOST_LANES, Answer


class Outlook:
    """Decides which lanes to ask, and which to wait for. No I/O.

    A lane is *quiet* when it was asked and had less than there was capacity for, and every read since then has waited
    for it too. It is *hot* when something may have come that no read tells of, or more than one.
    """

    def __init__(self) -> None:
        self._quiet: set[str] = set()
        self._hot: dict[str, None] = {}
        """Those that have waited longest come first."""
        self._paused: set[str] = set()
        self._missing: set[str] = set()
        self._due: dict[str, float] = {}
        """When the next delayed entry of a lane is due, by this process's clock."""

    def heat(self, lanes: Iterable[str]) -> None:
        """Note that something may be in lanes."""
        self._hot.update(dict.fromkeys(lanes))

    def stop_missing(self) -> list[str]:
        """Note that lanes that were not there may be there now."""
        lanes, self._missing = list(self._missing), set()
        self.heat(lanes)
        return lanes

    def to_ask(self, wanted: Mapping[str, int]) -> dict[str, int]:
        """Return the lanes to ask now, of those that are wanted, with how many entries are wanted of each.

        They count as asked: what is heard of them from now on may be news to their answers, and makes them hot again.
        """
        now = time.monotonic()
        self.heat(lane for lane, due in self._due.items() if due <= now)
        self.heat(wanted.keys() - self._quiet)
        asked: dict[str, int] = {}
        for lane in self._hot:
            if wanted.get(lane, 0) > 0:
                asked[lane] = wanted[lane]
                if len(asked) == MOST_LANES:
                    break
        for lane in asked:
            del self._hot[lane]
        return asked

    def note(self, lane: str, answer: Answer | None) -> None:
        """Take in what a lane answered; None from one that is not there."""
        self._quiet.add(lane)
        self._due.pop(lane, None)
        self._paused.discard(lane)
        if answer is None:
            self._missing.add(lane)
        elif answer.is_paused:
            self._paused.add(lane)
        else:
            self._note_open(lane, answer)

    def to_watch(self, wanted: Mapping[str, int]) -> AbstractSet[str]:
        """Return the lanes that a read has to wait for."""
        return (wanted.keys() & self._quiet) - self._hot.keys() - self._paused - self._missing

    def begin(self, lanes: AbstractSet[str]) -> None:
        """Note that a read waits for these lanes, and for no others."""
        self._quiet &= lanes | self._paused | self._missing

    def close(self, lanes: AbstractSet[str]) -> None:
        """Note that lanes are paused."""
        self._paused |= lanes
        self.heat(lanes)

    def is_open(self, lane: str) -> bool:
        """Tell whether a lane is not known to be paused."""
        return lane not in self._paused

    def seconds_left(self, lanes: Iterable[str]) -> float | None:
        """Return how long it is until something is due in lanes."""
        due = min((self._due[lane] for lane in lanes if lane in self._due), default=None) if self._due else None
        return None if due is None else max(0.0, due - time.monotonic())

    def _note_open(self, lane: str, answer: Answer) -> None:
        if answer.next_due is not None:
            self._due[lane] = time.monotonic() + answer.next_due
        if answer.may_have_more:
            self._hot[lane] = None
