"""Events in Redis: a thin layer over lanes."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

from pilotis.durations import seconds
from pilotis.errors import InvalidInputError
from pilotis.providers import (
    ID_TTL,
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
)
from pilotis_redis import RedisBacked, RedisOptions
from pilotis_redis.lanes import (
    Ending,
    Lanes,
    LaneSpec,
    LaneState,
    Letter,
    Meant,
    Push,
    Pushed,
    Registry,
    Taken,
    Worker,
)

_PRIORITIES: dict[str, Any] = {"high": "h", "normal": "n", "low": "l"}
_SPELLED: dict[str, Any] = {letter: priority for priority, letter in _PRIORITIES.items()}


class RedisEventsOptions(RedisOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the Redis event provider. Durations are seconds."""

    bus: str = "pilotis:events"
    """What all keys begin with, in braces. Services hear one another's events on the same bus alone."""
    remember_generated: float = 600
    """How long the id of an event is remembered that was emitted without one. Such an id comes again only where an
    emit whose answer was lost is repeated. Ids that were given are remembered for a day."""
    liveness: float = 15
    """How long a process that reads is taken for alive after a sign of life. Then others take over what it had."""
    stall: float = 60
    """How long an event loop of handlers may stand still before its process gives no sign of life any more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if re.fullmatch(r"[^{}\s]{1,200}", self.bus) is None:
            raise InvalidInputError(
                f"bus: expected 1 to 200 characters without spaces and braces, such as 'shop:events', got {self.bus!r}"
            )
        for name, least in (("remember_generated", 0), ("liveness", 0.5), ("stall", 0.1)):
            seconds(getattr(self, name), name, minimum=least)


class RedisEvents(RedisBacked, EventProvider):
    """Events for all services that reach one Redis, or one cluster of them."""

    Options = RedisEventsOptions
    capabilities = (
        EventCapability.DELAY
        | EventCapability.PRIORITY
        | EventCapability.ORDER
        | EventCapability.DEDUPE
        | EventCapability.GROUPS
        | EventCapability.DURABLE
        | EventCapability.TAIL
    )

    async def close(self) -> None:
        try:
            await self._worker.stop()
            await self._lanes.close()
        finally:
            await super().close()

    @cached_property
    def _lanes(self) -> Lanes:
        """Made when it is first needed: only then is the link that which counts, and the context that of the app."""
        return Lanes(self.link, self.options.bus, runtime=lambda: self.context.runtime)

    @cached_property
    def _worker(self) -> Worker:
        options = self.options
        return Worker(
            self.link,
            self._lanes.keys,
            self.context,
            restore=self._lanes.restore,
            liveness=options.liveness,
            stall=options.stall,
        )

    # Lanes

    async def declare(self, lanes: Sequence[EventLane]) -> list[EventLane | None]:
        for lane in lanes:
            self._worker.know(self._prefix + lane.id, lane.handlers, max_crashes=lane.max_crashes)
        before = await self._lanes.declare([self._spec(lane) for lane in lanes])
        return [None if spec is None else _lane(spec) for spec in before]

    async def forget(self, lanes: Collection[str]) -> None:
        await self._lanes.forget(self._named(lanes))

    async def pause(self, lanes: Collection[str], *, paused: bool) -> None:
        await self._lanes.pause(self._named(lanes), paused=paused)

    async def purge(self, lanes: Collection[str]) -> int:
        return await self._lanes.purge(self._named(lanes))

    async def lanes(self) -> list[LaneInfo]:
        return await self._infos(self._own(await self._lanes.fresh_registry()))

    async def unattended(self) -> list[LaneInfo]:
        own = self._own(await self._lanes.fresh_registry())
        meant = set(await self._lanes.unattended([spec.name for spec in own]))
        return await self._infos([spec for spec in own if spec.name in meant])

    async def _infos(self, specs: Sequence[LaneSpec]) -> list[LaneInfo]:
        states = await self._lanes.states([spec.name for spec in specs])
        return [_info(_lane(spec), state) for spec, state in zip(specs, states, strict=True)]

    # Emitting

    async def emit(self, events: Sequence[OutgoingEvent]) -> list[Emitted]:
        return [_emitted(pushed) for pushed in await self._lanes.emit([self._push(event) for event in events])]

    async def stage(self, groups: Mapping[str, Sequence[OutgoingEvent]]) -> None:
        await self._lanes.stage({group: [self._push(event) for event in events] for group, events in groups.items()})

    async def release(self, group: str) -> list[Emitted]:
        return [_emitted(pushed) for pushed in await self._lanes.release(group)]

    async def clear(self, group: str, names: Collection[str] | None) -> int:
        return await self._lanes.clear(group, names)

    async def tail(self) -> AsyncGenerator[OutgoingEvent, None]:
        source = self._lanes.tail()
        try:
            async for push in source:
                yield _outgoing(push)
        finally:
            await source.aclose()

    # Receiving

    async def receive(self, capacity: Mapping[str, int], wake: Latch) -> list[Delivery]:
        prefix = self._prefix
        taken = await self._worker.receive({prefix + lane: most for lane, most in capacity.items()}, wake)
        return [_delivery(it, it.lane.removeprefix(prefix)) for it in taken]

    async def settle(self, outcomes: Sequence[Outcome]) -> list[bool]:
        return await self._worker.settle([_ending(outcome) for outcome in outcomes])

    # Dead letters

    async def dead(self, where: DeadFilter) -> AsyncGenerator[DeadEvent, None]:
        registry = await self._lanes.fresh_registry()
        source = self._lanes.letters(self._meant(where, registry))
        try:
            async for letter in source:
                yield _dead(_lane(registry.lanes[letter.lane]), letter)
        finally:
            await source.aclose()

    async def replay(self, where: DeadFilter) -> int:
        return await self._lanes.replay(self._meant(where, await self._lanes.fresh_registry()))

    async def bury(self, where: DeadFilter) -> int:
        return await self._lanes.bury(self._meant(where, await self._lanes.fresh_registry()))

    # Between events and lanes

    @property
    def _prefix(self) -> str:
        """What the lanes of this service begin with: the first slash ends it, whatever is in names."""
        return f"{self.context.name.replace('%', '%25').replace('/', '%2F')}/"

    def _named(self, lanes: Collection[str]) -> list[str]:
        return [self._prefix + lane for lane in lanes]

    def _own(self, registry: Registry) -> list[LaneSpec]:
        """Return the lanes of this service, in the order of their ids."""
        return [spec for name, spec in registry.lanes.items() if name.startswith(self._prefix)]

    def _spec(self, lane: EventLane) -> LaneSpec:
        about = {"id": lane.id, "subscription": lane.subscription, "handlers": lane.handlers}
        return LaneSpec(self._prefix + lane.id, lane.pattern, lane.max_crashes, about)

    def _push(self, event: OutgoingEvent) -> Push:
        return Push(
            event.id,
            event.name,
            event.body,
            event.delay,
            _PRIORITIES[event.priority],
            event.key,
            event.dedupe,
            event.dedupe_ttl,
            self.options.remember_generated if event.generated else ID_TTL,
        )

    def _meant(self, where: DeadFilter, registry: Registry) -> Meant:
        return Meant(
            lanes=[
                spec.name
                for spec in self._own(registry)
                if where.subscription is None or spec.about["subscription"] == where.subscription
            ],
            name=where.name,
            ids=where.ids,
            since=None if where.since is None else round(where.since * 1000),
            before=None if where.before is None else round(where.before * 1000),
        )


class _Handed(Delivery, frozen=True):
    """A delivery that knows what it was made of."""

    taken: Taken


def _delivery(taken: Taken, lane: str) -> Delivery:
    head = taken.head
    receipt = f"{taken.worker} {taken.lane} {taken.stream} {taken.entry}"
    return _Handed(lane, receipt, head.id, head.name, taken.body, head.attempts + 1, taken)


def _ending(outcome: Outcome) -> Ending:
    delivery = outcome.delivery
    assert isinstance(delivery, _Handed), "only what was received is settled"
    return Ending(
        delivery.taken,
        outcome.verdict,
        outcome.delay,
        outcome.counted,
        outcome.cause,
        _printable(outcome.error),
        _printable(outcome.traceback),
    )


def _printable(text: str) -> str:
    """Return a text with what no encoding has replaced: whoever raised the error may have put anything into it."""
    return text.encode(errors="replace").decode()


def _lane(spec: LaneSpec) -> EventLane:
    about = spec.about
    return EventLane(about["id"], spec.pattern, about["subscription"], spec.max_crashes, tuple(about["handlers"]))


def _emitted(pushed: Pushed) -> Emitted:
    return Emitted(pushed.id, pushed.lanes, pushed.repeated)


def _outgoing(push: Push) -> OutgoingEvent:
    return OutgoingEvent(push.id, push.name, push.body, push.delay, _SPELLED[push.priority], push.key)


def _dead(lane: EventLane, letter: Letter) -> DeadEvent:
    head = letter.head
    cause: Any = letter.cause
    return DeadEvent(
        lane=lane,
        id=head.id,
        name=head.name,
        body=letter.body,
        cause=cause,
        error=letter.error,
        traceback=letter.traceback,
        attempts=head.attempts + (cause != "crashed"),
        crashes=head.crashes,
        worker=letter.worker,
        first_at=(head.first or letter.died) / 1000,
        died_at=letter.died / 1000,
    )


def _info(lane: EventLane, state: LaneState) -> LaneInfo:
    counters = state.counters
    return LaneInfo(
        lane=lane.id,
        pattern=lane.pattern,
        subscription=lane.subscription,
        paused=state.paused,
        queued=state.queued,
        oldest=state.oldest,
        held=state.held,
        delayed=state.delayed,
        next_due=state.next_due,
        in_flight=state.in_flight,
        dead=state.dead,
        emitted=counters.get("emitted", 0),
        delivered=counters.get("delivered", 0) + state.in_flight,
        succeeded=counters.get("succeeded", 0),
        retried=counters.get("retried", 0),
        died=counters.get("died", 0),
        fenced=counters.get("fenced", 0),
        readers=state.readers,
        unit_disagrees=state.disagrees,
    )
