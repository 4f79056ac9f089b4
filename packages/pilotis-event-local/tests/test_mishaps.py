"""Handlers, declarations and callers that do what they should not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pilotis.context import Context
from pilotis.errors import ConfigurationError, InvalidInputError, NotFoundError, UsageError
from pilotis.handlers import Handlers
from pilotis.modules.event import Event, EventBus, Message
from pilotis.settings.model import EventSettings
from pilotis_event_local import LocalEvents
from pilotis_testing.event_base import Seen


@pytest.fixture
def bus(context: Context) -> Iterator[EventBus]:
    """A bus that works in the background."""
    bus = EventBus(LocalEvents(), context=context)
    yield bus
    bus.close()


class Mute(Exception):
    """An error that cannot be told."""

    def __str__(self) -> str:
        raise ValueError("no words")


def test_an_error_that_cannot_be_told_is_one_attempt(bus: EventBus) -> None:
    """And not a delivery that is handed out for ever."""
    seen = Seen(failures=1, error=Mute())
    bus.subscribe("order.placed", seen, id="audit")
    bus.emit("order.placed")
    assert bus.drain(5)
    assert [1] == seen.attempts
    assert ["Mute, whose text cannot be had (ValueError)"] == [dead.error for dead in bus.dead_letters()]


def test_a_handler_that_exits_does_not_end_the_loop_of_the_application(context: Context) -> None:
    """Also under a timeout, where it runs as a task of its own."""

    async def leave(_: object) -> None:
        raise SystemExit(3)

    async def main() -> list[str]:
        context.runtime.home = asyncio.get_running_loop()
        bus = EventBus(LocalEvents(), context=context)
        await bus.asubscribe("order.placed", leave, id="audit", timeout=60)
        await bus.aemit("order.placed")
        await bus.adrain(5)
        errors = [dead.error async for dead in bus.adead_letters()]
        await bus.aclose()
        return errors

    assert asyncio.run(main()) == ["SystemExit: 3"]


def test_generators_are_no_handlers(bus: EventBus) -> None:
    """Nothing would run their bodies."""

    def plain(_: object) -> Iterator[int]:
        yield 1

    async def asynchronous(_: object) -> Any:
        yield 1

    for function in (plain, asynchronous):
        with pytest.raises(ConfigurationError, match="is a generator"):
            bus.on("order.placed")(function)


def test_a_built_in_function_that_does_not_tell_its_arguments_is_taken(bus: EventBus) -> None:
    """It may well take an event."""
    assert bus.on("order.placed")(int) is int


# Declarations


def test_handlers_are_included_whole_or_not_at_all(bus: EventBus) -> None:
    """A later attempt then tells of the same handler, and not of one of its own."""
    bus.on("order.placed", id="second")(Seen())
    handlers = Handlers()
    for id in ("first", "second"):
        handlers.on("order.placed", id=id)(Seen())
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="the id 'second' already"):
            bus.include(handlers)
    bus.open()
    assert ["second"] == [lane.subscription for lane in bus.lanes()]


def test_whoever_includes_a_bus_has_what_it_includes(context: Context) -> None:
    """What was included before, and what will be: so a bus that stands in for another has all its handlers."""
    seen, late = Seen(), Seen()
    earlier, later = Handlers(), Handlers()
    earlier.on("order.placed", id="earlier")(seen)
    later.on("order.placed", id="later")(late)
    first, second = (EventBus(LocalEvents(), context=context) for _ in range(2))
    first.include(earlier)
    second.include(first)
    first.include(later)
    second.emit("order.placed")
    assert second.drain(5)
    assert (1, 1) == (len(seen.events), len(late.events))
    second.close()


def test_two_schedules_cannot_share_an_id(bus: EventBus) -> None:
    """Each fire of the one would pass for the other's. The same one twice is one."""
    for _ in range(2):
        bus.every(60, "report.due", id="report")
    with pytest.raises(ConfigurationError, match=r"'report' is declared twice"):
        bus.every(60, "stock.due", id="report")


def test_an_app_whose_opening_failed_works_when_it_is_opened_again(bus: EventBus) -> None:
    """Closing it in between is not for good."""
    seen = Seen()
    bus.subscribe("order.placed", seen)
    bus.close()
    bus.renew()
    bus.open()
    bus.emit("order.placed")
    assert bus.drain(5)
    assert len(seen.events) == 1


# Groups


