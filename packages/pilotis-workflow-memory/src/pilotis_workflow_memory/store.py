"""What the provider keeps: runs with their journals and mailboxes, and the indexes to find them by."""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from msgspec.structs import replace
from pilotis.providers import AT_REST, Latch, Letter, Notice, RunQuery, RunRecord, RunStatus, StepRecord

NOTICES = 10_000
"""How many notices are kept for subscribers."""

TIMERS = 1_000
"""How many timers there may be before those of waits that ended early are looked for."""


class Entry:
    """A run with all that belongs to it."""

    __slots__ = ("due", "expires", "journal", "mailbox", "number", "rest", "run", "seen")

    def __init__(self, run: RunRecord, number: int) -> None:
        self.run = run
        self.number = number
        self.journal: dict[str, StepRecord] = {}
        self.mailbox: dict[str, deque[Letter]] = {}
        self.seen: set[str] = set()
        self.due: float | None = None
        """While parked: when the run goes on by itself."""
        self.expires: float | None = None
        self.rest = Latch()
        """Set while the run is at rest."""


class Store:
    """Plain data behind one lock, which its owner holds during every call."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.schedules: dict[str, tuple[float, str]] = {}
        """The last fire of each schedule, and the run that it started last."""
        self.notices: deque[Notice] = deque(maxlen=NOTICES)
        self.noticed = 0
        """How many notices there have been."""
        self._pending: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        self._by_name: dict[str, dict[str, None]] = defaultdict(dict)
        self._by_status: dict[RunStatus, dict[str, None]] = defaultdict(dict)
        self.timers: list[tuple[float, int, str, str | None]] = []
        """By due time; also some of waits that ended early."""
        self._most_timers = TIMERS
        self._numbers = itertools.count()

    # Runs

    def add(self, run: RunRecord) -> Entry:
        """Keep a new run, ready to be claimed."""
        entry = self.entries[run.id] = Entry(run, next(self._numbers))
        self._by_name[run.name][run.id] = None
        self._by_status[run.status][run.id] = None
        self._pending[run.name, run.version][run.id] = None
        self.tell("run.started", run)
        return entry

    def change(self, entry: Entry, **changes: Any) -> RunRecord:
        """Change a run, and keep the index of states and the subscribers up to date."""
        before, run = entry.run, replace(entry.run, **changes)
        entry.run = run
        if run.status != before.status:
            self._by_status[before.status].pop(run.id, None)
            self._by_status[run.status][run.id] = None
            if run.status != "pending":
                self.tell(f"run.{run.status}", run)
        return run

    def remove(self, entry: Entry) -> None:
        """Forget a run that has ended."""
        run = entry.run
        del self.entries[run.id]
        self._by_name[run.name].pop(run.id, None)
        self._by_status[run.status].pop(run.id, None)

    def tell(self, event: str, run: RunRecord) -> None:
        """Leave a notice for subscribers."""
        self.notices.append(Notice(event, run))
        self.noticed += 1

    def notices_after(self, count: int) -> list[Notice]:
        """Return the notices that came after the first `count`, as far as they are kept."""
        missed = min(self.noticed - count, len(self.notices))
        return list(itertools.islice(self.notices, len(self.notices) - missed, None))

    # What is to be done

    def make_ready(self, entry: Entry) -> None:
        """Let any worker claim the run."""
        self._pending[entry.run.name, entry.run.version][entry.run.id] = None

    def is_ready(self, entry: Entry) -> bool:
        """Tell whether the run waits for a worker."""
        return entry.run.id in self._pending[entry.run.name, entry.run.version]

    def unready(self, entry: Entry) -> None:
        """Let nobody claim the run."""
        self._pending[entry.run.name, entry.run.version].pop(entry.run.id, None)

    def take_ready(self, flows: Collection[tuple[str, str]]) -> Entry | None:
        """Take the run that has waited longest among those of `flows`."""
        heads = [next(iter(ready)) for flow, ready in self._pending.items() if ready and flow in flows]
        if not heads:
            return None
        entry = min((self.entries[id] for id in heads), key=lambda entry: entry.number)
        self.unready(entry)
        return entry

    # Times

    def set_timer(self, due: float, id: str, key: str | None) -> None:
        """Note that something of a run is due: a journal record, or with None the run itself."""
        heapq.heappush(self.timers, (due, next(self._numbers), id, key))
        if len(self.timers) > self._most_timers:
            self._forget_stale_timers()

    def next_timer(self) -> float | None:
        """Return when the next timer is due."""
        return self.timers[0][0] if self.timers else None

    def due_timers(self, now: float, limit: int) -> Iterator[tuple[Entry, str | None, float]]:
        """Take the timers that are due, of runs that still exist."""
        for _ in range(limit):
            if not self.timers or self.timers[0][0] > now:
                return
            due, _, id, key = heapq.heappop(self.timers)
            entry = self.entries.get(id)
            if entry is not None:
                yield entry, key, due

    def _forget_stale_timers(self) -> None:
        self.timers = [timer for timer in self.timers if self._is_awaited(timer)]
        heapq.heapify(self.timers)
        self._most_timers = max(TIMERS, 2 * len(self.timers))

    def _is_awaited(self, timer: tuple[float, int, str, str | None]) -> bool:
        due, _, id, key = timer
        entry = self.entries.get(id)
        if entry is None:
            return False
        if key is None:
            return due in (entry.due, entry.expires)
        record = entry.journal.get(key)
        return record is not None and record.status == "waiting" and record.due == due

    # Finding

    def find(self, query: RunQuery) -> list[RunRecord]:
        """Return the newest runs that fit."""
        runs = (self.entries[id].run for id in self._candidates(query))
        found = (run for run in runs if _fits(run, query))
        return list(itertools.islice(found, query.limit))

    def held_by(self, worker: str) -> list[Entry]:
        """Return the runs that a worker holds."""
        held = itertools.chain(self._by_status["running"], self._by_status["compensating"])
        return [entry for entry in map(self.entries.__getitem__, list(held)) if entry.run.worker == worker]

    def _candidates(self, query: RunQuery) -> Iterable[str]:
        if query.statuses is not None:
            ids = itertools.chain.from_iterable(self._by_status[status] for status in query.statuses)
            return sorted(ids, key=lambda id: self.entries[id].number, reverse=True)
        if query.name is not None:
            return reversed(self._by_name[query.name])
        return reversed(self.entries)


def _fits(run: RunRecord, query: RunQuery) -> bool:
    return (
        (query.name is None or run.name == query.name)
        and (query.since is None or run.created >= query.since)
        and (query.until is None or run.created <= query.until)
    )


def is_at_rest(run: RunRecord) -> bool:
    """Tell whether nobody will touch the run by itself."""
    return run.status in AT_REST
