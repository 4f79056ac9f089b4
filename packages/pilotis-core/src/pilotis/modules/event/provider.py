"""What stands behind the event bus: lanes, the queues of its subscriptions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from enum import Flag, auto
from typing import ClassVar, Literal

import msgspec

from pilotis.bridge import Latch
from pilotis.errors import UnsupportedError
from pilotis.modules.event.checks import Priority
from pilotis.modules.event.model import DeathCause
from pilotis.provider import Provider

ID_TTL = 86_400.0
"""How long, in seconds, the id of an event is remembered."""


class EventCapability(Flag):
    """What an event provider may guarantee beyond delivering at least once."""

    NONE = 0
    DELAY = auto()
    """Events can be emitted with a delay."""
    PRIORITY = auto()
    """Events that wait are handed out by priority."""
    ORDER = auto()
    """Events of one key are handed out one after the other."""
    DEDUPE = auto()
    """An event whose id or `dedupe` is remembered is dropped."""
    GROUPS = auto()
    """Events can be staged, and released together."""
    DURABLE = auto()
    """Lanes outlive the process, and are shared by the processes of a service."""
    TAIL = auto()
    """Events can be looked at while they are emitted."""


class EventLane(msgspec.Struct, frozen=True):
    """The queue of one subscription."""

    id: str
    """Its name: the pattern, a space and the subscription's id; the pattern alone where there is no id."""
    pattern: str
    """The events it is for; `*` stands for any run of characters."""
    subscription: str | None = None
    max_crashes: int = 3
    """How many workers may die of a delivery before it is a dead letter."""
    handlers: tuple[str, ...] = ()
    """The names of its handlers, sorted: processes that name others disagree on what the lane is for."""


class OutgoingEvent(msgspec.Struct):
    """An event on its way to the provider. A stage may give it another id before it is sent."""

    id: str
    name: str
    body: bytes
    """Data, metadata and options, opaque to the provider."""
    delay: float = 0.0
    """Seconds before it may be handed out, counted from `emit` or `release`."""
    priority: Priority = "normal"
    key: str | None = None
    dedupe: str | None = None
    dedupe_ttl: float = 0.0
    generated: bool = False
    """Whether nobody but this process knows the id. It can then come again only by a repetition of this very call,
    and a provider to whom memory is dear may remember it for minutes. Whoever gives another id sets this to False."""


class Emitted(msgspec.Struct, frozen=True):
    """What became of an event that was emitted."""

    id: str
    """Its id, or that of the event that it repeats."""
    lanes: int
    """How many lanes took it. Zero for a repetition, and for an event that nobody subscribes to."""
    repeated: bool = False


class Delivery(msgspec.Struct, frozen=True):
    """An event handed out to one lane's reader, who settles it."""

    lane: str
    receipt: str
    """Names this delivery among all, also among those of the same event."""
    id: str
    name: str
    body: bytes
    attempt: int
    """Which run this will be: one more than the runs that counted so far."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a delivery ended."""

    delivery: Delivery
    verdict: Literal["done", "retry", "dead", "back"]
    """Handled; to be tried again; given up; not begun, or broken off through no fault of its own."""
    delay: float = 0.0
    """Of "retry": the seconds to wait."""
    counted: bool = True
    """Of "retry": whether the run counts as an attempt."""
    cause: DeathCause = "failed"
    """Of "dead"."""
    error: str = ""
    """Of "retry" and "dead": the type and message of the error."""
    traceback: str = ""
    """Of "dead"."""


class DeadEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter as the provider keeps it."""

    lane: EventLane
    id: str
    name: str
    body: bytes
    cause: DeathCause
    error: str
    traceback: str
    attempts: int
    """How often the handlers ran."""
    crashes: int = 0
    """How many workers died of it."""
    worker: str = ""
    """Who had it last, by host and process."""
    first_at: float
    """When it failed first, or a worker died of it first; when it died, if that was the first. Seconds since 1970."""
    died_at: float
    """Seconds since 1970."""


class DeadFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters are meant. None means all."""

    subscription: str | None = None
    name: str | None = None
    ids: frozenset[str] | None = None
    since: float | None = None
    """Died at this time or later; seconds since 1970."""
    before: float | None = None
    """Died at this time or earlier."""

    def admits(self, dead: DeadEvent) -> bool:
        """Tell whether a dead letter is meant."""
        return (
            (self.subscription is None or dead.lane.subscription == self.subscription)
            and (self.name is None or dead.name == self.name)
            and (self.ids is None or dead.id in self.ids)
            and (self.since is None or dead.died_at >= self.since)
            and (self.before is None or dead.died_at <= self.before)
        )


class LaneInfo(msgspec.Struct, frozen=True, kw_only=True):
    """How a lane is doing."""

    lane: str
    pattern: str
    subscription: str | None
    paused: bool
    queued: int
    """Events that wait for a reader."""
    oldest: float | None = None
    """For how many seconds the first of those has been due: the lag. None where nothing waits."""
    held: int
    """Events that wait behind another one of their key."""
    delayed: int
    """Events whose time has not come: delayed ones and retries."""
    next_due: float | None
    """Seconds until the first of the delayed ones is due; None where there is none."""
    in_flight: int
    """Deliveries handed out and not settled."""
    dead: int
    """Dead letters."""
    emitted: int
    """Events that the lane took since it was declared."""
    delivered: int = 0
    """Deliveries handed out, each attempt anew, and those that were given back too: it never falls."""
    succeeded: int
    retried: int
    died: int
    fenced: int = 0
    """Deliveries that were settled by a reader whose they no longer were, in vain."""
    readers: int | None = None
    """Live processes that read the lane; None where the backend cannot tell."""
    unit_disagrees: bool = False
    """Whether live processes name different handlers for it."""


