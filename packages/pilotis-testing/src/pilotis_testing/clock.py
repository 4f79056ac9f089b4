"""A clock that moves when told to."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable

from pilotis.bridge import Latch
from pilotis.providers import Clock

SETTLE_SECONDS = 10.0


class ManualClock(Clock):
    """Stands still until `advance` moves it; whoever waits on it wakes when its time has come.

    Wall time starts at 2026-01-01 00:00 UTC unless `start` (seconds since 1970) says otherwise.
    """

    def __init__(self, start: float = 1_767_225_600.0) -> None:
        self._changed = threading.Condition()
        self._start = start
        self._elapsed = 0.0
        self._order = itertools.count()
        self._timers: list[tuple[float, int, Callable[[], object]]] = []

    def time(self) -> float:
        return self._start + self._elapsed

    def monotonic(self) -> float:
        return self._elapsed

    @property
    def waiting(self) -> int:
        """How many waits with a timeout are under way."""
        with self._changed:
            return len(self._timers)

    def ending_in(self, seconds: float) -> int:
        """Return how many of the waits under way end in so many seconds."""
        with self._changed:
            return sum(math.isclose(due, self._elapsed + seconds, abs_tol=0.001) for due, _, _ in self._timers)

    def advance(self, seconds: float) -> None:
        """Move on by `seconds`, stopping at each due time on the way and waking who waits for it.

        What the woken do afterwards happens on their own threads: use `until` to wait for its effect.
        """
        target = self._elapsed + seconds
        while (wake := self._pop_due(target)) is not None:
            wake()
        with self._changed:
            self._elapsed = max(self._elapsed, target)

    def jump(self, seconds: float) -> None:
        """Change the wall time alone, as a correction of the system's clock does."""
        self._start += seconds

    def wait_for_waiters(self, count: int = 1) -> None:
        """Block the test until `count` waits with a timeout are under way; fail after 10 real seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._timers) >= count, SETTLE_SECONDS):
                raise AssertionError(f"{len(self._timers)} waits are under way, not {count}")

    async def wait(self, latch: Latch, timeout: float | None) -> bool:
        if timeout is None:
            return await latch.wait()
        if latch.is_set() or timeout <= 0:
            return latch.is_set()
        either = Latch()
        latch.on_set(either.set)
        entry = self._add(self._elapsed + timeout, either.set)
        try:
            await either.wait()
        finally:
            latch.forget(either.set)
            self._remove(entry)
        return latch.is_set()

    def _add(self, due: float, wake: Callable[[], object]) -> tuple[float, int, Callable[[], object]]:
        with self._changed:
            entry = (due, next(self._order), wake)
            heapq.heappush(self._timers, entry)
            self._changed.notify_all()
        return entry

    def _remove(self, entry: tuple[float, int, Callable[[], object]]) -> None:
        with self._changed:
            if entry in self._timers:
                self._timers.remove(entry)
                heapq.heapify(self._timers)

    def _pop_due(self, target: float) -> Callable[[], object] | None:
        with self._changed:
            if not self._timers or self._timers[0][0] > target:
                return None
            due, _, wake = heapq.heappop(self._timers)
            self._elapsed = max(self._elapsed, due)
            return wake


def until(condition: Callable[[], bool], seconds: float = SETTLE_SECONDS) -> None:
    """Block the test until `condition()` holds; fail after `seconds` real seconds. Not for event loops."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"the condition did not come true within {seconds} s")
        time.sleep(0.001)
