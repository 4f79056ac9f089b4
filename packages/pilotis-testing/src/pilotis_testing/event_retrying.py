"""Whether failed deliveries are tried again as they should be, and given up as they should be."""

from __future__ import annotations

from typing import Any

import pytest
from pilotis.errors import UnsupportedError
from pilotis.modules.event import DeadLetter, Discard, Event, Message, RetryLater
from pilotis.providers import EventCapability, EventProvider

from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import Colour
from pilotis_testing.event_base import (
    LANE,
    PAUSE,
    EventTests,
    Reader,
    Seen,
    advance,
    drained,
    info,
    lacks,
    outgoing,
    soon_delayed,
)


class RetryingTests(EventTests):
    """Attempts, waits and dead letters."""

    async def test_only_what_failed_runs_again(self, bus: Any, colour: Colour, clock: ManualClock) -> None:
        """The other subscriptions of the event are left alone; handlers without an id run all again."""
        good, bad, calm, torn = Seen(), Seen(failures=1), Seen(), Seen(failures=1)
        bus.on("order.placed", id="good", attempts=2)(good)
        bus.on("order.placed", id="bad", attempts=2)(bad)
        bus.on("order.placed", attempts=2)(calm)
        bus.on("order.placed")(torn)
        await bus.emit("order.placed", 1)
        await soon_delayed(bus, "order.placed bad")
        await soon_delayed(bus, "order.placed")
        await advance(clock, PAUSE)
        assert await drained(bus)
        assert [[1], [1, 2], [1, 2], [1, 2]] == [good.attempts, bad.attempts, calm.attempts, torn.attempts]

    async def test_the_last_failure_makes_a_dead_letter(self, bus: Any, colour: Colour, clock: ManualClock) -> None:
        """It holds the event, the error with its traceback, the attempts and the time."""
        bus.on("order.placed", id="stock", attempts=2, backoff=0)(Seen(failures=9, error=ValueError("no tea left")))
        id = await bus.emit("order.placed", {"number": 7}, metadata={"by": "ada"})
        assert await drained(bus)
        [dead] = [it async for it in bus.dead_letters()]
        assert (id, "order.placed", {"number": 7}, {"by": "ada"}, "stock", "order.placed", "failed", 2) == (
            dead.id, dead.name, dead.data, dead.metadata, dead.subscription, dead.pattern, dead.cause, dead.attempts,
        )  # fmt: skip
        assert dead.error == "ValueError: no tea left"
        assert "event_base.py" in dead.traceback
        assert dead.died_at.timestamp() == self.near(clock.time())
        assert (await info(bus, "order.placed stock")).dead == 1

    async def test_data_that_does_not_fit_is_dead_at_once(self, bus: Any, colour: Colour) -> None:
        """The handler is not called, and no attempts are made."""
        called: list[Any] = []

        def handle(event: Event[dict[str, int]]) -> None:
            called.append(event)

        bus.on("order.placed", id="typed", attempts=5)(handle)
        await bus.emit("order.placed", {"number": "seven"})
        assert await drained(bus)
        [dead] = [it async for it in bus.dead_letters()]
        assert ("mismatch", []) == (dead.cause, called)
        assert "order.placed.data[...]: expected int, got str" in dead.error

    async def test_a_handler_may_put_it_off(self, bus: Any, colour: Colour, clock: ManualClock) -> None:
        """`RetryLater` waits as long as it says, and does not count as an attempt."""
        seen = Seen(failures=1, error=RetryLater(after=600))
        bus.on("order.placed", id="stock")(seen)
        await bus.emit("order.placed", 1)
        await soon_delayed(bus, "order.placed stock")
        assert (await info(bus, "order.placed stock")).next_due == self.near(600)
        await advance(clock, 600 + self.slack)
        assert await drained(bus)
        assert seen.attempts == [1, 1]

    async def test_a_handler_may_discard_or_give_up(self, bus: Any, colour: Colour) -> None:
        """`Discard` counts as handled; `DeadLetter` makes one at once."""
        bus.on("order.placed", id="discards", attempts=5)(Seen(failures=9, error=Discard("not ours")))
        bus.on("order.placed", id="gives-up", attempts=5)(Seen(failures=9, error=DeadLetter("bad address")))
        await bus.emit("order.placed", 1)
        assert await drained(bus)
        [dead] = [it async for it in bus.dead_letters()]
        assert ("gives-up", "given up", 1, "DeadLetter: bad address") == (
            dead.subscription, dead.cause, dead.attempts, dead.error,
        )  # fmt: skip
        assert (await info(bus, "order.placed discards")).succeeded == 1

    async def test_a_delayed_event_waits(
        self, provider: EventProvider, bus: Any, colour: Colour, clock: ManualClock
    ) -> None:
        """It is handled after its delay and not before; without DELAY it is refused."""
        seen = Seen()
        bus.on("order.placed", id="stock")(seen)
        if lacks(provider, EventCapability.DELAY):
            with pytest.raises(UnsupportedError):
                await bus.emit("order.placed", 1, delay=5)
            return
        await bus.emit("order.placed", 1, delay=500)
        assert not await bus.drain(400 - self.slack)
        await advance(clock, 499.999 - self.slack)
        lane = await info(bus, "order.placed stock")
        assert (0, 1, []) == (lane.queued, lane.delayed, seen.data)
        await advance(clock, 0.001 + self.slack)
        assert await drained(bus)
        assert seen.data == [1]

    async def test_delayed_events_come_in_the_order_of_their_time(
        self, lane: Reader, colour: Colour, clock: ManualClock
    ) -> None:
        """Whatever the order in which they were emitted."""
        if lacks(lane.provider, EventCapability.DELAY):
            return
        await lane.open()
        await lane.provider.emit([outgoing(str(delay), delay=delay) for delay in (3.0, 1.0, 2.0)])
        assert await lane.take() == []
        clock.advance(5)
        await lane.provider.emit([outgoing("now")])
        assert ["1.0", "2.0", "3.0", "now"] == [it.id for it in await lane.take()]

    async def test_a_retry_counts_unless_it_does_not(self, lane: Reader, colour: Colour, clock: ManualClock) -> None:
        """The provider numbers the attempts, and hands out after the delay alone."""
        await lane.open()
        await lane.provider.emit([outgoing("1")])
        numbers: list[int] = []
        for counted in (True, False, True, True):
            [delivery] = await lane.take()
            numbers.append(delivery.attempt)
            await lane.settle("retry", delivery, delay=7, counted=counted)
            assert await lane.take() == []
            clock.advance(7)
        assert numbers == [1, 2, 2, 3]

    async def test_one_bad_delivery_holds_up_nobody(self, bus: Any, colour: Colour) -> None:
        """While one event waits for its next attempt, those after it are handled."""
        seen = Seen(failures=1)
        bus.on("order.placed", id="stock", attempts=2, concurrency=1)(seen)
        await bus.emit_many([Message("order.placed", number) for number in range(3)])
        await seen.times(3)
        assert seen.data == [0, 1, 2]

    async def test_replay_puts_dead_letters_back_once(self, bus: Any, colour: Colour) -> None:
        """With all their attempts, those that are asked for alone; a second replay finds nothing."""
        seen = Seen(failures=2)
        bus.on("order.placed", id="stock", concurrency=1)(seen)
        ids = await bus.emit_many([Message("order.placed", number) for number in range(2)])
        assert await drained(bus)
        assert await bus.replay([ids[1]]) == 1
        assert await drained(bus)
        assert (0, 0) == (await bus.replay([ids[1]]), await bus.replay(subscription="other"))
        assert await bus.replay() == 1
        assert await drained(bus)
        assert ([0, 1, 1, 0], [1, 1, 1, 1]) == (seen.data, seen.attempts)
        assert [] == [it async for it in bus.dead_letters()]

    async def test_dead_letters_are_narrowed_down(self, bus: Any, colour: Colour, clock: ManualClock) -> None:
        """By subscription, name and time, the oldest first; and purged by age."""
        bus.on("order.*", id="stock")(Seen(failures=9))
        bus.on("order.paid", id="mail")(Seen(failures=9))
        await bus.emit("order.placed", 1)
        assert await drained(bus)
        clock.advance(60)
        await bus.emit("order.paid", 2)
        assert await drained(bus)

        async def found(**where: Any) -> list[tuple[Any, Any]]:
            return sorted([(it.data, it.subscription) async for it in bus.dead_letters(**where)])

        assert await found() == [(1, "stock"), (2, "mail"), (2, "stock")]
        assert await found(subscription="mail") == [(2, "mail")]
        assert await found(name="order.placed") == [(1, "stock")]
        assert await found(since=clock.time() - 30) == [(2, "mail"), (2, "stock")]
        assert 1 == next(iter([it.data async for it in bus.dead_letters()]))
        assert await bus.purge_dead(older_than=30) == 1
        assert await found() == [(2, "mail"), (2, "stock")]
        assert await bus.purge_dead("mail") == 1
        assert await found() == [(2, "stock")]

    async def test_dead_letters_are_kept_as_they_died(self, lane: Reader, colour: Colour) -> None:
        """The provider keeps cause, error, traceback and attempts of each lane's letters."""
        await lane.open()
        await lane.provider.emit([outgoing("1")])
        [delivery] = await lane.take()
        await lane.settle("retry", delivery)
        [delivery] = await lane.take()
        await lane.settle("dead", delivery, cause="given up", error="E: no", traceback="in f")
        from pilotis.providers import DeadFilter

        [dead] = [it async for it in lane.provider.dead(DeadFilter())]
        assert (LANE, "1", "given up", "E: no", "in f", 2) == (
            dead.lane, dead.id, dead.cause, dead.error, dead.traceback, dead.attempts,
        )  # fmt: skip
