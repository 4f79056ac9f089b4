"""Local providers that each break one obligation: the suite must catch every one of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence

import msgspec
from pilotis.providers import (
    DeadEvent,
    DeadFilter,
    Delivery,
    Emitted,
    EventLane,
    LaneInfo,
    Latch,
    Outcome,
    OutgoingEvent,
)
from pilotis_event_local import LocalEvents
from pilotis_event_local.lanes import Entry, Lane


class ForgetsDelay(LocalEvents):
    """Hands out delayed events at once."""

    async def emit(self, events: Sequence[OutgoingEvent]) -> list[Emitted]:
        return await super().emit([msgspec.structs.replace(event, delay=0.0) for event in events])


class ForgetsPriority(LocalEvents):
    """Hands out in the order of emission."""

    async def emit(self, events: Sequence[OutgoingEvent]) -> list[Emitted]:
        return await super().emit([msgspec.structs.replace(event, priority="normal") for event in events])


class ForgetsKeys(LocalEvents):
    """Hands out events of one key side by side."""

    async def emit(self, events: Sequence[OutgoingEvent]) -> list[Emitted]:
        return await super().emit([msgspec.structs.replace(event, key=None) for event in events])


class ForgetsIds(LocalEvents):
    """Takes an id as often as it comes."""

    async def emit(self, events: Sequence[OutgoingEvent]) -> list[Emitted]:
        self._memory._ids.clear()  # pyright: ignore[reportPrivateUsage]
        return await super().emit(events)


class RemembersIdsForEver(LocalEvents):
    """Drops an id after the day is over."""

    async def emit(self, events: Sequence[OutgoingEvent]) -> list[Emitted]:
        for id in self._memory._ids:  # pyright: ignore[reportPrivateUsage]
            self._memory._ids[id] = float("inf")  # pyright: ignore[reportPrivateUsage]
        return await super().emit(events)


class SettlesTwice(LocalEvents):
    """Says yes to whoever settles."""

    async def settle(self, outcomes: Sequence[Outcome]) -> list[bool]:
        await super().settle(outcomes)
        return [True] * len(outcomes)


class LosesWhatIsGivenBack(LocalEvents):
    """Takes a delivery that is given back for a handled one."""

    async def settle(self, outcomes: Sequence[Outcome]) -> list[bool]:
        return await super().settle(
            [
                msgspec.structs.replace(outcome, verdict="done") if outcome.verdict == "back" else outcome
                for outcome in outcomes
            ]
        )


class CountsEveryRetry(LocalEvents):
    """Counts an attempt that should not count."""

    async def settle(self, outcomes: Sequence[Outcome]) -> list[bool]:
        return await super().settle([msgspec.structs.replace(outcome, counted=True) for outcome in outcomes])


class IgnoresCapacity(LocalEvents):
    """Hands out more than it was asked for."""

    async def receive(self, capacity: Mapping[str, int], wake: Latch) -> list[Delivery]:
        return await super().receive({lane: most + 1 for lane, most in capacity.items()}, wake)


class IgnoresPauses(LocalEvents):
    """Hands out what is in paused lanes."""

    async def pause(self, lanes: Collection[str], *, paused: bool) -> None:
        return


class ReplaysForEver(LocalEvents):
    """Keeps a dead letter that was put back."""

    async def replay(self, where: DeadFilter) -> int:
        kept = {id: dict(lane.dead) for id, lane in self._lanes.items()}
        replayed = await super().replay(where)
        for id, lane in self._lanes.items():
            lane.dead = kept[id]
        return replayed


class ReleasesTwice(LocalEvents):
    """Keeps a group that was released."""

    async def release(self, group: str) -> list[Emitted]:
        staged = list(self._staged.get(group, []))
        emitted = await super().release(group)
        self._staged[group] = staged
        return emitted


class ClearsWholeGroups(LocalEvents):
    """Drops events of every name."""

    async def clear(self, group: str, names: Collection[str] | None) -> int:
        return await super().clear(group, None)


class PurgesWhatIsReady(LocalEvents):
    """Leaves delayed events where they are."""

    async def purge(self, lanes: Collection[str]) -> int:
        kept = {id: set(lane.delayed) for id, lane in self._lanes.items()}
        purged = await super().purge(lanes)
        for id, lane in self._lanes.items():
            lane.delayed = kept[id]
        return purged


class ForgetsOnDeclaring(LocalEvents):
    """Empties a lane that is declared again."""

    async def declare(self, lanes: Sequence[EventLane]) -> list[EventLane | None]:
        await self.forget([lane.id for lane in lanes])
        return await super().declare(lanes)


class RoutesStalely(LocalEvents):
    """Does not notice lanes that are declared after a name was emitted."""

    async def declare(self, lanes: Sequence[EventLane]) -> list[EventLane | None]:
        routes = self._routes
        before = await super().declare(lanes)
        self._routes = routes
        return before


class SleepsOn(LocalEvents):
    """Does not wake a reader when an event comes."""

    def _wake(self) -> None:
        return


class CountsNothing(LocalEvents):
    """Has no idea how its lanes are doing."""

    async def lanes(self) -> list[LaneInfo]:
        return [msgspec.structs.replace(info, emitted=0) for info in await super().lanes()]


class DeclaresWithoutAnswer(LocalEvents):
    """Says that every lane is new."""

    async def declare(self, lanes: Sequence[EventLane]) -> list[EventLane | None]:
        await super().declare(lanes)
        return [None for _ in lanes]


class ForgetsNothing(LocalEvents):
    """Keeps a lane that is to be removed."""

    async def forget(self, lanes: Collection[str]) -> None:
        return


class KnowsNoLag(LocalEvents):
    """Takes what waits for new."""

    async def lanes(self) -> list[LaneInfo]:
        return [msgspec.structs.replace(info, oldest=0.0) for info in await super().lanes()]


class CountsNoDeliveries(LocalEvents):
    """Counts an event that is handed out twice once."""

    async def lanes(self) -> list[LaneInfo]:
        return [msgspec.structs.replace(info, delivered=min(info.delivered, 1)) for info in await super().lanes()]


class TailsNothing(LocalEvents):
    """Has nothing to look at."""

    async def tail(self) -> AsyncGenerator[OutgoingEvent, None]:
        for event in ():
            yield event


class KnowsNoBeginnings(LocalEvents):
    """Says that what died had never failed before."""

    async def dead(self, where: DeadFilter) -> AsyncGenerator[DeadEvent, None]:
        async for dead in super().dead(where):
            yield msgspec.structs.replace(dead, first_at=dead.died_at)


class BlamesWhatIsPutOff(LocalEvents):
    """Takes what is put off for a failure."""

    def _note_failure(self, entry: Entry, outcome: Outcome) -> None:
        super()._note_failure(entry, msgspec.structs.replace(outcome, counted=True))
        entry.attempts -= not outcome.counted


class KeepsAttempts(LocalEvents):
    """Puts a dead letter back with one attempt used up."""

    async def receive(self, capacity: Mapping[str, int], wake: Latch) -> list[Delivery]:
        deliveries = await super().receive(capacity, wake)
        died = {info.lane: info.died for info in await self.lanes()}
        return [msgspec.structs.replace(it, attempt=it.attempt + died[it.lane]) for it in deliveries]


class RoundsDelays(LocalEvents):
    """Waits for whole seconds."""

    async def settle(self, outcomes: Sequence[Outcome]) -> list[bool]:
        return await super().settle([msgspec.structs.replace(it, delay=float(int(it.delay))) for it in outcomes])


class HurriesRetries(LocalEvents):
    """Waits half as long as it should."""

    async def settle(self, outcomes: Sequence[Outcome]) -> list[bool]:
        return await super().settle([msgspec.structs.replace(it, delay=it.delay / 2) for it in outcomes])


class LetsRetriesBeOvertaken(LocalEvents):
    """Hands out the next of a key while the first waits for its next attempt."""

    def _note_failure(self, entry: Entry, outcome: Outcome) -> None:
        super()._note_failure(entry, outcome)
        self._delay(entry.lane.advance(entry, self.context.clock.monotonic()))


class TakesInTwice(LocalEvents):
    """Puts an event into its lanes twice."""

    def _route(self, name: str) -> list[Lane]:
        return [*super()._route(name)] * 2


class GuessesReaders(LocalEvents):
    """Says how many processes read, and cannot know."""

    async def lanes(self) -> list[LaneInfo]:
        return [msgspec.structs.replace(info, readers=1) for info in await super().lanes()]
