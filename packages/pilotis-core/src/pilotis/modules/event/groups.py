"""Events that leave together or not at all."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Self

from pilotis.bridge import blocking, finish
from pilotis.errors import UsageError
from pilotis.modules.event.provider import OutgoingEvent
from pilotis.scopes import Stage, stage

if TYPE_CHECKING:
    from pilotis.modules.event.emitting import Emitting


class Group:
    """A block whose events are kept back: sent together when it ends, dropped when it raises.

    `with bus.group() as group:` or `async with`. Inside another group, a transaction or a workflow its events are
    handed to that one when it ends. Threads and tasks that are started inside see the group, and must be done with it
    when the block ends: what they emit later is no longer part of it, and leaves as if there were no group. Events of
    another bus are kept back too, and sent by that bus. A group is entered once at a time: `UsageError`.
    """

    def __init__(self, bus: Emitting, id: str) -> None:
        self.id = id
        """What `emit(group=...)`, `release_group` and `clear_group` call it while the block lasts."""
        self._bus = bus
        self._lock = threading.Lock()
        self._kept: list[tuple[Emitting, OutgoingEvent]] = []
        self._outer: Stage | None = None
        self._entered = False

    @property
    def blocking_in_loop(self) -> str:
        return self._bus.blocking_in_loop

    async def stage(self, bus: Emitting, messages: Sequence[OutgoingEvent]) -> None:
        """Keep events back until the block has ended."""
        with self._lock:
            if self._entered:
                self._kept.extend((bus, message) for message in messages)
                return
        await self._pass_on(bus, messages)

    async def _pass_on(self, bus: Emitting, messages: Sequence[OutgoingEvent]) -> None:
        await (bus.asend(messages) if self._outer is None else self._outer.stage(bus, messages))

    async def release(self) -> int:
        """Send what was kept so far, and return how many events that were."""
        with self._lock:
            kept, self._kept = self._kept, []
        for bus in dict.fromkeys(bus for bus, _ in kept):
            mine = [event for owner, event in kept if owner is bus]
            await self._pass_on(bus, mine)
        return len(kept)

    def drop(self, names: Collection[str] | None = None) -> int:
        """Forget what was kept so far, or only events of these names, and return how many events that were."""
        with self._lock:
            before = len(self._kept)
            self._kept = [] if names is None else [(bus, it) for bus, it in self._kept if it.name not in names]
            return before - len(self._kept)

    def __enter__(self) -> Self:
        return self._enter()

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        stage.set(self._outer)
        self._end(released=kind is None)

    async def __aenter__(self) -> Self:
        return self._enter()

    async def __aexit__(self, kind: type[BaseException] | None, *error: object) -> None:
        stage.set(self._outer)
        await finish(self._aend(released=kind is None))

    def _enter(self) -> Self:
        with self._lock:
            if self._entered:
                raise UsageError("this group is entered already; make one of its own for each block: event.group()")
            self._entered = True
        self._outer = stage.get()
        stage.set(self)
        self._bus.groups[self.id] = self
        return self

    async def _aend(self, *, released: bool) -> None:
        self._bus.groups.pop(self.id, None)
        with self._lock:
            self._entered = False
        if released:
            await self.release()
        else:
            self.drop()

    _end = blocking(_aend)
