"""Local providers that each break one obligation: the suite must catch every one of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec
from pilotis.providers import DeadFilter, Delivery, Emitted, EventLane, LaneInfo, Latch, Outcome, OutgoingEvent
from pilotis_event_local import LocalEvents


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
