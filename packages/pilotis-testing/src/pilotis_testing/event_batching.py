"""Whether handlers are given several events at a time, and may fail for some of them."""

from __future__ import annotations

from typing import Any

from pilotis.modules.event import DeadLetter, Discard, Message, PartialFailure, RetryLater
from pilotis.providers import EventCapability, EventProvider

from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import Colour, soon
from pilotis_testing.event_base import PAUSE, EventTests, advance, drained, info, lacks, soon_delayed


class Batches:
    """A handler of batches that notes the data of each, and fails as it is told."""

    def __init__(self, errors: dict[Any, BaseException] | None = None, raises: BaseException | None = None) -> None:
        self.runs: list[list[tuple[Any, int]]] = []
        self._errors = errors or {}
        self._raises = raises

    def __call__(self, events: list[Any]) -> None:
        self.runs.append([(event.data, event.attempt) for event in events])
        if self._raises is not None:
            raise self._raises
        failures = {event.id: self._errors[event.data] for event in events if event.data in self._errors}
        if failures:
            raise PartialFailure(failures)


LANE = "order.placed bulk"


class BatchingTests(EventTests):
    """Batches."""

    async def test_a_batch_is_whole_or_what_came_in_its_time(
        self, bus: Any, colour: Colour, clock: ManualClock
    ) -> None:
        """A handler is given as many events as it takes; fewer once the first has waited for `within`."""
        handler = Batches()
        bus.on("order.placed", id="bulk", batch=3, within=50, concurrency=1)(handler)
        await bus.emit_many([Message("order.placed", number) for number in range(4)])
        await soon(lambda: len(handler.runs) == 1 and clock.waiting > 0)
        await advance(clock, 50)
        assert await drained(bus)
        assert [[(0, 1), (1, 1), (2, 1)], [(3, 1)]] == handler.runs

    async def test_only_the_failed_of_a_batch_are_repeated(self, bus: Any, colour: Colour, clock: ManualClock) -> None:
        """`PartialFailure` names them; the others are done. What failed for the last time is a dead letter."""
        handler = Batches({"bad": ValueError("no tea"), "worse": KeyError("cup")})
        bus.on("order.placed", id="bulk", batch=4, within=0, attempts=2, concurrency=1)(handler)
        await bus.emit_many([Message("order.placed", data) for data in ("good", "bad", "fine")])
        await bus.emit("order.placed", "worse", attempts=1)
        await soon_delayed(bus, LANE)
        await soon(lambda: sum(map(len, handler.runs)) == 4)
        await advance(clock, PAUSE)
        assert await drained(bus)
        runs = sorted(run for batch in handler.runs for run in batch)
        assert [("bad", 1), ("bad", 2), ("fine", 1), ("good", 1), ("worse", 1)] == runs
        found = sorted([(it.data, it.error, it.attempts) async for it in bus.dead_letters()])
        assert [("bad", "ValueError: no tea", 2), ("worse", "KeyError: 'cup'", 1)] == found
        assert (await info(bus, LANE)).succeeded == 2

    async def test_each_event_of_a_batch_may_end_in_its_own_way(
        self, bus: Any, colour: Colour, clock: ManualClock
    ) -> None:
        """`RetryLater`, `Discard` and `DeadLetter` mean for one event what they mean when a handler raises them."""
        handler = Batches({"later": RetryLater(200), "useless": Discard(), "hopeless": DeadLetter("no address")})
        bus.on("order.placed", id="bulk", batch=4, within=0, attempts=5, concurrency=1)(handler)
        await bus.emit_many([Message("order.placed", data) for data in ("good", "later", "useless", "hopeless")])
        await soon_delayed(bus, LANE)
        await soon(lambda: sum(map(len, handler.runs)) == 4)
        assert (await info(bus, LANE)).next_due == self.near(200)
        handler._errors.clear()  # pyright: ignore[reportPrivateUsage]
        await advance(clock, 200 + self.slack)
        assert await drained(bus)
        assert [("later", 1)] == handler.runs[-1]
        assert [("hopeless", "given up")] == [(it.data, it.cause) async for it in bus.dead_letters()]
        assert (await info(bus, LANE)).succeeded == 3

    async def test_words_for_a_batch_hold_for_all_of_it(self, bus: Any, colour: Colour) -> None:
        """What a handler raises for itself, without naming events, is the end of each."""
        for id, error in (("discards", Discard()), ("gives-up", DeadLetter("closed")), ("fails", ValueError("x"))):
            bus.on("order.placed", id=id, batch=2, within=0)(Batches(raises=error))
        await bus.emit_many([Message("order.placed", number) for number in range(2)])
        assert await drained(bus)
        found = sorted([(it.subscription, it.cause, it.data) async for it in bus.dead_letters()])
        dead = [
            ("fails", "failed", 0),
            ("fails", "failed", 1),
            ("gives-up", "given up", 0),
            ("gives-up", "given up", 1),
        ]
        assert dead == found
        assert (await info(bus, "order.placed discards")).succeeded == 2

    async def test_a_failure_of_an_event_that_is_not_in_the_batch_fails_all(self, bus: Any, colour: Colour) -> None:
        """Nothing is lost by a handler that mistakes one id for another."""
        bus.on("order.placed", id="bulk", batch=2, within=0)(
            Batches(raises=PartialFailure({"stranger": ValueError("x")}))
        )
        await bus.emit_many([Message("order.placed", number) for number in range(2)])
        assert await drained(bus)
        errors = [it.error async for it in bus.dead_letters()]
        assert ["InvalidInputError: PartialFailure: no event of the batch has the id 'stranger'"] * 2 == errors

    async def test_a_batch_holds_one_event_of_a_key(self, provider: EventProvider, bus: Any, colour: Colour) -> None:
        """The next one comes in a later batch, once the one before is over."""
        if lacks(provider, EventCapability.ORDER):
            return
        handler = Batches({"1": ValueError("never")})
        bus.on("order.placed", id="bulk", batch=10, within=0, attempts=2, backoff=0, concurrency=1)(handler)
        await bus.emit_many([Message("order.placed", data, key="k") for data in "012"])
        assert await drained(bus)
        assert [[("0", 1)], [("1", 1)], [("1", 2)], [("2", 1)]] == handler.runs
