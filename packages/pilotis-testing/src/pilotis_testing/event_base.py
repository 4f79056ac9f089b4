"""What the parts of the event suite share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from pilotis.backoff import Backoff
from pilotis.bridge import drive, pause, run_blocking
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
PATIENCE = 10.0
"""Real seconds that a test waits for what must come."""
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

    slack: ClassVar[float] = 0.0
    """By how many seconds the backend's time may run on by itself during a test."""

    def near(self, seconds: float) -> Any:
        """Return what equals `seconds` to the millisecond, and as far as the backend's time stands still."""
        return pytest.approx(seconds, abs=self.slack + 0.0005)

    @pytest.fixture
    def another(self, provider: EventProvider) -> Callable[[], EventProvider]:
        """What makes the provider of one more process of the service.

        One that keeps its lanes in its own object stands for all processes itself.
        """
        return lambda: provider

    async def die(self, provider: EventProvider) -> None:
        """Have a provider that `another` made be gone like a process that was killed, and be known to be gone."""
        raise NotImplementedError(f"{type(self).__qualname__} has DURABLE, and must override `die`")

    @pytest.fixture
    def second(self, another: Callable[[], EventProvider], clock: ManualClock, colour: Colour) -> Iterator[Any]:
        """The bus of another process of the service."""
        context = Context(clock=clock)
        bus = EventBus(another(), settings=EventSettings(backoff=Backoff.fixed(PAUSE), grace=5), context=context)
        yield colour.voice(bus)
        bus.close()
        context.runtime.stop()

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
    def lane(self, provider: EventProvider, context: Context) -> Iterator[Reader]:
        """The verbs of the provider itself, for one lane."""
        provider.context = context
        yield Reader(provider)
        drive(provider.close())


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

    async def obtain(self, count: int = 1, lane: EventLane = LANE) -> list[Delivery]:
        """Return so many deliveries, and wait for them if need be."""
        deadline = time.monotonic() + PATIENCE
        taken: list[Delivery] = []
        while len(taken) < count:
            assert time.monotonic() < deadline, f"there are {len(taken)} of {count} deliveries"
            taken += await self.take(count - len(taken), lane)
            await pause(0.001)
        return taken

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


async def drained(bus: Any, patience: float = PATIENCE) -> bool:
    """Wait until nothing is left to do, in real seconds: a clock that stands still would wait for ever."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if await bus.drain(0):
            return True
        await pause(0.001)
    return False


async def soon_delayed(bus: Any, lane: str, count: int = 1) -> None:
    """Wait until a lane has so much delayed."""
    await soon_info(bus, lane, lambda it: it.delayed >= count)


async def soon_free(bus: Any, lane: str) -> None:
    """Wait until nothing of a lane is in flight."""
    await soon_info(bus, lane, lambda it: it.in_flight == 0)


async def soon_info(bus: Any, lane: str, condition: Callable[[Any], bool], patience: float = PATIENCE) -> None:
    """Wait until a condition holds for how a lane is doing."""
    deadline = time.monotonic() + patience
    while not condition(await info(bus, lane)):
        assert time.monotonic() < deadline, f"it did not come true: {await info(bus, lane)}"
        await pause(0.001)
