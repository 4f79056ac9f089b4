"""Events within one process: nothing leaves it, and nothing outlives it."""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import socket
import threading
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from typing import Annotated, ClassVar

import msgspec
from pilotis.keys import glob
from pilotis.providers import (
    Audience,
    DeadEvent,
    DeadFilter,
    Delivery,
    Emitted,
    EventCapability,
    EventLane,
    EventProvider,
    LaneInfo,
    Latch,
    Outcome,
    OutgoingEvent,
    reset_after_fork,
)

from pilotis_event_local.lanes import Entry, Lane
from pilotis_event_local.memory import Memory

logger = logging.getLogger("pilotis.event.local")

_MOST_ROUTES = 10_000


class LocalEventsOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the local event provider."""

    remember: Annotated[int, msgspec.Meta(ge=1)] = 100_000
    """How many ids of events are remembered, for a day at most, so that repetitions are dropped."""
    max_dead: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    """How many dead letters a subscription keeps; then the oldest go, with a warning."""


class LocalEvents(EventProvider):
    """Lanes in memory. They live as long as this object, also when it is closed and opened again.

    A child process made by a fork begins with empty lanes: what waits is the parent's.
    """

    Options = LocalEventsOptions
    capabilities: ClassVar[EventCapability] = (
        EventCapability.DELAY
        | EventCapability.PRIORITY
        | EventCapability.ORDER
        | EventCapability.DEDUPE
        | EventCapability.GROUPS
        | EventCapability.TAIL
    )

    def __init__(self, options: LocalEventsOptions | None = None, **clients: object) -> None:
        super().__init__(options, **clients)
        self._lanes: dict[str, Lane] = {}
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Keep the subscriptions alone."""
        self._lock = threading.Lock()
        self._lanes = {id: Lane(lane.spec) for id, lane in self._lanes.items()}
        self._routes: dict[str, list[Lane]] = {}
        self._delayed: list[tuple[float, int, Entry]] = []
        self._staged: dict[str, list[OutgoingEvent]] = {}
        self._memory = Memory(self.options.remember)
        self._count = itertools.count(1)
        self._waiting: list[Latch] = []
        self._audience = Audience()
        self._worker = f"{socket.gethostname()}:{os.getpid()}"

    # Lanes

    async def declare(self, lanes: Sequence[EventLane]) -> list[EventLane | None]:
        with self._lock:
            self._routes = {}
            return [self._declare(spec) for spec in lanes]

    def _declare(self, spec: EventLane) -> EventLane | None:
        lane = self._lanes.get(spec.id)
        if lane is None:
            self._lanes[spec.id] = Lane(spec)
            return None
        before, lane.spec = lane.spec, spec
        return before

    async def forget(self, lanes: Collection[str]) -> None:
        with self._lock:
            for id in lanes:
                self._lanes.pop(id, None)
            self._routes = {}

    async def pause(self, lanes: Collection[str], *, paused: bool) -> None:
        with self._lock:
            for lane in self._named(lanes):
                lane.paused = paused
        self._wake()

    async def purge(self, lanes: Collection[str]) -> int:
        with self._lock:
            return sum(lane.purge() for lane in self._named(lanes))

    async def lanes(self) -> list[LaneInfo]:
        with self._lock:
            self._mature()
            now = self.context.clock.monotonic()
            return [self._lanes[id].info(now) for id in sorted(self._lanes)]

    # Emitting

    async def emit(self, events: Sequence[OutgoingEvent]) -> list[Emitted]:
        with self._lock:
            emitted = self._take_in(events)
        self._wake()
        return emitted

    async def stage(self, groups: Mapping[str, Sequence[OutgoingEvent]]) -> None:
        with self._lock:
            for group, events in groups.items():
                self._staged.setdefault(group, []).extend(events)

    async def release(self, group: str) -> list[Emitted]:
        with self._lock:
            emitted = self._take_in(self._staged.pop(group, []))
        self._wake()
        return emitted

    async def clear(self, group: str, names: Collection[str] | None) -> int:
        with self._lock:
            staged = self._staged.pop(group, [])
            kept = [] if names is None else [event for event in staged if event.name not in names]
            if kept:
                self._staged[group] = kept
            return len(staged) - len(kept)

    def tail(self) -> AsyncGenerator[OutgoingEvent, None]:
        return self._audience.watch()

    def _take_in(self, events: Sequence[OutgoingEvent]) -> list[Emitted]:
        self._mature()
        now = self.context.clock.monotonic()
        emitted = [self._take_one_in(event, now) for event in events]
        if self._audience:
            self._audience.show([event for event, it in zip(events, emitted, strict=True) if not it.repeated])
        return emitted

    def _take_one_in(self, event: OutgoingEvent, now: float) -> Emitted:
        repeated = self._memory.recall(event, now)
        if repeated is not None:
            return Emitted(repeated, 0, repeated=True)
        lanes = self._routes.get(event.name)
        if lanes is None:
            lanes = self._route(event.name)
        if lanes:
            self._memory.note(event, now)
        for lane in lanes:
            lane.emitted += 1
            self._delay(lane.add(event, now + event.delay, now))
        return Emitted(event.id, len(lanes))

    def _route(self, name: str) -> list[Lane]:
        if len(self._routes) >= _MOST_ROUTES:
            self._routes.clear()
        lanes = self._routes[name] = [lane for lane in self._lanes.values() if glob(lane.spec.pattern)(name)]
        return lanes

    # Receiving

    async def receive(self, capacity: Mapping[str, int], wake: Latch) -> list[Delivery]:
        while True:
            news = Latch()
            with self._lock:
                deliveries = self._hand_out(capacity)
                if deliveries or wake.is_set():
                    return deliveries
                self._waiting.append(news)
                due = self._delayed[0][0] if self._delayed else None
            await self._wait(news, wake, due)

    async def _wait(self, news: Latch, wake: Latch, due: float | None) -> None:
        clock = self.context.clock
        wake.on_set(news.set)
        try:
            await clock.wait(news, None if due is None else due - clock.monotonic())
        finally:
            wake.forget(news.set)
            with self._lock:
                self._waiting = [latch for latch in self._waiting if latch is not news]

    def _hand_out(self, capacity: Mapping[str, int]) -> list[Delivery]:
        self._mature()
        return [
            lane.hand_out(entry, str(next(self._count)))
            for id, most in capacity.items()
            if (lane := self._lanes.get(id)) is not None and not lane.paused
            for entry in lane.take(most)
        ]

    def _mature(self) -> None:
        """Make ready what is due by now."""
        now = self.context.clock.monotonic()
        while self._delayed and self._delayed[0][0] <= now:
            due, _, entry = heapq.heappop(self._delayed)
            if entry.due == due:
                entry.lane.mature(entry)

    # Settling

    async def settle(self, outcomes: Sequence[Outcome]) -> list[bool]:
        with self._lock:
            self._mature()
            now = self.context.clock.monotonic()
            returned: list[Entry] = []
            settled = [self._settle(outcome, now, returned) for outcome in outcomes]
            for entry in reversed(returned):
                entry.lane.give_back(entry)
        self._wake()
        return settled

    def _settle(self, outcome: Outcome, now: float, returned: list[Entry]) -> bool:
        delivery = outcome.delivery
        lane = self._lanes.get(delivery.lane)
        entry = None if lane is None else lane.in_flight.pop(delivery.receipt, None)
        if lane is None:
            return False
        if entry is None:
            lane.fenced += 1
            return False
        match outcome.verdict:
            case "done":
                lane.succeeded += 1
                self._delay(lane.advance(entry, now))
            case "dead":
                self._bury(lane, entry, outcome)
                self._delay(lane.advance(entry, now))
            case "retry":
                lane.retried += 1
                self._note_failure(entry, outcome)
                entry.due = now + outcome.delay
                self._delay(lane.enter(entry, now))
            case "back":
                returned.append(entry)
        return True

    def _note_failure(self, entry: Entry, outcome: Outcome) -> None:
        entry.attempts += outcome.counted
        if outcome.counted and entry.first_at is None:
            entry.first_at = self.context.clock.time()

    def _bury(self, lane: Lane, entry: Entry, outcome: Outcome) -> None:
        if lane.bury(entry, outcome, self.context.clock.time(), self._worker, self.options.max_dead):
            logger.warning(
                "%r has more than %d dead letters, and the oldest is gone; replay them, or remove them by purge_dead",
                lane.spec.id, self.options.max_dead,
            )  # fmt: skip

    # Dead letters

    async def dead(self, where: DeadFilter) -> AsyncGenerator[DeadEvent, None]:
        with self._lock:
            found = [dead for lane in self._lanes.values() for dead, _ in lane.dead.values() if where.admits(dead)]
        for dead in sorted(found, key=_by_death):
            yield dead

    async def replay(self, where: DeadFilter) -> int:
        with self._lock:
            now = self.context.clock.monotonic()
            replayed = [(lane, event) for lane in self._lanes.values() for event in lane.exhume(where)]
            for lane, event in replayed:
                lane.add(event, now, now)
        self._wake()
        return len(replayed)

    async def bury(self, where: DeadFilter) -> int:
        with self._lock:
            return sum(len(lane.exhume(where)) for lane in self._lanes.values())

    # Inside: under the lock, but for `_wake`

    def _named(self, ids: Collection[str]) -> list[Lane]:
        return [lane for id in ids if (lane := self._lanes.get(id)) is not None]

    def _delay(self, entry: Entry | None) -> None:
        if entry is not None:
            heapq.heappush(self._delayed, (entry.due, next(self._count), entry))

    def _wake(self) -> None:
        """Have those who wait for deliveries look again."""
        if self._waiting:
            with self._lock:
                waiting, self._waiting = self._waiting, []
            for latch in waiting:
                latch.set()


def _by_death(dead: DeadEvent) -> float:
    return dead.died_at
