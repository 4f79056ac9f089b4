"""Whether the processes of a service share the work, and outlive one another."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from pilotis.bridge import pause
from pilotis.modules.event import Message
from pilotis.providers import Context, DeadEvent, DeadFilter, EventCapability, EventProvider

from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import Colour, soon
from pilotis_testing.event_base import PATIENCE, EventTests, Reader, Seen, advance, drained, lacks, outgoing, soon_info


class OneAtATime:
    """A handler that notes its runs by key, and whether two of one key were ever under way together."""

    def __init__(self, failures: dict[tuple[str, int], int]) -> None:
        self.runs: dict[str, list[tuple[int, int]]] = {}
        self.overlaps = 0
        self._failures = failures
        self._lock = threading.Lock()
        self._active: Counter[str] = Counter()

    async def __call__(self, event: Any) -> None:
        key, number = event.data
        with self._lock:
            self.runs.setdefault(key, []).append((number, event.attempt))
            self._active[key] += 1
            self.overlaps += self._active[key] > 1
        await pause(0.001)
        with self._lock:
            self._active[key] -= 1
        if event.attempt <= self._failures.get((key, number), 0):
            raise ValueError("not yet")


class SharingTests(EventTests):
    """Two processes, and those that die."""

    async def test_processes_share_the_work(self, bus: Any, second: Any, colour: Colour) -> None:
        """Each event is handled once for each subscription, by whoever is free."""
        seen = Seen()
        for it in (bus, second):
            it.on("order.placed", id="stock")(seen)
            await it.open()
        await bus.emit_many([Message("order.placed", number) for number in range(50)])
        await second.emit_many([Message("order.placed", number) for number in range(50, 100)])
        assert await drained(bus)
        assert list(range(100)) == sorted(seen.data)

    async def test_a_key_is_handled_in_order_by_several_processes(
        self, bus: Any, second: Any, provider: EventProvider, colour: Colour, clock: ManualClock
    ) -> None:
        """One at a time, through delays, retries and dead letters, while other keys go on."""
        if lacks(provider, EventCapability.ORDER | EventCapability.DELAY):
            return
        handler = OneAtATime({("a", 1): 1, ("a", 2): 9, ("b", 0): 1, ("c", 3): 2})
        for it in (bus, second):
            it.on("order.placed", id="stock", attempts=3, backoff=0, concurrency=4)(handler)
            await it.open()
        messages = [
            Message("order.placed", [key, number], key=key, delay=300 if (key, number) == ("c", 1) else None)
            for number in range(4)
            for key in "abc"
        ]
        await bus.emit_many(messages[:6])
        await second.emit_many(messages[6:])
        await soon(lambda: {key: len(runs) for key, runs in handler.runs.items()} == {"a": 7, "b": 5, "c": 1})
        assert [(0, 1)] == handler.runs["c"]
        await advance(clock, 300 + self.slack)
        assert await drained(bus)
        assert (0, [(0, 1), (1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 1)]) == (handler.overlaps, handler.runs["a"])
        assert [(0, 1), (0, 2), (1, 1), (2, 1), (3, 1)] == handler.runs["b"]
        assert [(0, 1), (1, 1), (2, 1), (3, 1), (3, 2), (3, 3)] == handler.runs["c"]

    async def test_a_periodic_event_is_emitted_once_for_all(
        self, bus: Any, second: Any, provider: EventProvider, colour: Colour, clock: ManualClock
    ) -> None:
        """Each fire of `every` and `cron`, although each process keeps the time."""
        if lacks(provider, EventCapability.DEDUPE):
            return
        seen = Seen()
        for it in (bus, second):
            it.on("report.*", id="reports", concurrency=1)(seen)
            it.every(600, "report.often", "often")
            it.cron("*/20 * * * *", "report.rarely", "rarely")
            await it.open()
        for _ in range(4):
            await soon(lambda: clock.waiting >= 4)
            clock.advance(600)
        await soon(lambda: clock.waiting >= 4)  # all have emitted, and wait for the next time
        assert await drained(bus)
        assert {"often": 4, "rarely": 2} == Counter(seen.data)

    async def test_lanes_tell_who_reads_them(
        self, bus: Any, second: Any, provider: EventProvider, colour: Colour
    ) -> None:
        """How many live processes, and whether they differ on what the handlers without an id are."""
        bus.on("order.placed")(Seen())
        bus.on("order.placed", id="stock")(Seen())
        second.on("order.placed")(Seen())
        second.on("order.placed")(OneAtATime({}))
        await bus.open()
        await second.open()
        if lacks(provider, EventCapability.DURABLE):
            assert [None, None] == [it.readers for it in await bus.lanes()]
            return
        await soon_info(bus, "order.placed", lambda it: it.readers == 2 and it.unit_disagrees)
        await soon_info(bus, "order.placed stock", lambda it: it.readers == 1 and not it.unit_disagrees)
        await second.close()
        await soon_info(bus, "order.placed", lambda it: it.readers == 1 and not it.unit_disagrees)

    async def test_what_a_dead_process_held_is_handed_out_again(
        self, lane: Reader, another: Callable[[], EventProvider], context: Context, colour: Colour
    ) -> None:
        """With the same attempt, and to one reader; what it settled before stays settled."""
        if lacks(lane.provider, EventCapability.DURABLE):
            return
        await lane.open()
        await lane.provider.emit([outgoing(str(number)) for number in range(3)])
        doomed = await self._reader(another, context)
        deliveries = await doomed.obtain(3)
        await doomed.settle("done", deliveries[0])
        await self.die(doomed.provider)
        assert [("1", 1), ("2", 1)] == sorted([await self._handled(lane), await self._handled(lane)])
        assert [] == await lane.take()

    async def test_what_a_dead_process_settles_is_refused_and_counted(
        self, lane: Reader, another: Callable[[], EventProvider], context: Context, colour: Colour
    ) -> None:
        """It may have been stopped only, and come back: nothing that it says of what was taken from it holds."""
        if lacks(lane.provider, EventCapability.DURABLE):
            return
        await lane.open()
        await lane.provider.emit([outgoing(str(number)) for number in range(2)])
        stopped = await self._reader(another, context)
        done, failed = await stopped.obtain(2)
        await self.die(stopped.provider)
        assert [False, False] == [*await stopped.settle("done", done), *await stopped.settle("retry", failed)]
        assert [("0", 1), ("1", 1)] == sorted([await self._handled(lane), await self._handled(lane)])
        [it] = await lane.provider.lanes()
        assert (2, 2, 0, 0) == (it.fenced, it.succeeded, it.delayed, it.in_flight)

    async def test_a_delivery_that_kills_its_workers_is_a_dead_letter(
        self, lane: Reader, another: Callable[[], EventProvider], context: Context, colour: Colour
    ) -> None:
        """After `max_crashes` of them, without an attempt being counted; it holds up nobody, and can be replayed."""
        if lacks(lane.provider, EventCapability.DURABLE):
            return
        await lane.open()
        await lane.provider.emit([outgoing("deadly")])
        for _ in range(3):
            doomed = await self._reader(another, context)
            [delivery] = await doomed.obtain()
            assert ("deadly", 1) == (delivery.id, delivery.attempt)
            await self.die(doomed.provider)
        await lane.provider.emit([outgoing("harmless")])
        [delivery] = await lane.obtain()
        await lane.settle("done", delivery)
        dead = await self._first_dead(lane)
        assert ("deadly", "crashed", 3, 0) == (dead.id, dead.cause, dead.crashes, dead.attempts)
        assert dead.first_at <= dead.died_at
        assert dead.worker
        assert delivery.id == "harmless"
        assert await lane.provider.replay(DeadFilter()) == 1
        [delivery] = await lane.obtain()
        assert ("deadly", 1) == (delivery.id, delivery.attempt)

    async def _handled(self, lane: Reader) -> tuple[str, int]:
        """Take one delivery and end it: perhaps there is one at a time, as it may have been the end of a process."""
        [delivery] = await lane.obtain()
        assert [True] == await lane.settle("done", delivery)
        return delivery.id, delivery.attempt

    async def _reader(self, another: Callable[[], EventProvider], context: Context) -> Reader:
        reader = Reader(another())
        reader.provider.context = context
        await reader.open()
        return reader

    async def _first_dead(self, lane: Reader) -> DeadEvent:
        for _ in range(int(PATIENCE / 0.005)):
            async for dead in lane.provider.dead(DeadFilter()):
                return dead
            await lane.take()
            await pause(0.005)
        raise AssertionError("there is no dead letter")
