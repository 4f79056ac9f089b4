"""One lane in memory. Not thread-safe: the provider holds its lock around every call."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from pilotis.providers import DeadEvent, DeadFilter, Delivery, EventLane, LaneInfo, Outcome, OutgoingEvent

_PRIORITIES = ("high", "normal", "low")


class Entry:
    """An event in one lane."""

    __slots__ = ("attempts", "due", "event", "first_at", "lane", "receipt")

    def __init__(self, lane: Lane, event: OutgoingEvent, due: float) -> None:
        self.lane = lane
        self.event = event
        self.due = due
        self.attempts = 0
        """Runs that counted."""
        self.first_at: float | None = None
        """When it failed first; seconds since 1970."""
        self.receipt = ""


class Lane:
    """The queue of one subscription: what is ready, delayed, in flight and dead."""

    def __init__(self, spec: EventLane) -> None:
        self.spec = spec
        self.paused = False
        self.ready: dict[str, deque[Entry]] = {priority: deque() for priority in _PRIORITIES}
        self.chains: dict[str, deque[Entry]] = {}
        """By key, in order: the first is ready, delayed or in flight, the others wait for it."""
        self.delayed: set[Entry] = set()
        self.in_flight: dict[str, Entry] = {}
        self.dead: dict[str, tuple[DeadEvent, OutgoingEvent]] = {}
        """By the id of the event, the oldest first."""
        self.emitted = self.delivered = self.succeeded = self.retried = self.died = self.fenced = 0

    def add(self, event: OutgoingEvent, due: float, now: float) -> Entry | None:
        """Take an event in, at the end of its key's chain. Return its entry if it has to wait for its time."""
        entry = Entry(self, event, due)
        key = event.key
        if key is not None:
            chain = self.chains.setdefault(key, deque())
            chain.append(entry)
            if chain[0] is not entry:
                return None
        return self.enter(entry, now)

    def enter(self, entry: Entry, now: float) -> Entry | None:
        """Make an entry ready, or delayed until it is due: then it is returned."""
        if entry.due > now:
            self.delayed.add(entry)
            return entry
        self.ready[entry.event.priority].append(entry)
        return None

    def mature(self, entry: Entry) -> None:
        """Make a delayed entry ready, unless it was removed meanwhile."""
        if entry in self.delayed:
            self.delayed.remove(entry)
            self.ready[entry.event.priority].append(entry)

    def take(self, most: int) -> Iterator[Entry]:
        """Remove up to `most` entries that are ready, by priority."""
        for waiting in self.ready.values():
            while waiting and most > 0:
                most -= 1
                yield waiting.popleft()

    def give_back(self, entry: Entry) -> None:
        """Put an entry before all that waits."""
        self.ready[entry.event.priority].appendleft(entry)

    def advance(self, entry: Entry, now: float) -> Entry | None:
        """Let the next of the entry's key go ahead. Return it if it has to wait for its time."""
        key = entry.event.key
        if key is None:
            return None
        chain = self.chains.get(key)
        if chain is None or not chain or chain[0] is not entry:
            return None
        chain.popleft()
        if not chain:
            del self.chains[key]
            return None
        return self.enter(chain[0], now)

    def bury(self, entry: Entry, outcome: Outcome, died_at: float, worker: str, most: int) -> bool:
        """Make a dead letter. Return whether there are more than `most` now, and the oldest had to go."""
        event = entry.event
        self.died += 1
        self.dead.pop(event.id, None)
        dead = DeadEvent(
            lane=self.spec,
            id=event.id,
            name=event.name,
            body=event.body,
            cause=outcome.cause,
            error=outcome.error,
            traceback=outcome.traceback,
            attempts=entry.attempts + 1,
            worker=worker,
            first_at=died_at if entry.first_at is None else entry.first_at,
            died_at=died_at,
        )
        self.dead[event.id] = (dead, event)
        if len(self.dead) <= most:
            return False
        del self.dead[next(iter(self.dead))]
        return True

    def exhume(self, where: DeadFilter) -> list[OutgoingEvent]:
        """Remove the dead letters that are meant, and return their events."""
        meant = [id for id, (dead, _) in self.dead.items() if where.admits(dead)]
        return [self.dead.pop(id)[1] for id in meant]

    def purge(self) -> int:
        """Drop what waits. What is in flight stays, at the head of its chain."""
        ready = sum(len(waiting) for waiting in self.ready.values())
        purged = ready + len(self.delayed) + self.held
        for waiting in self.ready.values():
            waiting.clear()
        self.delayed.clear()
        flying = set(self.in_flight.values())
        heads = {key: chain[0] for key, chain in self.chains.items()}
        self.chains = {key: deque([head]) for key, head in heads.items() if head in flying}
        return purged

    @property
    def held(self) -> int:
        """How many entries wait behind another one of their key."""
        return sum(len(chain) - 1 for chain in self.chains.values())

    def hand_out(self, entry: Entry, receipt: str) -> Delivery:
        """Note that an entry is in flight, and return what its reader gets."""
        entry.receipt = receipt
        self.in_flight[receipt] = entry
        self.delivered += 1
        event = entry.event
        return Delivery(self.spec.id, receipt, event.id, event.name, event.body, entry.attempts + 1)

    def info(self, now: float) -> LaneInfo:
        """Tell how the lane is doing."""
        due = min((entry.due for entry in self.delayed), default=None)
        first = min((waiting[0].due for waiting in self.ready.values() if waiting), default=None)
        return LaneInfo(
            lane=self.spec.id,
            pattern=self.spec.pattern,
            subscription=self.spec.subscription,
            paused=self.paused,
            queued=sum(len(waiting) for waiting in self.ready.values()),
            oldest=None if first is None else now - first,
            held=self.held,
            delayed=len(self.delayed),
            next_due=None if due is None else max(0.0, due - now),
            in_flight=len(self.in_flight),
            dead=len(self.dead),
            emitted=self.emitted,
            delivered=self.delivered,
            succeeded=self.succeeded,
            retried=self.retried,
            died=self.died,
            fenced=self.fenced,
        )