class EventProvider(Provider):
    """Lanes: each subscription has a queue of its own, with its delayed entries and its dead letters.

    Every verb is one atomic operation, may be called concurrently from many threads and loops, and takes
    milliseconds, except `receive`, which waits. Verbs on lanes that do not exist do nothing. Only `declare`,
    `forget`, `pause`, `purge` and `clear` are idempotent as they stand; `emit` is by the ids of its events. The
    portable class repeats what may be repeated, and runs no handler twice side by side for one delivery.
    Events are kept as bytes and never interpreted.
    """

    capabilities: ClassVar[EventCapability]  # pyright: ignore[reportIncompatibleVariableOverride]

    @abstractmethod
    async def declare(self, lanes: Sequence[EventLane]) -> list[EventLane | None]:
        """Make the lanes, or note what changed about them. Events emitted from now on reach them.

        Answers with what was known of each until now, None for a new one, in the order of the lanes.
        """

    @abstractmethod
    async def forget(self, lanes: Collection[str]) -> None:
        """Remove lanes with everything in them, dead letters too. Deliveries under way are refused when settled."""

    @abstractmethod
    async def emit(self, events: Sequence[OutgoingEvent]) -> list[Emitted]:
        """Put each event into every lane whose pattern matches its name. All are kept, or none.

        The emitter need not know who subscribes. An event that no lane takes is kept nowhere, and not
        remembered either. With DEDUPE, an event whose id was taken in the last `ID_TTL` seconds, or whose `name`
        and `dedupe` were in the last `dedupe_ttl` seconds of the one that was kept, is dropped: the answer names
        the kept one. Events of one call that repeat one another count too. Answers stand in the order of the events.
        """

    @abstractmethod
    async def receive(self, capacity: Mapping[str, int], wake: Latch) -> list[Delivery]:
        """Hand out what the lanes have, at most `capacity` of each; wait by push while they have nothing.

        Returns at once, if need be with nothing, when `wake` is set. A delivery stays with its reader until it
        settles it, or until the reader's process is known to be dead; then it is handed out again. Within a lane,
        in order of due time, and with PRIORITY high before normal before low. With ORDER, an event whose key has an
        earlier one in the same lane that is not done or dead waits, also while that one is delayed. Paused lanes
        hand out nothing. Being cancelled loses nothing.
        """

    @abstractmethod
    async def settle(self, outcomes: Sequence[Outcome]) -> list[bool]:
        """End deliveries: remove, hand out again after a delay, make a dead letter, or give back unharmed.

        The time of a retry is taken from the backend's clock. Deliveries given back are handed out again before
        what waits, in their order, with the same attempts. False for a delivery that was no longer the reader's:
        nothing happens then.
        """

    @abstractmethod
    def dead(self, where: DeadFilter) -> AsyncIterator[DeadEvent]:
        """List dead letters, the oldest first. What dies or is replayed meanwhile may or may not be among them."""

    @abstractmethod
    async def replay(self, where: DeadFilter) -> int:
        """Put dead letters back into their lanes, with all their attempts, and return how many.

        A letter is put back once, however many ask at the same time. Deduplication does not apply.
        """

    @abstractmethod
    async def bury(self, where: DeadFilter) -> int:
        """Remove dead letters, and return how many."""

    @abstractmethod
    async def purge(self, lanes: Collection[str]) -> int:
        """Remove what waits in lanes, delayed or not, and return how many. What is in flight, or dead, stays."""

    @abstractmethod
    async def pause(self, lanes: Collection[str], *, paused: bool) -> None:
        """Have lanes hand out nothing, or hand out again. They go on taking events."""

    @abstractmethod
    async def lanes(self) -> list[LaneInfo]:
        """Tell how each lane is doing, in the order of their ids."""

    async def unattended(self) -> list[LaneInfo]:
        """Tell how those lanes are doing that no live process reads, or for which live processes name other handlers.

        Workers ask again and again: a backend that has many lanes better answers it without looking at all of them.
        """
        return [lane for lane in await self.lanes() if lane.readers == 0 or lane.unit_disagrees]

    @abstractmethod
    async def stage(self, groups: Mapping[str, Sequence[OutgoingEvent]]) -> None:
        """With GROUPS: keep events back, in order, until their group is released or cleared, or its process is dead.

        Those of all groups are kept, or none.
        """

    @abstractmethod
    async def release(self, group: str) -> list[Emitted]:
        """With GROUPS: emit what was staged, all or nothing, and forget the group. An unknown group is empty."""

    @abstractmethod
    async def clear(self, group: str, names: Collection[str] | None) -> int:
        """With GROUPS: drop what was staged, or only events of these names, and return how many."""

    def tail(self) -> AsyncGenerator[OutgoingEvent, None]:
        """With TAIL: tell of each event that is emitted from now on, by whatever process of whatever service.

        For people who look on: events that come faster than they are taken are left out, the oldest first, and
        nothing waits for it. Events that nobody subscribes to are told of too, repetitions are not. Goes on until
        it is closed. `Audience` does all of that within a process.
        """
        raise UnsupportedError("tail", self.name)
