"""What the local provider does beyond the suite, and what the bus does that only shows with a backend."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pilotis.backoff import Backoff
from pilotis.bridge import Latch, pause
from pilotis.context import Context
from pilotis.errors import ClosedError, ConfigurationError, ConnectionFailedError, UnsupportedError
from pilotis.handlers import Handlers
from pilotis.modules.event import Event, EventBus, Message, RetryLater, dispatch
from pilotis.modules.event.schedule import on_cron
from pilotis.providers import Outcome
from pilotis.scopes import stage
from pilotis.settings.model import EventSettings
from pilotis_event_local import LocalEvents, LocalEventsOptions
from pilotis_testing import Colour, ManualClock
from pilotis_testing.clock import until
from pilotis_testing.colours import soon, together
from pilotis_testing.event_base import LANE, Held, Seen, advance, drained, info, outgoing


@pytest.fixture
def bus(context: Context, colour: Colour) -> Iterator[Any]:
    """A bus, in the colour of the test."""
    bus = EventBus(LocalEvents(), context=context)
    yield colour.voice(bus)
    bus.close()


# Life cycle


async def test_nothing_runs_before_it_is_needed(bus: Any, context: Context, colour: Colour) -> None:
    """Opening and emitting start no thread while nobody subscribes."""
    await bus.open()
    await bus.emit("order.placed")
    assert not context.runtime.started


async def test_role_emit_consumes_nothing(context: Context, colour: Colour) -> None:
    """In role "emit" no handler runs, and no thread is started."""
    bus = colour.voice(EventBus(LocalEvents(), context=Context(clock=context.clock, role="emit")))
    seen = Seen()
    bus.on("order.placed", id="stock")(seen)
    bus.every(60, "order.placed")
    await bus.emit("order.placed")
    assert await bus.drain()
    assert ([], 1) == (seen.data, (await info(bus, "order.placed stock")).queued)
    assert not bus.context.runtime.started
    await bus.close()


async def test_closing_handles_what_waits(context: Context, colour: Colour) -> None:
    """Leaving drains: also the events that handlers emit meanwhile, and retries that are due."""
    bus = colour.voice(EventBus(LocalEvents(), context=Context()))
    seen = Seen(failures=1)

    @bus.on("order.placed", id="follow-up")
    async def follow_up(event: Event[int]) -> None:
        await bus._thing.aemit("order.paid", event.data)

    bus.on("order.paid", id="mail", attempts=2, backoff=0.01)(seen)
    await bus.emit("order.placed", 7)
    await bus.close()
    assert seen.data == [7, 7]
    with pytest.raises(ClosedError):
        await bus.emit("order.placed")
    bus.context.runtime.stop()


async def test_closing_tells_what_is_left(
    bus: Any, colour: Colour, caplog: pytest.LogCaptureFixture, clock: ManualClock
) -> None:
    """What is delayed beyond the end is lost here, with a warning; a clock that stands still is not waited for."""
    bus.on("order.placed", id="stock")(Seen())
    await bus.emit("order.placed", delay=60)
    await bus.close()
    assert "events were left over when the bus was closed: 1 for 'order.placed stock'" in caplog.text


async def test_closing_leaves_no_job_behind(bus: Any, context: Context, colour: Colour) -> None:
    """Receiver, settler, timers and handlers are over when close returns; closing again does nothing."""
    bus.on("order.placed", id="stock")(Seen())
    bus.every(60, "order.placed")
    await bus.emit("order.placed")
    await bus.close()
    await bus.close()
    assert context.runtime.started
    assert asyncio.all_tasks(context.runtime.loop) == set()


async def test_closing_over_an_outage_closes_all_the_same(context: Context, colour: Colour) -> None:
    """The error is raised, after the handlers were stopped and the provider was closed."""
    closed: list[bool] = []

    class Broken(LocalEvents):
        async def lanes(self) -> Any:
            raise ConnectionError("gone")

        async def close(self) -> None:
            closed.append(True)

    bus = colour.voice(EventBus(Broken(), context=context))
    bus.on("order.placed", id="stock")(Seen())
    await bus.open()
    with pytest.raises(ConnectionFailedError, match="gone"):
        await bus.close()
    assert closed == [True]
    with pytest.raises(ClosedError):
        await bus.emit("order.placed")


def test_a_child_process_has_its_own_lanes() -> None:
    """After a fork the child begins with empty lanes, and can emit and handle."""
    bus, held = EventBus(LocalEvents()), Held()
    bus.on("order.placed", id="stock", concurrency=1)(held)
    bus.emit_many([Message("order.placed", number) for number in range(2)])
    until(lambda: len(held.events) == 1)
    if (child := os.fork()) == 0:
        held.let_go()
        waiting = bus.lanes()[0].queued
        bus.emit("order.placed", "child")
        handled = bus.drain(5)
        os._exit(0 if waiting == 0 and handled and held.data == [0, "child"] else 1)
    assert os.waitpid(child, 0)[1] == 0
    held.let_go()
    assert bus.drain(5)
    assert held.data == [0, 1]
    bus.close()
    bus.context.runtime.stop()


def test_two_event_loops_use_one_bus() -> None:
    """Emitting from one `asyncio.run` after the other, and from a thread, works."""
    bus, seen = EventBus(LocalEvents()), Seen()
    bus.on("order.placed", id="stock", concurrency=1)(seen)
    asyncio.run(bus.aemit("order.placed", 1))
    asyncio.run(bus.aemit("order.placed", 2))
    bus.emit("order.placed", 3)
    assert bus.drain(5)
    assert sorted(seen.data) == [1, 2, 3]
    bus.close()
    bus.context.runtime.stop()


async def test_async_handlers_run_on_the_home_loop(context: Context) -> None:
    """A handler may use what belongs to the loop that entered the app."""
    context.runtime.home = asyncio.get_running_loop()
    bus, lock = EventBus(LocalEvents(), context=context), asyncio.Lock()
    loops: list[Any] = []

    @bus.on("order.placed")
    async def handle(event: Event[Any]) -> None:
        async with lock:
            loops.append(asyncio.get_running_loop())

    await bus.aemit("order.placed")
    assert await bus.adrain(5)
    assert loops == [asyncio.get_running_loop()]
    await bus.aclose()


# Handlers


async def test_a_plain_handler_that_hangs_is_counted(bus: Any, colour: Colour, clock: ManualClock) -> None:
    """Its delivery fails after the timeout, its thread is counted until it ends, and its late result is refused."""
    held = Held()
    bus.on("order.placed", id="stock", timeout=30, concurrency=1)(held)
    await bus.emit("order.placed", 1)
    await held.times(1)
    await advance(clock, 30)
    assert await drained(bus)
    [dead] = [it async for it in bus.dead_letters()]
    assert ("failed", 1) == (dead.cause, bus.stuck_handlers)
    assert "OperationTimeoutError: handler pilotis_testing.event_base.Held was not done within its timeout of 30 s" in (
        dead.error
    )
    held.let_go()
    await soon(lambda: bus.stuck_handlers == 0)
    assert (await info(bus, "order.placed stock")).succeeded == 0


async def test_an_async_handler_is_cancelled_at_its_timeout(bus: Any, colour: Colour, clock: ManualClock) -> None:
    """It can clean up, and the next attempt follows."""
    ended: list[int] = []

    async def handle(event: Event[Any]) -> None:
        try:
            await clock.wait(Latch(), 60 if event.attempt == 1 else 0)
        finally:
            ended.append(event.attempt)

    bus.on("order.placed", id="stock", timeout=5, attempts=2, backoff=0)(handle)
    await bus.emit("order.placed")
    await soon(lambda: clock.waiting == 2)
    clock.advance(5)
    assert await drained(bus)
    assert ([1, 2], 0) == (ended, bus.stuck_handlers)


async def test_a_handler_that_raises_anything_is_a_failure(bus: Any, colour: Colour) -> None:
    """SystemExit and CancelledError of a handler's own end neither the bus nor a thread."""
    for number, error in enumerate((SystemExit(3), asyncio.CancelledError(), KeyboardInterrupt())):
        bus.on("order.placed", id=f"bad-{number}", attempts=2, backoff=0)(Seen(failures=9, error=error))
    await bus.emit("order.placed")
    assert await drained(bus)
    dead = {it.subscription: it.attempts async for it in bus.dead_letters()}
    assert dead == {"bad-0": 2, "bad-1": 2, "bad-2": 2}