def test_a_group_is_entered_once_at_a_time(bus: EventBus) -> None:
    """Its events would wait for a block that never ends. One after the other is all right."""
    seen = Seen()
    bus.subscribe("order.placed", seen)
    group = bus.group()
    with group, pytest.raises(UsageError, match="entered already"):
        group.__enter__()
    with group:
        bus.emit("order.placed", 1)
    bus.emit("order.placed", 2)
    assert bus.drain(5)
    assert sorted(seen.data) == [1, 2]


def test_a_task_that_outlives_a_group_emits_by_itself(context: Context) -> None:
    """What it emits later is not lost."""
    seen = Seen()

    async def main() -> None:
        bus = EventBus(LocalEvents(), context=context)
        await bus.asubscribe("order.placed", seen)
        over = asyncio.Event()

        async def late() -> None:
            await over.wait()
            await bus.aemit("order.placed", "late")

        async with bus.group():
            task = asyncio.create_task(late())
        over.set()
        await task
        await bus.aclose()

    asyncio.run(main())
    assert seen.data == ["late"]


# Inline


def test_cancelling_an_emit_gives_its_deliveries_back(context: Context) -> None:
    """At whatever moment: the next emit handles them, and those of their key."""

    async def cancelled_after(steps: int) -> list[int]:
        seen: list[int] = []

        async def handle(event: Any) -> None:
            for _ in range(3):
                await asyncio.sleep(0)
            seen.append(event.data)

        bus = EventBus(LocalEvents(), settings=EventSettings(mode="inline"), context=context)
        await bus.asubscribe("order.placed", handle)
        emitting = asyncio.create_task(bus.aemit("order.placed", 1, key="order:1"))
        for _ in range(steps):
            await asyncio.sleep(0)
        emitting.cancel()
        await asyncio.wait([emitting])
        await bus.aemit("order.placed", 2, key="order:1")
        await bus.aclose()
        return seen

    for steps in range(1, 8):
        assert asyncio.run(cancelled_after(steps)) == [1, 2]


def test_batches_are_handled_inline_too(context: Context) -> None:
    """Of the size that the handler asks for."""
    sizes: list[int] = []
    bus = EventBus(LocalEvents(), settings=EventSettings(mode="inline"), context=context)

    def handle(events: list[Event[int]]) -> None:
        sizes.append(len(events))

    bus.subscribe("order.placed", handle, batch=5)
    bus.emit_many([Message("order.placed", number) for number in range(12)])
    assert sizes == [5, 5, 2]
    bus.close()


# Arguments

REFUSED: dict[str, Callable[[EventBus], object]] = {
    "messages": lambda bus: bus.emit_many(5),  # pyright: ignore[reportArgumentType]
    "names": lambda bus: bus.clear_group("g", 5),  # pyright: ignore[reportArgumentType]
    "ids": lambda bus: bus.replay(5),  # pyright: ignore[reportArgumentType]
    r"ids\[0\]": lambda bus: bus.replay([None]),  # pyright: ignore[reportArgumentType]
    "subscription": lambda bus: bus.purge_dead(5),  # pyright: ignore[reportArgumentType]
    "name": lambda bus: list(bus.dead_letters(name=5)),  # pyright: ignore[reportArgumentType]
    "id": lambda bus: bus.unsubscribe("order.placed", id=5),  # pyright: ignore[reportArgumentType]
}


@pytest.mark.parametrize("place", REFUSED)
def test_what_cannot_be_used_is_refused_by_its_place(bus: EventBus, place: str) -> None:
    """With a word on what was expected."""
    with pytest.raises(InvalidInputError, match=f"^{place}: expected"):
        REFUSED[place](bus)


def test_only_handlers_are_included(bus: EventBus) -> None:
    """The app knows more; a bus knows handlers."""
    with pytest.raises(ConfigurationError, match="include: expected Handlers"):
        bus.include("shop.handlers")  # pyright: ignore[reportArgumentType]


def test_an_event_without_a_subscriber_does_not_hold_up_the_others(context: Context) -> None:
    """They are handled, and the error names the one."""
    seen = Seen()
    bus = EventBus(LocalEvents(), settings=EventSettings(mode="inline", unrouted="error"), context=context)
    bus.subscribe("order.placed", seen)
    with pytest.raises(NotFoundError, match=r"nobody subscribes to order\.lost"):
        bus.emit_many([Message("order.lost"), Message("order.placed")])
    assert len(seen.events) == 1
    bus.close()
