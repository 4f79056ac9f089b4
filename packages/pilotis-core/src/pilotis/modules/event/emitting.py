"""The part of the event bus that emits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from weakref import WeakValueDictionary

from msgspec.structs import replace

from pilotis.backoff import Backoff
from pilotis.bridge import blocking
from pilotis.context import Context
from pilotis.errors import InvalidInputError, NotFoundError, UsageError
from pilotis.ids import new_id
from pilotis.keys import check_text
from pilotis.modules.base import diverted, operation
from pilotis.modules.event.checks import Priority, texts
from pilotis.modules.event.declaring import Interceptor
from pilotis.modules.event.groups import Group
from pilotis.modules.event.messages import pack
from pilotis.modules.event.model import Message
from pilotis.modules.event.outlet import Outbox
from pilotis.modules.event.provider import Emitted, EventCapability, EventProvider, OutgoingEvent
from pilotis.modules.event.relaying import Relaying
from pilotis.scopes import stage, transaction
from pilotis.settings.model import EventSettings
from pilotis.telemetry import Tracing

_NEEDED = (
    ("key", EventCapability.ORDER),
    ("delay", EventCapability.DELAY),
    ("priority", EventCapability.PRIORITY),
    ("dedupe", EventCapability.DEDUPE),
    ("group", EventCapability.GROUPS),
)
_NO_DEFAULTS = Message("defaults")


class Emitting(Relaying):
    """Emits events: at once, with a group, or with whatever surrounds the caller."""

    def __init__(
        self, provider: EventProvider, settings: EventSettings, context: Context | None, outbox: Outbox | None
    ) -> None:
        super().__init__(provider, settings, context, outbox)
        self.groups: WeakValueDictionary[str, Group] = WeakValueDictionary()
        """The groups whose blocks have not ended."""
        self._interceptors: list[Interceptor] = []
        self._lacking = [(option, it) for option, it in _NEEDED if it not in provider.capabilities]

    @operation
    async def aemit(
        self,
        name: str,
        data: Any = None,
        *,
        id: str | None = None,
        attempts: int | None = None,
        delay: float | timedelta | None = None,
        backoff: Backoff | float | timedelta | None = None,
        group: str | None = None,
        priority: Priority | None = None,
        key: str | None = None,
        dedupe: str | None = None,
        dedupe_ttl: float | timedelta | None = None,
        metadata: Mapping[str, Any] | None = None,
        now: bool = False,
    ) -> str:
        """Emit an event and return its id; of one that repeats another, the id of the other.

        The options are those of `Message`. Inside `group()`, a transaction or a workflow the event waits for the
        end of it, unless `now` is true. Raises InvalidInputError for a name, data or option that cannot be used, and,
        where `unrouted = "error"`, NotFoundError when nobody subscribes; the others of a list are on their way then.
        """
        message = Message(
            name, data, id, attempts, delay, backoff, group, priority, key, dedupe, dedupe_ttl, metadata
        )  # fmt: skip
        return (await self._emit([message], now=now))[0]

    emit = blocking(aemit)

    @operation
    async def aemit_many(
        self,
        messages: Iterable[Message],
        *,
        attempts: int | None = None,
        delay: float | timedelta | None = None,
        backoff: Backoff | float | timedelta | None = None,
        group: str | None = None,
        priority: Priority | None = None,
        dedupe_ttl: float | timedelta | None = None,
        metadata: Mapping[str, Any] | None = None,
        now: bool = False,
    ) -> list[str]:
        """Emit events, all or none, and return their ids in order. The options hold for messages without their own.

        Of a list in which some have a `group`, those are kept back first, all or none, and stay with their groups
        where the others then cannot be sent.
        """
        defaults = Message(
            "defaults", attempts=attempts, delay=delay, backoff=backoff, group=group,
            priority=priority, dedupe_ttl=dedupe_ttl, metadata=metadata,
        )  # fmt: skip
        if not isinstance(messages, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - callers may be untyped
            raise InvalidInputError(f"messages: expected several, such as a list, got {type(messages).__name__}")
        messages = list(messages)
        for index, message in enumerate(messages):
            if not isinstance(message, Message):  # pyright: ignore[reportUnnecessaryIsInstance] - callers may be untyped
                raise InvalidInputError(f"messages[{index}]: expected a Message, got {type(message).__name__}")
        if defaults != _NO_DEFAULTS:
            messages = [message.over(defaults) for message in messages]
        return await self._emit(messages, now=now)

    emit_many = blocking(aemit_many)

    @operation
    async def asend(self, events: Sequence[OutgoingEvent]) -> list[Emitted]:
        """Send events that a stage kept back, all or none. Sending them again with the same ids is safe for a day."""
        await self._declare_lanes()
        with self.calling("emit"):
            emitted = await self._provider.emit(events)
        await self._arrived()
        if self.settings.unrouted == "error":
            _refuse_unrouted(events, emitted)
        return emitted

    send = blocking(asend)

    async def _emit_now(self, message: Message) -> None:
        await self.aemit_many([message], now=True)

    async def _emit(self, messages: Sequence[Message], *, now: bool) -> list[str]:
        if self._interceptors:
            messages = [await self._intercepted(message) for message in messages]
        events = [self._pack(message) for message in messages]
        if all(message.group is None for message in messages):
            return await self._send_on(events, now=now)
        grouped = list(zip(messages, events, strict=True))
        groups: dict[str, list[OutgoingEvent]] = {}
        for message, event in grouped:
            if message.group is not None:
                groups.setdefault(message.group, []).append(event)
        await self._keep_back(groups)
        sent = iter(await self._send_on([event for message, event in grouped if message.group is None], now=now))
        return [next(sent) if message.group is None else event.id for message, event in grouped]

    async def _send_on(self, events: Sequence[OutgoingEvent], *, now: bool) -> list[str]:
        """Send events, or hand them to what surrounds the caller. Return their ids, or of those that they repeat."""
        around = None if now else stage.get()
        if around is not None:
            await around.stage(self, events)
        elif events:
            return [it.id for it in await self.asend(events)]
        return [event.id for event in events]

    def _pack(self, message: Message) -> OutgoingEvent:
        for option, capability in self._lacking:
            if getattr(message, option) is not None:
                self.require(capability)
        telemetry = self.context.telemetry
        if telemetry is not None and isinstance(telemetry, Tracing):
            message = _traced(message, telemetry)
        return pack(message, self.settings, self.context.clock, hurried=self.settings.mode == "inline")

    async def _intercepted(self, message: Message) -> Message:
        for function in self._interceptors:
            answer = await self.context.runtime.call(function, message)
            if answer is not None and not isinstance(answer, Message):
                raise InvalidInputError(f"an interceptor may return a Message or None, not {type(answer).__name__}")
            message = message if answer is None else answer
        return message

    # Groups

    @diverted
    def group(self) -> Group:
        """Return a block, `with` or `async with`: its events are sent together at its end, or dropped if it raises."""
        return Group(self, new_id(self.context.clock))

    async def _keep_back(self, groups: Mapping[str, Sequence[OutgoingEvent]]) -> None:
        """Keep events back with their groups: those of blocks last, where nothing can go wrong."""
        blocks = {group: block for group in groups if (block := self.groups.get(group)) is not None}
        others = {group: events for group, events in groups.items() if group not in blocks}
        if others:
            _refuse_in_transaction(others)
            with self.calling("stage"):
                await self._provider.stage(others)
        for group, block in blocks.items():
            await block.stage(self, groups[group])

    @operation
    async def arelease_group(self, id: str) -> int:
        """Send what was emitted with `group=id`, all or none, and return how many events that were.

        It is safe to repeat: where the answer of a release was lost that had succeeded, the next one finds nothing,
        and returns 0.
        """
        self.require(EventCapability.GROUPS)
        block = self.groups.get(check_text(id, "id"))
        if block is not None:
            return await block.release()
        await self._declare_lanes()
        with self.calling("release"):
            released = await self._provider.release(id)
        await self._arrived()
        return len(released)

    release_group = blocking(arelease_group)

    @operation
    async def aclear_group(self, id: str, names: Collection[str] | None = None) -> int:
        """Drop what was emitted with `group=id`, or only events of these names, and return how many."""
        self.require(EventCapability.GROUPS)
        names = None if names is None else texts(names, "names")
        block = self.groups.get(check_text(id, "id"))
        if block is not None:
            return block.drop(names)
        with self.calling("clear"):
            return await self._provider.clear(id, names)

    clear_group = blocking(aclear_group)


def _traced(message: Message, telemetry: Tracing) -> Message:
    """Have a message tell what it was emitted by, unless it tells already."""
    carrier = telemetry.carrier()
    return replace(message, metadata={**carrier, **(message.metadata or {})}) if carrier else message


def _refuse_in_transaction(groups: Collection[str]) -> None:
    if transaction.get() is not None:
        raise UsageError(
            f"group {min(groups)!r}: inside event.transaction, events are released by the commit, and a group would be "
            "kept whatever becomes of it; leave group= away, or use a block, event.group()"
        )


def _refuse_unrouted(events: Sequence[OutgoingEvent], emitted: Sequence[Emitted]) -> None:
    names = {event.name for event, it in zip(events, emitted, strict=True) if not it.lanes and not it.repeated}
    if names:
        raise NotFoundError(f"nobody subscribes to {', '.join(sorted(names))}", module="event", operation="emit")
