"""What the parts of the event suite share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pilotis.backoff import Backoff
from pilotis.bridge import pause, run_blocking
from pilotis.modules.event import EventBus
from pilotis.providers import (
    Context,
    Delivery,
    EventCapability,
    EventLane,
    EventProvider,
    Latch,
    Outcome,
    OutgoingEvent,
)
from pilotis.settings.model import EventSettings

from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import Colour, soon
from pilotis_testing.conformance import Conformance

PAUSE = 10.0
"""Seconds: the wait between attempts."""
LANE = EventLane("order.* audit", "order.*", "audit")


class Seen:
    """A handler that notes its events, and fails the first `failures` times."""

    def __init__(self, failures: int = 0, error: BaseException | None = None) -> None:
        self.events: list[Any] = []
        self._failures = failures
        self._error = error or ValueError("not yet")

    def __call__(self, event: Any) -> None:
        self.events.append(event)
        if len(self.events) <= self._failures:
            raise self._error

    @property
    def data(self) -> list[Any]:
        """The data of the events, in the order in which they were handled."""
        return [event.data for event in self.events]

    @property
    def attempts(self) -> list[int]:
        """The attempts, in the order in which they were made."""
        return [event.attempt for event in self.events]

    async def times(self, count: int) -> None:
        """Wait until it was called so often."""
        await soon(lambda: len(self.events) >= count)


class Held(Seen):
    """A handler that notes its events, and stays in the first one until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self._gate = threading.Event()

    def __call__(self, event: Any) -> None:
        super().__call__(event)
        assert self._gate.wait(10)

    def let_go(self) -> None:
        """Have the handler return."""
        self._gate.set()


class EventTests(Conformance):
    """The fixtures."""

    @pytest.fixture
    def context(self, clock: ManualClock) -> Iterator[Context]:
        """What the bus and a second one share."""
        context = Context(clock=clock)
        yield context
        context.runtime.stop()

    @pytest.fixture
    def bus(self, provider: EventProvider, context: Context, colour: Colour) -> Iterator[Any]:
        """The portable class before the provider, speaking in the colour of the test."""
        settings = EventSettings(backoff=Backoff.fixed(PAUSE), grace=5)
        bus = EventBus(provider, settings=settings, context=context)
        yield colour.voice(bus)
        bus.close()

    @pytest.fixture
    def lane(self, provider: EventProvider, context: Context) -> Reader:
        """The verbs of the provider itself, for one lane."""
        provider.context = context
        return Reader(provider)


class Reader:
    """Reads one lane, without a bus."""

    def __init__(self, provider: EventProvider) -> None:
        self.provider = provider

    async def open(self, *lanes: EventLane) -> None:
        """Open the provider and declare lanes."""
        await self.provider.open()
        await self.provider.declare(lanes or [LANE])

    async def take(self, most: int = 10, lane: EventLane = LANE) -> list[Delivery]:
        """Return what can be had at once."""
        wake = Latch()
        wake.set()
        return await self.provider.receive({lane.id: most}, wake)

    async def settle(self, verdict: Any, *deliveries: Delivery, **how: Any) -> list[bool]:
        """Settle deliveries, all in one way."""
        return await self.provider.settle([Outcome(delivery=it, verdict=verdict, **how) for it in deliveries])


def outgoing(id: str, name: str = "order.placed", **options: Any) -> OutgoingEvent:
    """Return an event as a provider takes it."""
    return OutgoingEvent(id, name, f'{{"v":1,"at":0.0,"data":"{id}"}}'.encode(), **options)


def lacks(provider: EventProvider, capability: EventCapability) -> bool:
    """Tell whether the provider does not declare a capability."""
    return capability not in provider.capabilities


async def advance(clock: ManualClock, seconds: float) -> None:
    """Move the clock on, once somebody waits for it."""
    await run_blocking(clock.wait_for_waiters)
    clock.advance(seconds)


async def info(bus: Any, lane: str) -> Any:
    """Return how a lane is doing."""
    return next(it for it in await bus.lanes() if it.lane == lane)


async def drained(bus: Any, patience: float = 3.0) -> bool:
    """Wait until nothing is left to do, in real seconds: a clock that stands still would wait for ever."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if await bus.drain(0):
            return True
        await pause(0.001)
    return False


async def soon_delayed(bus: Any, lane: str) -> None:
    """Wait until a lane has something delayed."""
    await _soon(bus, lane, lambda it: it.delayed > 0)


async def soon_free(bus: Any, lane: str) -> None:
    """Wait until nothing of a lane is in flight."""
    await _soon(bus, lane, lambda it: it.in_flight == 0)


async def _soon(bus: Any, lane: str, condition: Callable[[Any], bool], patience: float = 3.0) -> None:
    deadline = time.monotonic() + patience
    while not condition(await info(bus, lane)):
        assert time.monotonic() < deadline, f"it did not come true: {await info(bus, lane)}"
        await pause(0.001)
