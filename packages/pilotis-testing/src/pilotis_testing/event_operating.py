"""What operators see of lanes and dead letters, and do with them."""

from __future__ import annotations

import os
from typing import Any

import pytest
from pilotis.bridge import pause
from pilotis.errors import NotFoundError, UnsupportedError, UsageError
from pilotis.modules.event import Message
from pilotis.providers import DeadFilter, EventCapability, EventLane, EventProvider

from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import Colour, together
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


class OperatingTests(EventTests):
    """Looking on, looking after, clearing up."""

    # Lanes

    async def test_declaring_answers_with_what_was_known(self, lane: Reader, colour: Colour) -> None:
        """None for a new lane, and what was declared last for others."""
        await lane.open()
        changed = EventLane("order.* audit", "order.*", "audit", max_crashes=7, handlers=("shop.audit",))
        new = EventLane("order.placed", "order.placed", handlers=("shop.mail", "shop.stock"))
        assert [LANE, None] == await lane.provider.declare([changed, new])
        assert [new, changed] == await lane.provider.declare([new, changed])

    async def test_all_lanes_are_declared_in_any_role(self, bus: Any, second: Any, colour: Colour) -> None:
        """A process that only emits makes the lanes too, and is told what was new, changed, known, and is stale."""
        bus.on("order.placed", id="old")(Seen())
        bus.on("order.placed", id="same")(Seen())
        bus.on("order.placed")(Seen())
        await bus.open()
        second.context.role = "emit"
        second.on("order.placed", id="same")(Seen())
        second.on("order.placed")(Seen())
        second.on("order.placed")(Seen())
        second.on("order.paid", id="new")(Seen())
        for _ in range(2):
            told = await second.declare_all()
            assert (["order.paid new"], ["order.placed"], ["order.placed same"], ["order.placed old"]) == (
                told.new, told.changed, told.known, told.stale,
            )  # fmt: skip
        assert (await info(bus, "order.paid new")).emitted == 0

    async def test_a_subscription_is_forgotten_for_good(self, bus: Any, second: Any, colour: Colour) -> None:
        """With all that waits and its dead letters, unless this process subscribes to it."""
        seen = Seen(failures=1)
        bus.on("order.placed", id="stock", concurrency=1)(seen)
        await bus.emit("order.placed", 1)
        assert await drained(bus)
        await bus.pause("stock")
        await bus.emit("order.placed", 2)
        with pytest.raises(UsageError, match=r"has handlers for 'order\.placed stock'"):
            await bus.forget("stock")
        second.context.role = "emit"
        with pytest.raises(NotFoundError, match="'stok'; there are: stock"):
            await second.forget("stok")
        assert await second.forget("stock") == 1
        assert ([], []) == (await second.lanes(), [it async for it in second.dead_letters()])
        assert seen.data == [1]

    async def test_lanes_tell_their_lag(self, lane: Reader, colour: Colour, clock: ManualClock) -> None:
        """For how long what waits has been due; nothing where nothing waits, or is in flight, or has not come due."""
        has_delay = not lacks(lane.provider, EventCapability.DELAY)
        await lane.open()
        await lane.provider.emit([outgoing("1"), outgoing("2")])
        if has_delay:
            await lane.provider.emit([outgoing("3", delay=500)])
        clock.advance(100)
        assert await self._lag(lane) == self.near(100)
        deliveries = await lane.take()
        assert await self._lag(lane) is None
        await lane.settle("done", *deliveries)
        assert await self._lag(lane) is None
        if has_delay:
            clock.advance(470)
            assert await self._lag(lane) == self.near(70)

    async def _lag(self, lane: Reader) -> float | None:
        [it] = await lane.provider.lanes()
        return it.oldest

    async def test_what_is_handed_out_is_counted(self, lane: Reader, colour: Colour) -> None:
        """Each attempt anew, and what is given back too: it never falls. What is settled in vain is not handled."""
        await lane.open()
        await lane.provider.emit([outgoing("1")])
        [first] = await lane.take()
        assert (1, 1, 0) == await self._counts(lane)
        await lane.settle("retry", first)
        [second] = await lane.take()
        assert (2, 1, 0) == await self._counts(lane)
        await lane.settle("back", second)
        assert (2, 0, 0) == await self._counts(lane)
        [third] = await lane.take()
        assert [True, False] == [*await lane.settle("done", third), *await lane.settle("done", first)]
        assert (3, 0, 1) == await self._counts(lane)

    async def _counts(self, lane: Reader) -> tuple[int, int, int]:
        [it] = await lane.provider.lanes()
        return it.delivered, it.in_flight, it.succeeded

    async def test_a_bus_goes_on_after_what_it_settled_in_vain(
        self, bus: Any, provider: EventProvider, colour: Colour, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Refused deliveries are counted and told, and the next ones are handled."""
        seen = Seen()

        async def handle(event: Any) -> None:
            seen(event)
            if event.data == 1:
                await provider.forget(["order.placed stock"])

        bus.on("order.placed", id="stock", concurrency=1)(handle)
        bus.on("order.paid", id="mail")(seen)
        await bus.emit("order.placed", 1, id="lost")
        await seen.times(1)
        await bus.emit("order.paid", 2)
        assert await drained(bus)
        assert (1, [1, 2]) == (bus.fenced, seen.data)
        assert "1 deliveries were no longer this process's" in caplog.text
        assert "lost of 'order.placed stock'" in caplog.text

    # Dead letters

    async def test_a_dead_letter_tells_its_story(self, bus: Any, colour: Colour, clock: ManualClock) -> None:
        """When it failed first and when it died, who had it, how often it ran, and that nobody died of it."""
        bus.on("order.placed", id="stock", attempts=2)(Seen(failures=9))
        start = clock.time()
        await bus.emit("order.placed")
        await soon_delayed(bus, "order.placed stock")
        await advance(clock, PAUSE + self.slack)
        assert await drained(bus)
        [dead] = [it async for it in bus.dead_letters()]
        assert (2, 0) == (dead.attempts, dead.crashes)
        assert dead.first_at.timestamp() == self.near(start)
        assert (dead.died_at - dead.first_at).total_seconds() == self.near(PAUSE + self.slack)
        assert str(os.getpid()) in dead.worker

    async def test_what_is_put_off_has_not_failed(self, lane: Reader, colour: Colour, clock: ManualClock) -> None:
        """A letter's first time is that of its first failure; with one failure, that of its death."""
        await lane.open()
        await lane.provider.emit([outgoing("1")])
        for counted in (False, True, True):
            [delivery] = await lane.take()
            await lane.settle("retry", delivery, counted=counted, delay=900)
            clock.advance(1000)
        [delivery] = await lane.take()
        await lane.settle("dead", delivery)
        await lane.provider.emit([outgoing("2")])
        [delivery] = await lane.take()
        await lane.settle("dead", delivery)
        found = {it.id: it async for it in lane.provider.dead(DeadFilter())}
        assert (found["1"].died_at - found["1"].first_at, 3) == (self.near(2000), found["1"].attempts)
        assert found["2"].first_at == found["2"].died_at

    async def test_replaying_side_by_side_puts_letters_back_once(self, bus: Any, colour: Colour) -> None:
        """However many ask, each letter is handled once more, and counted by one of them."""
        seen = Seen(failures=10)
        bus.on("order.placed", id="stock", concurrency=1)(seen)
        ids = await bus.emit_many([Message("order.placed", number) for number in range(10)])
        assert await drained(bus)
        counts = await together(*(lambda: bus.replay(ids) for _ in range(4)))
        assert await drained(bus)
        assert (10, [*range(10), *range(10)]) == (sum(counts), sorted(seen.data[:10]) + sorted(seen.data[10:]))

    async def test_what_is_replayed_may_die_again(self, bus: Any, colour: Colour, clock: ManualClock) -> None:
        """With all its attempts, and a story of its own."""
        seen = Seen(failures=9)
        bus.on("order.placed", id="stock", attempts=2, backoff=0)(seen)
        await bus.emit("order.placed")
        assert await drained(bus)
        clock.advance(1000)
        assert await bus.replay(subscription="stock") == 1
        assert await drained(bus)
        [dead] = [it async for it in bus.dead_letters()]
        assert ([1, 2, 1, 2], 2) == (seen.attempts, dead.attempts)
        assert dead.first_at.timestamp() == self.near(clock.time())

    # Looking on

    async def test_events_can_be_looked_at_as_they_are_emitted(
        self, bus: Any, second: Any, provider: EventProvider, colour: Colour
    ) -> None:
        """Those of a pattern, whoever emits them and whoever subscribes, and nothing is handled by that."""
        if lacks(provider, EventCapability.TAIL):
            with pytest.raises(UnsupportedError):
                [it async for it in bus.tail()]
            return
        looking = [True]
        seen: list[Any] = []

        async def look() -> None:
            async for event in bus.tail("order.*"):
                seen.append((event.name, event.data, event.metadata, event.attempt))
                break
            looking.clear()

        async def emit() -> None:
            while looking:  # somebody who came later would not be told of the first
                await second.emit_many([Message("stock.low", 1), Message("order.placed", 2, metadata={"by": "ada"})])
                await pause(0.005)

        await together(look, emit)
        assert [("order.placed", 2, {"by": "ada"}, 0)] == seen
        assert await bus.lanes() == []