async def test_handlers_without_an_id_fail_as_one(bus: Any, colour: Colour) -> None:
    """All run, and the dead letter names both errors."""
    bus.on("order.placed")(Seen(failures=9, error=ValueError("one")))
    bus.on("order.placed")(Seen(failures=9, error=KeyError("two")))
    calm = Seen()
    bus.on("order.placed")(calm)
    await bus.emit("order.placed")
    assert await drained(bus)
    [dead] = [it async for it in bus.dead_letters()]
    assert (None, 1) == (dead.subscription, len(calm.events))
    assert "2 handlers failed" in dead.error
    assert "ValueError: one" in dead.traceback
    assert "KeyError: 'two'" in dead.traceback


async def test_handlers_emit_outside_of_the_group_they_were_caused_by(bus: Any, colour: Colour) -> None:
    """A handler that begins while a group is open sends its own events at once."""
    seen = Seen()
    bus.on("order.paid", id="mail")(seen)

    @bus.on("order.placed", id="follow-up")
    async def follow_up(event: Event[Any]) -> None:
        await bus._thing.aemit("order.paid", "followed")

    async with bus.group():
        await bus.emit("order.placed", now=True)
        await seen.times(1)
    assert await drained(bus)
    assert seen.data == ["followed"]


async def test_a_batch_is_filled_by_what_comes_later(bus: Any, colour: Colour, clock: ManualClock) -> None:
    """A handler that waits for a batch is run as soon as it is whole, time after time."""
    batches: list[list[Any]] = []

    def handle(events: list[Event[int]]) -> None:
        batches.append([event.data for event in events])

    bus.on("order.placed", id="bulk", batch=3, within=60, concurrency=1)(handle)
    for start in (0, 3):
        await bus.emit("order.placed", start)
        await soon(lambda: clock.waiting >= 1)
        await bus.emit("order.placed", start + 1)
        await bus.emit("order.placed", start + 2)
        await soon(lambda start=start: len(batches) == start // 3 + 1)
    assert await drained(bus)
    assert batches == [[0, 1, 2], [3, 4, 5]]


async def test_data_of_a_batch_that_does_not_fit_leaves_the_rest(bus: Any, colour: Colour, clock: ManualClock) -> None:
    """The misfit alone is a dead letter."""
    got: list[int] = []

    def handle(events: list[Event[int]]) -> None:
        got.extend(event.data for event in events)

    bus.on("order.placed", id="bulk", batch=3)(handle)
    await bus.emit_many([Message("order.placed", data) for data in (1, "two", 3)])
    assert await drained(bus)
    assert (got, ["two"]) == ([1, 3], [it.data async for it in bus.dead_letters()])


# At hand


async def test_quick_handlers_have_more_at_hand(context: Context, colour: Colour) -> None:
    """A process fetches what they handle in a moment, and not what they can begin alone; what is left goes back."""
    sizes: list[int] = []

    class Asked(LocalEvents):
        async def receive(self, capacity: Any, wake: Any) -> Any:
            sizes.append(capacity.get("order.placed stock", 0))
            return await super().receive(capacity, wake)

    bus, seen = colour.voice(EventBus(Asked(), context=context)), Seen()
    bus.on("order.placed", id="stock", concurrency=2)(seen)
    await bus.emit_many([Message("order.placed", number) for number in range(3000)])
    assert await drained(bus)
    assert 3000 == len(seen.events)
    assert 2 == sizes[0]
    assert max(sizes) > 10
    await bus.close()


async def test_what_is_at_hand_behind_a_slow_handler_goes_back(
    context: Context, colour: Colour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handlers that were quick and then hang do not keep from others what was fetched for them."""
    monkeypatch.setattr(dispatch, "_STUCK_SECONDS", 0.05)
    held, others = Held(), Seen()
    provider = LocalEvents()
    bus, other = (colour.voice(EventBus(provider, context=context)) for _ in range(2))

    def handle(event: Event[int]) -> None:
        if event.data == 1500:
            held(event)

    bus.on("order.placed", id="stock", concurrency=1)(handle)
    await bus.emit_many([Message("order.placed", number) for number in range(3000)])
    await held.times(1)
    other.on("order.placed", id="stock", concurrency=1)(others)
    await other.open()
    await soon(lambda: len(others.events) == 1499)
    assert [*range(1501, 3000)] == sorted(others.data)
    held.let_go()
    assert await drained(bus)
    await other.close()
    await bus.close()


# Declaring


async def test_handlers_are_declared_apart(context: Context, colour: Colour) -> None:
    """The same handlers serve several buses; including them twice does nothing; later ones are seen too."""
    handlers, seen, late = Handlers(), Seen(), Seen()
    handlers.on("order.placed", id="stock")(seen)
    buses = [colour.voice(EventBus(LocalEvents(), context=context)) for _ in range(2)]
    for bus in buses:
        bus.include(handlers)
        bus.include(handlers)
        await bus.open()
    handlers.on("order.placed", id="late")(late)
    for number, bus in enumerate(buses):
        await bus.emit("order.placed", number)
        assert await drained(bus)
        await bus.close()
    assert ([0, 1], [0, 1]) == (seen.data, late.data)


async def test_a_bus_takes_in_what_another_declares(bus: Any, context: Context, colour: Colour) -> None:
    """A bus that stands in for another has its handlers."""
    seen = Seen()
    bus.on("order.placed", id="stock")(seen)
    other = colour.voice(EventBus(LocalEvents(), context=context))
    other.include(bus._thing)
    await other.emit("order.placed", 1)
    assert await drained(other)
    assert seen.data == [1]
    await other.close()


async def test_an_id_is_given_once(bus: Any, colour: Colour) -> None:
    """A second handler with the id for the same name is an error, on the bus and through `Handlers`; not for others."""
    handlers = Handlers()
    handlers.on("order.placed", id="stock")(Seen())
    with pytest.raises(ConfigurationError, match="has a handler with the id 'stock' already"):
        handlers.on("order.placed", id="stock")(Seen())
    bus.on("order.placed", id="stock")(Seen())
    bus.on("order.paid", id="stock")(Seen())
    with pytest.raises(ConfigurationError, match=r"give pilotis_testing\.event_base\.Seen another one"):
        bus.on("order.placed", id="stock")(Seen())
    with pytest.raises(ConfigurationError, match="already"):
        bus.include(handlers)


async def test_interceptors_see_every_message(bus: Any, colour: Colour) -> None:
    """In order, plain and async; one may return another message, and what one raises is raised by emit."""
    seen, names = Seen(), list[str]()
    bus.on("*", id="all")(seen)

    @bus.intercept
    def note(message: Message) -> None:
        names.append(message.name)

    @bus.intercept
    async def sign(message: Message) -> Message:
        return Message(message.name, message.data, metadata={"by": "ada"})

    @bus.intercept
    def refuse(message: Message) -> None:
        if message.name == "order.refused":
            raise PermissionError("no")

    await bus.emit("order.placed", 1)
    with pytest.raises(PermissionError):
        await bus.emit_many([Message("order.placed", 2), Message("order.refused")])
    assert await drained(bus)
    assert (["order.placed", "order.placed", "order.refused"], [1], {"by": "ada"}) == (
        names, seen.data, seen.events[0].metadata,
    )  # fmt: skip


# Groups


async def test_a_group_sends_at_its_end(bus: Any, colour: Colour) -> None:
    """Events of the block leave together when it ends, and none when it raises."""
    seen = Seen()
    bus.on("order.*", id="audit", concurrency=1)(seen)
    async with bus.group():
        await bus.emit("order.placed", 1)
        async with bus.group():
            await bus.emit("order.placed", 2)
        assert (await info(bus, "order.* audit")).emitted == 0
        await bus.emit("order.placed", 3, now=True)
    with pytest.raises(ZeroDivisionError):
        await _emit_and_fail(bus)
    assert await drained(bus)
    assert (seen.data, stage.get()) == ([3, 1, 2], None)


async def _emit_and_fail(bus: Any) -> None:
    async with bus.group():
        await bus.emit("order.placed", 4)
        raise ZeroDivisionError


async def test_a_group_can_be_released_and_cleared_by_its_id(bus: Any, colour: Colour) -> None:
    """While the block lasts, `emit(group=...)`, `release_group` and `clear_group` work on it."""
    seen = Seen()
    bus.on("order.*", id="audit", concurrency=1)(seen)
    async with bus.group() as group:
        await bus.emit("order.placed", 1)
        assert await bus.release_group(group.id) == 1
        await bus.emit("order.placed", 2, group=group.id)
        await bus.emit("order.paid", 3)
        assert await bus.clear_group(group.id, ["order.paid"]) == 1
    assert await drained(bus)
    assert seen.data == [1, 2]


async def test_there_is_no_outbox(bus: Any, colour: Colour) -> None:
    """A transaction is refused in so many words."""
    with pytest.raises(UnsupportedError, match="outbox"):
        bus.transaction(object())


# Periodic events


async def test_every_and_cron_fire_at_their_times(bus: Any, colour: Colour, clock: ManualClock) -> None:
    """At whole multiples of the interval, and when the expression says, each fire with an id of its own."""
    seen = Seen()
    bus.on("report.*", id="reports", concurrency=1)(seen)
    bus.every(60, "report.minute", "m")
    bus.cron("30 0 * * *", "report.night", "n", timezone="UTC", key="reports")
    await bus.open()
    await soon(lambda: clock.waiting >= 2)
    clock.advance(59.5)
    assert (await info(bus, "report.* reports")).emitted == 0
    clock.advance(0.5)
    await seen.times(1)
    await soon(lambda: clock.waiting >= 2)
    clock.advance(1740)
    await soon(lambda: "n" in seen.data)
    assert await drained(bus)
    assert seen.data.count("n") == 1


def test_cron_minds_the_time_zone() -> None:
    """Three o'clock in Paris is at one or two in UTC, as the season says."""
    periodic = on_cron("0 3 * * *", "Europe/Paris", Message("a"), None)
    winter, summer = datetime(2026, 1, 10, tzinfo=UTC).timestamp(), datetime(2026, 7, 10, tzinfo=UTC).timestamp()
    assert [datetime.fromtimestamp(periodic.next(it), UTC).hour for it in (winter, summer)] == [2, 1]


@pytest.mark.parametrize(
    ("expression", "timezone", "message"),
    [
        ("0 25 * * *", "UTC", "cannot be read: Bad hour"),
        ("soon", "UTC", "cannot be read"),
        ("0 0 30 2 *", "UTC", "cannot be read|never comes true"),
        ("0 3 * * *", "Mars/Olympus", "time zone 'Mars/Olympus' is not known"),
    ],
)
def test_a_cron_expression_is_checked_where_it_is_declared(expression: str, timezone: str, message: str) -> None:
    """Before anything waits for it."""
    with pytest.raises(ConfigurationError, match=message):
        Handlers().cron(expression, "report.due", timezone=timezone)


# Inline


async def test_inline_handlers_run_inside_emit(context: Context, colour: Colour) -> None:
    """All of them, delays and retries too; then what failed for good is raised."""
    settings = EventSettings(mode="inline", backoff=Backoff.fixed(60))
    bus = colour.voice(EventBus(LocalEvents(), settings=settings, context=context))
    seen, flaky, broken = Seen(), Seen(failures=1), Seen(failures=9, error=LookupError("gone"))
    bus.on("order.placed", id="a", attempts=2)(flaky)
    bus.on("order.placed", id="b", attempts=2)(broken)
    bus.on("order.placed", id="c")(seen)
    with pytest.raises(LookupError, match="gone"):
        await bus.emit("order.placed", 1, delay=5)
    assert ([1, 2], [1, 2], [1]) == (flaky.attempts, broken.attempts, seen.data)
    bus.on("order.placed", id="d")(Seen(failures=9))
    with pytest.raises(ExceptionGroup, match="2 deliveries failed"):
        await bus.emit("order.placed", 2)
    async with bus.group():
        await bus.emit("order.paid", 3)
    await bus.close()


async def test_inline_leaves_what_is_put_off(context: Context, colour: Colour) -> None:
    """`RetryLater` does not run for ever inside emit."""
    bus = colour.voice(EventBus(LocalEvents(), settings=EventSettings(mode="inline"), context=context))
    seen = Seen(failures=1, error=RetryLater(60))
    bus.on("order.placed", id="a")(seen)
    await bus.emit("order.placed")
    assert (1, 1) == (len(seen.events), (await info(bus, "order.placed a")).delayed)
    await bus.close()


# The provider's own


async def test_a_tail_that_is_dropped_is_over(context: Context, colour: Colour) -> None:
    """Whoever breaks off leaves nothing behind that goes on being told of events."""
    provider = LocalEvents()
    bus = colour.voice(EventBus(provider, context=context))
    audience = provider._audience  # pyright: ignore[reportPrivateUsage]

    async def look() -> None:
        async for _ in bus.tail():
            break

    async def emit() -> None:
        await soon(lambda: len(audience) == 1)
        await bus.emit("order.placed")

    await together(look, emit)
    await soon(lambda: len(audience) == 0)
    await bus.close()


async def test_what_is_settled_twice_is_counted(context: Context, colour: Colour) -> None:
    """The lane tells how often somebody settled what was not his any more."""
    provider, wake = LocalEvents(), Latch()
    wake.set()
    await provider.declare([LANE])
    await provider.emit([outgoing("1")])
    deliveries = await provider.receive({LANE.id: 1}, wake)
    outcomes = [Outcome(delivery=it, verdict="done") for it in deliveries]
    assert [True, False, False] == [ok for _ in range(3) for ok in await provider.settle(outcomes)]
    assert [2] == [info.fenced for info in await provider.lanes()]


async def test_dead_letters_are_bounded(context: Context, colour: Colour, caplog: pytest.LogCaptureFixture) -> None:
    """The oldest go, with a warning."""
    bus = colour.voice(EventBus(LocalEvents(LocalEventsOptions(max_dead=2)), context=context))
    bus.on("order.placed", id="stock", concurrency=1)(Seen(failures=9))
    await bus.emit_many([Message("order.placed", number) for number in range(3)])
    assert await drained(bus)
    assert [1, 2] == [it.data async for it in bus.dead_letters()]
    assert "more than 2 dead letters" in caplog.text
    await bus.close()


async def test_ids_are_remembered_up_to_a_number(context: Context, colour: Colour) -> None:
    """The oldest are forgotten first."""
    bus = colour.voice(EventBus(LocalEvents(LocalEventsOptions(remember=2)), context=context))
    seen = Seen()
    bus.on("order.placed", id="stock", concurrency=1)(seen)
    for id in ("a", "b", "b", "c", "a"):
        await bus.emit("order.placed", id, id=id)
    assert await drained(bus)
    assert seen.data == ["a", "b", "c", "a"]
    await bus.close()


async def test_drain_waits_by_the_clock(bus: Any, colour: Colour, clock: ManualClock) -> None:
    """It returns once what was delayed is handled, without looking again and again."""
    seen = Seen()
    bus.on("order.placed", id="stock")(seen)
    await bus.emit("order.placed", 1, delay=30)
    threading.Thread(target=lambda: (clock.wait_for_waiters(2), clock.advance(30)), daemon=True).start()
    assert await bus.drain(60)
    assert seen.data == [1]


async def test_a_backend_that_fails_is_waited_for(
    context: Context, colour: Colour, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Receiving and settling are repeated until they succeed, and the outage is logged."""

    class Shaky(LocalEvents):
        failures = 4

        def _shake(self) -> None:
            if self.failures:
                self.failures -= 1
                raise ConnectionError("gone")

        async def receive(self, capacity: Any, wake: Any) -> Any:
            self._shake()
            return await super().receive(capacity, wake)

        async def settle(self, outcomes: Any) -> Any:
            self._shake()
            return await super().settle(outcomes)

    provider, seen = Shaky(), Seen()
    bus = colour.voice(EventBus(provider, context=context))
    bus.on("order.placed", id="stock")(seen)
    with caplog.at_level(logging.WARNING):
        await bus.emit("order.placed", 1)
        while not await bus.drain(0):
            clock.advance(6)
            await pause(0.001)
    assert (seen.data, provider.failures) == ([1], 0)
    assert "events wait for their backend" in caplog.text
    await bus.close()
