"""Which event comes first, which comes at all, and which come together."""

from __future__ import annotations

from typing import Any

import pytest
from pilotis.errors import InvalidInputError, NotFoundError, UnsupportedError
from pilotis.modules.event import Message
from pilotis.providers import ID_TTL, EventCapability, EventProvider

from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import Colour, together
from pilotis_testing.event_base import (
    PAUSE,
    EventTests,
    Held,
    Reader,
    Seen,
    advance,
    drained,
    info,
    lacks,
    outgoing,
    soon_delayed,
    soon_free,
)


class OrderingTests(EventTests):
    """Priority, keys, repetitions, groups, and what operators do."""

    async def test_undeclared_capabilities_are_refused(self, provider: EventProvider, bus: Any, colour: Colour) -> None:
        """An option whose capability is declared is taken, and one whose is not raises `UnsupportedError`."""
        options: dict[EventCapability, dict[str, Any]] = {
            EventCapability.DELAY: {"delay": 1},
            EventCapability.PRIORITY: {"priority": "high"},
            EventCapability.ORDER: {"key": "k"},
            EventCapability.DEDUPE: {"dedupe": "d"},
            EventCapability.GROUPS: {"group": "g"},
        }
        for capability, option in options.items():
            if lacks(provider, capability):
                with pytest.raises(UnsupportedError):
                    await bus.emit("order.placed", **option)
            else:
                assert await bus.emit("order.placed", **option)

    async def test_high_comes_before_normal_before_low(self, lane: Reader, colour: Colour) -> None:
        """Among what waits; within a priority, in the order of emission."""
        if lacks(lane.provider, EventCapability.PRIORITY):
            return
        await lane.open()
        priorities = ("low", "normal", "high", "normal", "high")
        await lane.provider.emit([outgoing(f"{n}", priority=it) for n, it in enumerate(priorities)])
        assert ["2", "4", "1", "3", "0"] == [it.id for it in await lane.take()]

    async def test_what_is_urgent_overtakes_what_waits(self, provider: EventProvider, bus: Any, colour: Colour) -> None:
        """An urgent event that comes while the handlers are busy is the next to be handled."""
        if lacks(provider, EventCapability.PRIORITY):
            return
        held = Held()
        bus.on("order.placed", id="stock", concurrency=1)(held)
        await bus.emit("order.placed", 0)
        await held.times(1)
        for number, priority in ((1, "low"), (2, "normal"), (3, "high")):
            await bus.emit("order.placed", number, priority=priority)
        held.let_go()
        assert await drained(bus)
        assert held.data == [0, 3, 2, 1]

    async def test_events_of_a_key_are_handled_one_after_the_other(
        self, provider: EventProvider, bus: Any, colour: Colour, clock: ManualClock
    ) -> None:
        """The later ones wait while the first is retried; events of other keys go ahead."""
        if lacks(provider, EventCapability.ORDER):
            return
        seen = Seen(failures=1)
        bus.on("order.*", id="stock", attempts=2, concurrency=4)(seen)
        await bus.emit("order.placed", "a1", key="a")
        await seen.times(1)
        await bus.emit_many([Message("order.paid", "a2", key="a"), Message("order.placed", "b1", key="b")])
        await seen.times(2)
        await soon_delayed(bus, "order.* stock")
        await soon_free(bus, "order.* stock")
        assert (["a1", "b1"], 1) == (seen.data, (await info(bus, "order.* stock")).held)
        await advance(clock, PAUSE)
        assert await drained(bus)
        assert seen.data == ["a1", "b1", "a1", "a2"]

    async def test_a_key_waits_for_its_first_event_until_that_is_over(
        self, lane: Reader, colour: Colour, clock: ManualClock
    ) -> None:
        """Delayed, in flight, retried or given back: the next is handed out once the first is done, or dead."""
        if lacks(lane.provider, EventCapability.ORDER | EventCapability.DELAY):
            return
        await lane.open()
        await lane.provider.emit([outgoing("1", key="k", delay=5.0), outgoing("2", key="k"), outgoing("3", key="k")])
        assert await lane.take() == []
        clock.advance(5)
        [first] = await lane.take()
        assert (first.id, await lane.take()) == ("1", [])
        await lane.settle("back", first)
        [first] = await lane.take()
        await lane.settle("retry", first, delay=5)
        assert await lane.take() == []
        clock.advance(5)
        [first] = await lane.take()
        await lane.settle("dead", first)
        [second] = await lane.take()
        await lane.settle("done", second)
        [third] = await lane.take()
        assert ("1", "2", "3") == (first.id, second.id, third.id)

    async def test_a_key_orders_each_lane_on_its_own(self, provider: EventProvider, bus: Any, colour: Colour) -> None:
        """A subscription that is stuck on a key does not hold up the others; a key with a priority is refused."""
        if lacks(provider, EventCapability.ORDER):
            return
        stuck, free = Held(), Seen()
        bus.on("order.placed", id="stuck")(stuck)
        bus.on("order.placed", id="free")(free)
        await bus.emit_many([Message("order.placed", number, key="k") for number in range(3)])
        await free.times(3)
        await stuck.times(1)
        assert ([0], [0, 1, 2]) == (stuck.data, free.data)
        stuck.let_go()
        with pytest.raises(InvalidInputError, match="priority"):
            await bus.emit("order.placed", key="k", priority="high")

    async def test_an_id_is_taken_once_a_day(
        self, provider: EventProvider, bus: Any, colour: Colour, clock: ManualClock
    ) -> None:
        """Emitting it again answers with the same id and does nothing, for 24 hours."""
        if lacks(provider, EventCapability.DEDUPE):
            return
        seen = Seen()
        bus.on("order.placed", id="stock", concurrency=1)(seen)
        mine = await bus.emit("order.placed", 0)
        assert [mine] == [await bus.emit("order.placed", 1, id=mine)]
        assert ["x", "x"] == await bus.emit_many([Message("order.placed", n, id="x") for n in (2, 3)])
        clock.advance(ID_TTL - self.slack - 1)
        await bus.emit("order.placed", 4, id="x")
        clock.advance(self.slack + 2)
        await bus.emit("order.placed", 5, id="x")
        assert await drained(bus)
        assert seen.data == [0, 2, 5]

    async def test_a_dedupe_value_is_taken_once_in_its_time(
        self, provider: EventProvider, bus: Any, colour: Colour, clock: ManualClock
    ) -> None:
        """Per name, for `dedupe_ttl` seconds; the answer is the id of the event that was kept."""
        if lacks(provider, EventCapability.DEDUPE):
            return
        seen = Seen()
        bus.on("order.*", id="stock", concurrency=1)(seen)
        first = await bus.emit("order.placed", 0, dedupe="d", dedupe_ttl=600)
        assert first == await bus.emit("order.placed", 1, dedupe="d", dedupe_ttl=600)
        assert first != await bus.emit("order.paid", 2, dedupe="d", dedupe_ttl=600)
        clock.advance(599 - self.slack)
        assert first == await bus.emit("order.placed", 3, dedupe="d", dedupe_ttl=600)
        clock.advance(1 + self.slack)
        assert first != await bus.emit("order.placed", 4, dedupe="d", dedupe_ttl=600)
        assert await drained(bus)
        assert seen.data == [0, 2, 4]

    async def test_emitters_at_once_share_one_event(self, provider: EventProvider, bus: Any, colour: Colour) -> None:
        """Of many that emit one id at the same time, one succeeds."""
        if lacks(provider, EventCapability.DEDUPE):
            return
        seen = Seen()
        bus.on("order.placed", id="stock")(seen)
        await bus.open()
        await together(*(lambda: bus.emit("order.placed", id="same") for _ in range(8)))
        assert await drained(bus)
        assert len(seen.events) == 1

    async def test_a_group_is_released_together(self, provider: EventProvider, bus: Any, colour: Colour) -> None:
        """Nothing leaves before; in order; a second release finds nothing; delays count from the release."""
        if lacks(provider, EventCapability.GROUPS):
            return
        seen = Seen()
        bus.on("order.*", id="stock", concurrency=1)(seen)
        for number in range(3):
            await bus.emit("order.placed", number, group="g")
        await bus.emit("order.placed", "other", group="h")
        assert (await info(bus, "order.* stock")).emitted == 0
        assert (3, 0) == (await bus.release_group("g"), await bus.release_group("g"))
        assert await drained(bus)
        assert seen.data == [0, 1, 2]

    async def test_a_list_may_name_several_groups(self, provider: EventProvider, bus: Any, colour: Colour) -> None:
        """What has none leaves at once; each group waits for its own release."""
        if lacks(provider, EventCapability.GROUPS):
            return
        seen = Seen()
        bus.on("order.*", id="stock", concurrency=1)(seen)
        groups = ["g", "h", None, "g"]
        await bus.emit_many([Message("order.placed", number, group=group) for number, group in enumerate(groups)])
        assert (await info(bus, "order.* stock")).emitted == 1
        assert (1, 2) == (await bus.release_group("h"), await bus.release_group("g"))
        assert await drained(bus)
        assert [2, 1, 0, 3] == seen.data

    async def test_a_group_is_cleared(self, provider: EventProvider, bus: Any, colour: Colour) -> None:
        """Wholly, or of some names alone."""
        if lacks(provider, EventCapability.GROUPS):
            return
        seen = Seen()
        bus.on("order.*", id="stock", concurrency=1)(seen)
        await bus.emit_many([Message("order.placed", 1), Message("order.paid", 2), Message("order.paid", 3)], group="g")
        assert (2, 1, 0) == (
            await bus.clear_group("g", ["order.paid"]),
            await bus.clear_group("g"),
            await bus.release_group("g"),
        )
        assert await drained(bus)
        assert seen.data == []

    async def test_a_paused_lane_hands_out_nothing(self, bus: Any, colour: Colour) -> None:
        """It goes on taking events, which are handled when it is resumed."""
        seen, other = Seen(), Seen()
        bus.on("order.placed", id="stock", concurrency=1)(seen)
        bus.on("order.placed", id="mail")(other)
        await bus.pause("stock")
        await bus.emit_many([Message("order.placed", number) for number in range(2)])
        await other.times(2)
        lane = await info(bus, "order.placed stock")
        assert (True, 2, []) == (lane.paused, lane.queued, seen.data)
        await bus.resume("stock")
        assert await drained(bus)
        assert seen.data == [0, 1]
        with pytest.raises(NotFoundError, match="there are: mail, stock"):
            await bus.pause("stok")

    async def test_purging_drops_what_waits(self, lane: Reader, colour: Colour, clock: ManualClock) -> None:
        """Ready, delayed and held events go; what is in flight, and the dead letters, stay."""
        await lane.open()
        order = "k" if not lacks(lane.provider, EventCapability.ORDER) else None
        delay = 5.0 if not lacks(lane.provider, EventCapability.DELAY) else 0.0
        await lane.provider.emit([outgoing("dead"), outgoing("flying", key=order)])
        dead, flying = await lane.take()
        await lane.settle("dead", dead)
        await lane.provider.emit([outgoing("1", delay=delay), outgoing("2"), outgoing("3", key=order)])
        assert await lane.provider.purge(["order.* audit", "unknown"]) == 3
        clock.advance(10)
        assert await lane.settle("done", flying) == [True]
        assert await lane.take() == []
        [lane_info] = await lane.provider.lanes()
        assert (0, 0, 0, 0, 1) == (
            lane_info.queued, lane_info.delayed, lane_info.held, lane_info.in_flight, lane_info.dead,
        )  # fmt: skip

    async def test_lanes_tell_how_they_are_doing(self, lane: Reader, colour: Colour) -> None:
        """What was emitted, handled, retried and given up is counted for each lane."""
        await lane.open()
        await lane.provider.emit([outgoing(str(number)) for number in range(4)])
        done, retried, dead = await lane.take(3)
        await lane.settle("done", done)
        await lane.settle("retry", retried, delay=300)
        await lane.settle("dead", dead)
        [it] = await lane.provider.lanes()
        assert ("order.* audit", "order.*", "audit", False) == (it.lane, it.pattern, it.subscription, it.paused)
        assert (4, 1, 1, 1) == (it.emitted, it.succeeded, it.retried, it.died)
        assert (1, 1, self.near(300), 0, 1) == (it.queued, it.delayed, it.next_due, it.in_flight, it.dead)
