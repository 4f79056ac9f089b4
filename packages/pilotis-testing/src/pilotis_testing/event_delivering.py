"""Whether events reach those who subscribed to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from pilotis.bridge import pause
from pilotis.errors import InvalidInputError, NotFoundError
from pilotis.modules.event import Event, EventBus, Message
from pilotis.providers import Context, EventCapability, EventLane, EventProvider, Latch
from pilotis.settings.model import EventSettings

from pilotis_testing.colours import Colour, soon, together
from pilotis_testing.event_base import LANE, EventTests, Held, Reader, Seen, drained, info, lacks, outgoing


@dataclasses.dataclass
class _Order:
    number: int
    lines: list[str]


class DeliveringTests(EventTests):
    """Fan-out, receiving and settling."""

    async def test_every_subscription_gets_every_event(self, bus: Any, colour: Colour) -> None:
        """Two ids, a pattern, and the handlers without an id all handle it, once each."""
        seen = [Seen(), Seen(), Seen(), Seen()]
        bus.on("order.placed", id="mail")(seen[0])
        bus.on("order.placed", id="stock")(seen[1])
        bus.on("order.*", id="audit")(seen[2])
        bus.on("order.placed")(seen[3])
        id = await bus.emit("order.placed", {"number": 7}, metadata={"by": "ada"})
        assert await drained(bus)
        assert [[(id, "order.placed", {"number": 7}, {"by": "ada"}, 1)]] * 4 == [
            [(it.id, it.name, it.data, it.metadata, it.attempt) for it in handler.events] for handler in seen
        ]

    async def test_patterns_are_anchored(self, bus: Any, colour: Colour) -> None:
        """A star stands for any run of characters, and everything else for itself."""
        everything, orders, exact = Seen(), Seen(), Seen()
        bus.on("*", id="all")(everything)
        bus.on("order.*", id="orders")(orders)
        bus.on("order", id="exact")(exact)
        names = ["order", "order.placed", "reorder.placed", "orderXplaced"]
        await bus.emit_many([Message(name, name) for name in names])
        assert await drained(bus)
        assert (sorted(names), ["order.placed"], ["order"]) == (sorted(everything.data), orders.data, exact.data)

    async def test_data_is_converted_to_what_the_handler_asks_for(self, bus: Any, colour: Colour) -> None:
        """A handler annotated with `Event[Order]` is given an order."""
        got: list[_Order] = []

        def handle(event: Event[_Order]) -> None:
            got.append(event.data)

        bus.on("order.placed", id="typed")(handle)
        await bus.emit("order.placed", _Order(7, ["tea"]))
        assert await drained(bus)
        assert got == [_Order(7, ["tea"])]

    async def test_async_handlers_run(self, bus: Any, colour: Colour) -> None:
        """A handler may be a coroutine function."""
        got: list[Any] = []

        async def handle(event: Event[Any]) -> None:
            got.append(event.data)

        bus.on("order.placed", id="async")(handle)
        await bus.emit("order.placed", 1)
        assert await drained(bus)
        assert got == [1]

    async def test_emit_many_is_wholly_sent_or_not_at_all(self, bus: Any, colour: Colour) -> None:
        """One event that cannot be encoded keeps all the others back; ids stand in the order of the messages."""
        seen = Seen()
        bus.on("order.*", id="audit", concurrency=1)(seen)
        with pytest.raises(InvalidInputError, match=r"data\.price"):
            await bus.emit_many([Message("order.placed", 1), Message("order.paid", {"price": float("nan")})])
        ids = await bus.emit_many([Message("order.placed", 1), Message("order.paid", 2)])
        assert await drained(bus)
        assert ids == [event.id for event in seen.events]

    async def test_an_event_that_nobody_wants_is_kept_nowhere(
        self, another: Callable[[], EventProvider], context: Context, bus: Any, colour: Colour
    ) -> None:
        """It does not turn up later, its id is not remembered, and `unrouted = "error"` refuses it."""
        await bus.emit("order.placed", 1, id="early")
        strict = colour.voice(EventBus(another(), settings=EventSettings(unrouted="error"), context=context))
        with pytest.raises(NotFoundError, match=r"nobody subscribes to order\.placed"):
            await strict.emit("order.placed", 2)
        seen = Seen()
        await bus.subscribe("order.placed", seen, id="late")
        assert await drained(bus)
        assert seen.data == []
        await bus.emit("order.placed", 3, id="early")
        assert await drained(bus)
        assert seen.data == [3]
        await strict.close()

    async def test_lanes_take_events_while_nobody_reads(self, bus: Any, second: Any, colour: Colour) -> None:
        """What was emitted before any reader began is handled when one does."""
        seen = Seen()
        second.context.role = "emit"
        second.on("order.placed", id="stock")(seen)
        await second.emit("order.placed", 1)
        assert (await info(second, "order.placed stock")).queued == 1
        assert seen.data == []
        bus.on("order.placed", id="stock")(seen)
        await bus.open()
        assert await drained(bus)
        assert seen.data == [1]

    async def test_closing_gives_back_what_was_not_done(
        self, another: Callable[[], EventProvider], context: Context, bus: Any, colour: Colour
    ) -> None:
        """A bus that is closed over a handler at work gives its delivery back: the next bus handles it."""
        held, seen = Held(), Seen()
        first = colour.voice(EventBus(another(), settings=EventSettings(grace=0.02), context=context))
        first.on("order.placed", id="stock", concurrency=1)(held)
        await first.emit("order.placed", 1)
        await held.times(1)
        await first.emit("order.placed", 2)
        await first.close()
        held.let_go()
        bus.on("order.placed", id="stock", concurrency=1)(seen)
        await bus.open()
        assert await drained(bus)
        assert sorted(seen.data) == [1, 2]
        assert seen.attempts == [1, 1]

    async def test_unsubscribing_ends_deliveries(self, provider: EventProvider, bus: Any, colour: Colour) -> None:
        """Nothing more is handled; without DURABLE the lane is gone."""
        seen = Seen()
        await bus.subscribe("order.placed", seen, id="stock")
        assert await bus.unsubscribe("order.placed", id="stock")
        assert not await bus.unsubscribe("order.placed", id="stock")
        await bus.emit("order.placed", 1)
        assert await drained(bus)
        assert seen.data == []
        if lacks(provider, EventCapability.DURABLE):
            assert await bus.lanes() == []

    # The provider alone

    async def test_declaring_again_changes_nothing(self, lane: Reader, colour: Colour) -> None:
        """A lane that is declared twice keeps what it has, and gets each event once."""
        await lane.open()
        await lane.provider.emit([outgoing("1")])
        await lane.provider.declare([LANE])
        await lane.provider.emit([outgoing("2")])
        assert [it.id for it in await lane.take()] == ["1", "2"]

    async def test_a_lane_that_is_declared_later_gets_later_events(self, lane: Reader, colour: Colour) -> None:
        """A name that was emitted before reaches a lane that was declared since."""
        late = EventLane("order.placed late", "order.placed", "late")
        await lane.open()
        await lane.provider.emit([outgoing("1")])
        await lane.provider.declare([late])
        [emitted] = await lane.provider.emit([outgoing("2")])
        assert (["2"], 2) == ([it.id for it in await lane.take(lane=late)], emitted.lanes)

    async def test_receive_hands_out_no_more_than_is_asked_for(self, lane: Reader, colour: Colour) -> None:
        """Capacity bounds a call, and lanes that are not named hand out nothing."""
        await lane.open()
        await lane.provider.emit([outgoing(str(number)) for number in range(3)])
        assert await lane.take(lane=EventLane("other", "other")) == []
        assert ["0", "1"] == [it.id for it in await lane.take(2)]
        assert ["2"] == [it.id for it in await lane.take(2)]
        assert await lane.take(2) == []

    async def test_receive_is_woken_by_an_emit(self, lane: Reader, colour: Colour) -> None:
        """A reader that waits is handed an event as soon as it is emitted, without the clock moving."""
        await lane.open()
        got: list[str] = []
        in_time: list[bool] = []
        woken, enough = Latch(), Latch()

        async def read() -> None:
            got.extend(it.id for it in await lane.provider.receive({LANE.id: 1}, enough))
            woken.set()

        async def emit() -> None:
            await pause(0.02)
            await lane.provider.emit([outgoing("1")])
            in_time.append(await woken.wait(1))
            enough.set()

        await together(read, emit)
        assert (got, in_time) == (["1"], [True])

    async def test_receive_returns_when_it_is_told_to(self, lane: Reader, colour: Colour) -> None:
        """Setting `wake` ends a wait, with nothing."""
        await lane.open()
        wake, ended = Latch(), list[Any]()

        async def read() -> None:
            ended.append(await lane.provider.receive({LANE.id: 1}, wake))

        async def tell() -> None:
            wake.set()

        await together(read, tell)
        assert ended == [[]]

    async def test_a_delivery_is_settled_once(self, lane: Reader, colour: Colour) -> None:
        """Settling again is refused, and changes nothing."""
        await lane.open()
        await lane.provider.emit([outgoing("1")])
        [delivery] = await lane.take()
        assert [[True], [False], [False]] == [
            await lane.settle("done", delivery),
            await lane.settle("done", delivery),
            await lane.settle("retry", delivery),
        ]
        assert await lane.take() == []
        [info] = await lane.provider.lanes()
        assert (0, 0, 0, 1) == (info.queued, info.delayed, info.in_flight, info.succeeded)

    async def test_what_is_given_back_comes_first_and_unharmed(self, lane: Reader, colour: Colour) -> None:
        """It is handed out again before the others, in its order, with the same attempt, and may be settled then."""
        await lane.open()
        await lane.provider.emit([outgoing(str(number)) for number in range(4)])
        await lane.settle("back", *await lane.take(3))
        again = await lane.take()
        assert [(str(number), 1) for number in range(4)] == [(it.id, it.attempt) for it in again]
        assert [True] * 4 == await lane.settle("done", *again)

    async def test_forgetting_removes_a_lane(self, lane: Reader, colour: Colour) -> None:
        """Nothing is routed to it any more, and deliveries under way are refused."""
        await lane.open()
        await lane.provider.emit([outgoing("1"), outgoing("2")])
        [delivery] = await lane.take(1)
        await lane.provider.forget([LANE.id])
        [emitted] = await lane.provider.emit([outgoing("3")])
        assert (0, [False], []) == (emitted.lanes, await lane.settle("done", delivery), await lane.take())
        assert await lane.provider.lanes() == []

    async def test_handlers_run_side_by_side(self, bus: Any, colour: Colour) -> None:
        """As many as `concurrency` says, and no more."""
        held = Held()
        bus.on("order.placed", id="stock", concurrency=2)(held)
        await bus.emit_many([Message("order.placed", number) for number in range(3)])
        await held.times(2)
        lane = await info(bus, "order.placed stock")
        assert (2, 1) == (lane.in_flight, lane.queued)
        held.let_go()
        assert await drained(bus)
        assert [0, 1, 2] == sorted(held.data)

    async def test_threads_and_tasks_emit_together(self, bus: Any, colour: Colour) -> None:
        """Events of many emitters are all handled, once each."""
        seen = Seen()
        bus.on("order.placed", id="stock")(seen)

        async def emit(start: int) -> None:
            for number in range(start, start + 25):
                await bus.emit("order.placed", number)

        await together(*(lambda start=start: emit(start) for start in range(0, 100, 25)))
        assert await drained(bus)
        await soon(lambda: len(seen.events) == 100)
        assert sorted(seen.data) == list(range(100))
