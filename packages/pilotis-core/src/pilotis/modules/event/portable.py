"""The event bus that an application holds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, final

from pilotis.backoff import Backoff
from pilotis.bridge import blocking, finish, pause
from pilotis.context import Context
from pilotis.durations import optional_seconds
from pilotis.errors import ConfigurationError, UsageError
from pilotis.keys import check_text
from pilotis.modules.base import operation
from pilotis.modules.event.checks import check_pattern
from pilotis.modules.event.declaring import Declaration, Declarations, Intercepting, Subscribing, Taker
from pilotis.modules.event.dispatch import Dispatcher
from pilotis.modules.event.draining import Now, Wait, drained, wait_really
from pilotis.modules.event.emitting import Emitting
from pilotis.modules.event.figures import LaneFigures
from pilotis.modules.event.inline import run_inline
from pilotis.modules.event.model import DeclaredLanes
from pilotis.modules.event.outlet import Outbox
from pilotis.modules.event.provider import EventCapability, EventLane, EventProvider, LaneInfo
from pilotis.modules.event.running import Runner
from pilotis.modules.event.schedule import Periodic, Scheduler, joined
from pilotis.modules.event.subscriptions import Registry, lane_id
from pilotis.settings.model import EventSettings

logger = logging.getLogger("pilotis.event")


@final
class EventBus(Emitting, Declarations):
    """Emits events, and has the handlers that subscribed to them run: at least once each, whatever the others do.

    Handlers are declared with `on`, here or on `Handlers` that are included. In role "emit" none of them run here.
    """

    def __init__(
        self,
        provider: EventProvider,
        *,
        settings: EventSettings | None = None,
        context: Context | None = None,
        outbox: Outbox | None = None,
    ) -> None:
        Emitting.__init__(self, provider, settings or EventSettings(), context, outbox)
        self._registry = Registry(self.settings)
        self._periodics: list[Periodic] = []
        self._included: list[Declarations] = []
        self._known = 0
        self._before: dict[str, EventLane | None] = {}
        """What the backend knew of each lane before this process declared it."""
        self._runner = Runner(self.context)
        self._dispatcher = Dispatcher(
            self._provider,
            self._runner,
            self.context,
            self._registry,
            concurrency=self.settings.worker_concurrency,
            declare=self._declare_lanes,
            calling=self.calling,
        )
        self._scheduler = Scheduler(self.context, self._emit_now)
        self._figures = LaneFigures(self.context, self._look, lambda: self.facts)
        Declarations.__init__(self)

    def after_fork(self) -> None:
        """The parent's handlers and timers are not here; the next verb begins anew."""
        super().after_fork()
        self._registry.after_fork()
        self._runner.after_fork()
        self._dispatcher.reset()
        self._scheduler.after_fork()
        self._figures.after_fork()
        self._reset_relay()

    def renew(self) -> None:
        """Let a closed bus be opened again, and work again: for an app whose opening failed half-way."""
        super().renew()
        self._dispatcher.reset()

    @property
    def stuck_handlers(self) -> int:
        """How many handlers were given up after their timeout, and still run: nothing can stop a thread."""
        return self._runner.stuck.value

    @property
    def subscribed(self) -> int:
        """How many subscriptions this process has."""
        return len(self._registry.all())

    @property
    def at_hand(self) -> int:
        """How many deliveries this process has taken, and not settled."""
        return self._dispatcher.at_hand

    @property
    def tally(self) -> dict[str, int]:
        """How many deliveries this process settled: `done`, to be tried again (`retry`), `dead`, or given `back`."""
        return dict(self._dispatcher.tally)

    @property
    def fenced(self) -> int:
        """How many deliveries were handled here in vain: they were another process's by then, who handles them too."""
        return self._dispatcher.fenced

    # Declaring

    def include(self, handlers: Declarations) -> None:
        """Take in what is declared on `handlers`, now and later. Including the same again does nothing.

        Raises ConfigurationError, and takes in nothing, for an id that an event has a handler for already.
        """
        if not isinstance(handlers, Declarations):  # pyright: ignore[reportUnnecessaryIsInstance] - callers may be untyped
            raise ConfigurationError(f"include: expected Handlers, got {type(handlers).__name__}")
        for taker in (self, *self._takers):
            handlers.bind(taker)
        self._included.append(handlers)

    def bind(self, taker: Taker) -> None:
        """Hand over what is declared here, what is included, and what will be. Binding again does nothing."""
        super().bind(taker)
        for handlers in self._included:
            handlers.bind(taker)

    def take(self, declarations: Sequence[Declaration]) -> None:
        """Act on declarations, all or none. Raises ConfigurationError for one that cannot work."""
        periodics = joined(self._periodics, [it for it in declarations if isinstance(it, Periodic)])
        self._registry.add([it for it in declarations if isinstance(it, Subscribing)])
        self._periodics = periodics
        self._interceptors += [it.function for it in declarations if isinstance(it, Intercepting)]
        if self.is_open:
            self._begin()
        else:
            self._open_soon()

    def _declare(self, declaration: Declaration) -> None:
        self.take([declaration])
        super()._declare(declaration)

    @operation
    async def asubscribe(
        self,
        name: str,
        handler: Callable[..., Any],
        *,
        id: str | None = None,
        attempts: int | None = None,
        backoff: Backoff | float | timedelta | None = None,
        timeout: float | timedelta | None = None,
        concurrency: int | None = None,
        batch: int | None = None,
        within: float | timedelta | None = None,
    ) -> None:
        """Have `handler` handle the events of a name or pattern, from now on; see `on` for the options and errors.

        When it returns, the backend knows: whatever is emitted afterwards, by any process, reaches the handler.
        """
        self.on(
            name, id=id, attempts=attempts, backoff=backoff, timeout=timeout,
            concurrency=concurrency, batch=batch, within=within,
        )(handler)  # fmt: skip
        await self._declare_lanes()

    subscribe = blocking(asubscribe)

    @operation
    async def aunsubscribe(self, name: str, *, id: str | None = None) -> bool:
        """End a subscription for this process; without an `id`, all of the name's that have none.

        Returns whether there was one. A run under way goes on. Where the backend outlives the process the lane stays
        and goes on taking events; otherwise it is removed with all that waits in it.
        """
        check_pattern(check_text(name, "name"))
        if id is not None:
            check_text(id, "id")
        self._withdraw(name, id)
        found = self._registry.remove(name, id)
        self._before.pop(lane_id(name, id), None)
        self._dispatcher.poke()
        if found and EventCapability.DURABLE not in self._own.capabilities:
            with self.calling("forget"):
                await self._provider.forget([lane_id(name, id)])
            self._changed()
        return found

    unsubscribe = blocking(aunsubscribe)

    @operation
    async def adeclare_all(self) -> DeclaredLanes:
        """Make the lanes of all that is included, whatever the role, and tell what was there before.

        Opening a bus does so too: this is for a deployment, before any worker runs, so that nothing that is emitted
        meanwhile is lost.
        """
        await self._declare_lanes()
        known = {lane: before == self._spec(lane) for lane, before in self._before.items() if before is not None}
        return DeclaredLanes(
            new=sorted(self._before.keys() - known.keys()),
            changed=sorted(lane for lane, same in known.items() if not same),
            known=sorted(lane for lane, same in known.items() if same),
            stale=[info.lane for info in await self.alanes() if self._registry.get(info.lane) is None],
        )

    declare_all = blocking(adeclare_all)

    @operation
    async def aforget(self, id: str) -> int:
        """Remove a subscription for good: its lane with all that waits in it, and its dead letters.

        `id` is the subscription's, or the name of a lane. Returns how many lanes that were: a subscription has one for
        each name or pattern. Raises NotFoundError for an unknown one, and UsageError for one that this process
        subscribes to, and would make anew: take its handler out of the code first.
        """
        found = await self._lanes_of(id)
        if own := [lane for lane in found if self._registry.get(lane) is not None]:
            raise UsageError(
                f"forget: this process has handlers for {', '.join(map(repr, own))}, and would make the lane anew; "
                "take them out of the code first, here and in every process that runs"
            )
        with self.calling("forget"):
            await self._provider.forget(found)
        self._changed()
        return len(found)

    forget = blocking(aforget)

    # Life cycle

    @operation
    async def adrain(self, timeout: float | timedelta | None = None) -> bool:
        """Wait until all that this process subscribes to is handled: what waits, what runs, retries, delayed events.

        Returns True when nothing is left. Returns False when something is after `timeout` seconds, and at once when
        all that is left is due later than that. Paused lanes are not waited for, nor is anything in role "emit".
        What was committed to an outbox is handed over first. Not for use inside a handler, which would wait for itself.
        """
        patience = optional_seconds(timeout, "timeout")
        clock = self.context.clock
        if not await self._caught_up(patience):
            return False
        return await self._drain(clock.monotonic, clock.wait, patience, patience)

    drain = blocking(adrain)

    async def aclose(self) -> None:
        """Have what waits be handled, for up to `event.grace` seconds, and close. Later verbs raise `ClosedError`.

        A backend that outlives the process keeps what waits: then only runs under way are waited for.
        """
        try:
            if self.is_open:
                await finish(self._wind_down())
        finally:
            await super().aclose()

    close = blocking(aclose)

    @property
    def _inline(self) -> bool:
        return self.settings.mode == "inline"

    @property
    def _consumes(self) -> bool:
        return self.context.role != "emit" and self._registry.version > 0 and not self._inline

    async def _open(self) -> None:
        if self._outbox is not None:
            await self._outbox.aopen()
        if self._consumes and EventCapability.DURABLE in self._own.capabilities:
            await self.context.runtime.run(super()._open())  # where it will be used from: that saves a connection
        else:
            await super()._open()

    async def _started(self) -> None:
        await self._declare_lanes()
        self._begin()

    def _begin(self) -> None:
        """Begin to consume, unless the role or the mode forbids it, or there is nothing to do."""
        if self.context.role == "emit":
            return
        self._begin_relay()
        if self._periodics:
            self._scheduler.begin(self._periodics)
        if self._consumes:
            self._dispatcher.begin()
            self._dispatcher.poke()
            self._figures.begin()

    async def _declare_lanes(self) -> None:
        version = self._registry.version
        if version == self._known:
            return
        specs = [subscription.spec for subscription in self._registry.all()]
        with self.calling("declare"):
            before = await self._provider.declare(specs)
        for spec, known in zip(specs, before, strict=True):
            self._before.setdefault(spec.id, known)
        self._known = version

    def _declares(self, lane: str) -> bool:
        return self._registry.get(lane) is not None

    def _spec(self, lane: str) -> EventLane | None:
        subscription = self._registry.get(lane)
        return None if subscription is None else subscription.spec

    async def _arrived(self) -> None:
        if self._inline and self.context.role != "emit":
            await run_inline(self._provider, self._registry, self._runner)
        elif not self._dispatcher.begun:
            self._begin()

    def _changed(self) -> None:
        self._dispatcher.announce()

    async def _wind_down(self) -> None:
        try:
            await self._scheduler.stop()
            await self._stop_relay()
            if self._dispatcher.begun and EventCapability.DURABLE not in self._own.capabilities:
                await self._finish_what_waits(self.context.patience(self.settings.grace))
        finally:
            await self._dispatcher.stop(self.context.patience(self.settings.grace))
            await self._figures.stop()

    async def _finish_what_waits(self, grace: float) -> None:
        # Real seconds: a test's clock does not move by itself, and nothing that it delays would ever be due.
        horizon = grace if await self._clock_moves() else 0.0
        if not await self._drain(time.monotonic, wait_really, grace, horizon):
            logger.warning("events were left over when the bus was closed: %s", await self._left_over())

    async def _clock_moves(self) -> bool:
        before = self.context.clock.monotonic()
        await pause(0.001)
        return self.context.clock.monotonic() > before

    async def _drain(self, now: Now, wait: Wait, patience: float | None, horizon: float | None) -> bool:
        if not self._dispatcher.begun:
            return True
        return await drained(
            self._own_lanes,
            lambda: self._dispatcher.settled,
            now,
            wait,
            patience=patience,
            horizon=horizon,
            others=EventCapability.DURABLE in self._own.capabilities,
        )

    async def _look(self) -> list[LaneInfo]:
        with self.calling("lanes"):
            return await self._provider.lanes()

    async def _own_lanes(self) -> list[LaneInfo]:
        return [info for info in await self._look() if self._registry.get(info.lane) is not None]

    async def _left_over(self) -> str:
        counts = {info.lane: info.queued + info.held + info.delayed for info in await self._own_lanes()}
        return ", ".join(f"{count} for {lane!r}" for lane, count in counts.items() if count)
