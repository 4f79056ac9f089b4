"""What operators do with lanes and dead letters. Every command of the command line is one of these verbs first."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from pilotis.bridge import blocking, blocking_iterator
from pilotis.durations import seconds
from pilotis.errors import InvalidInputError, NotFoundError
from pilotis.findings import Finding
from pilotis.keys import check_text, glob
from pilotis.modules.base import Portable, operation, operation_iterator
from pilotis.modules.event.checks import check_pattern, texts
from pilotis.modules.event.messages import glimpse, legible
from pilotis.modules.event.model import DeadLetterRecord, Event
from pilotis.modules.event.outlook import Outlook
from pilotis.modules.event.provider import DeadEvent, DeadFilter, EventCapability, EventProvider, LaneInfo
from pilotis.settings.model import EventSettings


class LaneOperations(Portable[EventProvider]):
    """The part of the event bus that looks after lanes."""

    module = "event"
    settings: EventSettings

    @operation
    async def afindings(self) -> list[Finding]:
        """Tell what is wrong with lanes: nobody reads them, they are paused, they lag behind, they have dead letters.

        How long a lag may be is `event.lag` in the settings.
        """
        outlook = Outlook(self.context.clock.time(), self.settings.lag)
        return [
            finding
            for lane in await self.alanes()
            for finding in outlook.findings(
                lane, declared=self._declares(lane.lane), died_at=await self._first_death(lane)
            )
        ]

    findings = blocking(afindings)

    @operation
    async def aunattended(self) -> list[Finding]:
        """Tell which lanes nobody reads, and on which live processes disagree: what a worker looks out for."""
        outlook = Outlook(self.context.clock.time(), self.settings.lag)
        with self.calling("lanes"):
            lanes = await self._provider.unattended()
        return [finding for lane in lanes for finding in outlook.unattended(lane, declared=self._declares(lane.lane))]

    unattended = blocking(aunattended)

    async def _first_death(self, lane: LaneInfo) -> datetime | None:
        if (
            not lane.dead or lane.subscription is None
        ):  # letters are not narrowed to a lane whose subscription has no id
            return None
        letters = self.adead_letters(lane.subscription)
        try:
            first = await anext(letters, None)
        finally:
            await letters.aclose()
        return None if first is None else first.died_at

    @operation
    async def alanes(self) -> list[LaneInfo]:
        """Return how each lane of the service is doing: what waits, what is in flight, what is dead."""
        with self.calling("lanes"):
            return await self._provider.lanes()

    lanes = blocking(alanes)

    @operation
    async def apause(self, id: str) -> None:
        """Have a subscription be given nothing more. Its lane goes on taking events; runs under way go on.

        `id` is the subscription's, or the name of the lane of handlers without one. Raises NotFoundError for an
        unknown one.
        """
        await self._set_paused(id, paused=True)

    pause = blocking(apause)

    @operation
    async def aresume(self, id: str) -> None:
        """Undo `pause`."""
        await self._set_paused(id, paused=False)

    resume = blocking(aresume)

    @operation
    async def apurge(self, id: str) -> int:
        """Drop what waits for a subscription, delayed events and retries too, and return how many.

        What is in flight goes on, and dead letters stay. Raises NotFoundError for an unknown subscription.
        """
        found = await self._lanes_of(id)
        with self.calling("purge"):
            purged = await self._provider.purge(found)
        self._changed()
        return purged

    purge = blocking(apurge)

    @operation_iterator
    async def adead_letters(
        self,
        subscription: str | None = None,
        name: str | None = None,
        since: datetime | float | None = None,
        ids: Collection[str] | str | None = None,
    ) -> AsyncGenerator[DeadLetterRecord, None]:
        """List the deliveries that were given up, the oldest first.

        Narrowed to those of a subscription's id, of an event's name, of those that died since a time (a datetime
        with a time zone, or seconds since 1970), and of the ids of events.
        """
        where = DeadFilter(
            subscription=_text(subscription, "subscription"),
            name=_text(name, "name"),
            ids=None if ids is None else texts(ids, "ids"),
            since=_timestamp(since),
        )
        with self.calling("dead"):
            async for dead in self._provider.dead(where):
                yield _record(dead)

    dead_letters = blocking_iterator(adead_letters)

    @operation
    async def areplay(self, ids: Collection[str] | str | None = None, subscription: str | None = None) -> int:
        """Hand dead letters to their subscriptions once more, with all their attempts, and return how many.

        `ids` are those of events; None means all. A letter that is no longer dead is not counted, so that repeating
        a replay is safe.
        """
        with self.calling("replay"):
            replayed = await self._provider.replay(
                DeadFilter(
                    ids=None if ids is None else texts(ids, "ids"), subscription=_text(subscription, "subscription")
                )
            )
        await self._arrived()
        return replayed

    replay = blocking(areplay)

    @operation
    async def apurge_dead(self, subscription: str | None = None, *, older_than: float | timedelta = 0) -> int:
        """Remove dead letters that died at least `older_than` seconds ago, and return how many: all of them for 0."""
        age = seconds(older_than, "older_than")
        before = self.context.clock.time() - age if age else None  # the backend's clock may be ahead of ours
        with self.calling("bury"):
            return await self._provider.bury(
                DeadFilter(subscription=_text(subscription, "subscription"), before=before)
            )

    purge_dead = blocking(apurge_dead)

    @operation_iterator
    async def atail(self, pattern: str = "*") -> AsyncGenerator[Event[Any], None]:
        """Look on: yield the events of a name or pattern as they are emitted, from the first step on.

        For people: whoever is slow misses some, the oldest first. Closing the iterator, or dropping it, ends it.
        `attempt` is 0: nothing is handled by it. Raises UnsupportedError where the provider cannot tell.
        """
        self.require(EventCapability.TAIL)
        wanted = glob(check_pattern(pattern))
        source = self._provider.tail()
        try:
            with self.calling("tail"):
                async for event in source:
                    if wanted(event.name):
                        yield glimpse(event, self.context.clock.time())
        finally:
            await source.aclose()

    tail = blocking_iterator(atail)

    async def _set_paused(self, id: str, *, paused: bool) -> None:
        found = await self._lanes_of(id)
        with self.calling("pause"):
            await self._provider.pause(found, paused=paused)
        self._changed()

    async def _lanes_of(self, id: str) -> list[str]:
        check_text(id, "id")
        await self._declare_lanes()
        infos = await self.alanes()
        found = [info.lane for info in infos if id in (info.subscription, info.lane)]
        if not found:
            known = ", ".join(sorted(info.subscription or info.lane for info in infos)) or "none"
            raise NotFoundError(f"there is no subscription {id!r}; there are: {known}", module="event")
        return found

    # What the bus does about it

    def _declares(self, lane: str) -> bool:
        """Tell whether this program subscribes to a lane."""
        raise NotImplementedError

    async def _declare_lanes(self) -> None:
        """Make the lanes of what was subscribed since the last time."""
        raise NotImplementedError

    async def _arrived(self) -> None:
        """Act on events that have come into lanes."""
        raise NotImplementedError

    def _changed(self) -> None:
        """Act on a lane that is not what it was."""
        raise NotImplementedError


def _text(value: str | None, at: str) -> str | None:
    return None if value is None else check_text(value, at)


def _timestamp(since: datetime | float | None) -> float | None:
    if since is None:
        return None
    if not isinstance(since, datetime):
        return seconds(since, "since")
    if since.tzinfo is None:
        raise InvalidInputError("since: expected a datetime with a time zone, such as datetime.now(UTC)")
    return since.timestamp()


def _record(dead: DeadEvent) -> DeadLetterRecord:
    body = legible(dead.body, dead.first_at)
    return DeadLetterRecord(
        id=dead.id,
        name=dead.name,
        data=body.data,
        metadata=body.metadata,
        emitted_at=datetime.fromtimestamp(body.at, UTC),
        subscription=dead.lane.subscription,
        pattern=dead.lane.pattern,
        cause=dead.cause,
        error=dead.error,
        traceback=dead.traceback,
        attempts=dead.attempts,
        crashes=dead.crashes,
        worker=dead.worker,
        first_at=datetime.fromtimestamp(dead.first_at, UTC),
        died_at=datetime.fromtimestamp(dead.died_at, UTC),
    )
