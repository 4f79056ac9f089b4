"""Whether attempts and the waits between them are those that were asked for, and what decides about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pilotis.backoff import Backoff
from pilotis.errors import ConfigurationError, InvalidInputError
from pilotis.modules.event import Message

from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import Colour
from pilotis_testing.event_base import PAUSE, EventTests, Seen, advance, drained, info, soon_delayed

WAITS = {
    "fixed": (Backoff.fixed(150.25), [150.25, 150.25, 150.25]),
    "exponential": (Backoff.exponential(100.001, factor=3), [100.001, 300.003, 900.009]),
    "capped": (Backoff.exponential(100, maximum=250), [100, 200, 250, 250]),
}
JITTERED = (Backoff.fixed(1000, jitter=0.25), Backoff.exponential(1000, maximum=1100, jitter=0.25))

UNUSABLE: dict[str, Callable[[Any], Any]] = {
    r"data\.price: expected a finite number": lambda bus: bus.emit("order.placed", {"price": float("nan")}),
    r"data\.lines\[1\]: no rule writes a object": lambda bus: bus.emit("order.placed", {"lines": [1, object()]}),
    r"metadata\.by: no rule writes a object": lambda bus: bus.emit("order.placed", metadata={"by": object()}),
    r"'order\.placed' takes 100000\d\d bytes, more than the 1048576": lambda bus: bus.emit(
        "order.placed", "x" * 10_000_000
    ),
    "name: expected text without spaces": lambda bus: bus.emit("order placed"),
    "name: expected the name of one event": lambda bus: bus.emit("order.*"),
    "delay: expected from 0": lambda bus: bus.emit("order.placed", delay=-0.001),
    "backoff.delay: expected from 0": lambda bus: bus.emit("order.placed", backoff=-1),
    "attempts: expected 1 or more": lambda bus: bus.emit("order.placed", attempts=0),
    "dedupe_ttl: expected from 0": lambda bus: bus.emit("order.placed", dedupe="d", dedupe_ttl=-1),
}


class TimingTests(EventTests):
    """Attempts, waits, and the options that decide about them."""

    @pytest.mark.parametrize("kind", WAITS)
    async def test_each_wait_is_that_of_the_backoff(
        self, bus: Any, colour: Colour, clock: ManualClock, kind: str
    ) -> None:
        """To the millisecond, not a moment early, for every attempt until none is left."""
        backoff, waits = WAITS[kind]
        seen = Seen(failures=99)
        bus.on("order.placed", id="stock", attempts=len(waits) + 1, backoff=backoff)(seen)
        await bus.emit("order.placed")
        for attempt, wait in enumerate(waits, start=1):
            await soon_delayed(bus, "order.placed stock")
            assert (await info(bus, "order.placed stock")).next_due == self.near(wait)
            await advance(clock, wait - self.slack - 0.001)
            assert ((await info(bus, "order.placed stock")).delayed, len(seen.events)) == (1, attempt)
            await advance(clock, self.slack + 0.001)
            await seen.times(attempt + 1)
        assert await drained(bus)
        assert list(range(1, len(waits) + 2)) == seen.attempts
        assert [len(waits) + 1] == [it.attempts async for it in bus.dead_letters()]

    @pytest.mark.parametrize("backoff", JITTERED, ids=["fixed", "capped"])
    async def test_jitter_stays_within_its_bounds(
        self, bus: Any, colour: Colour, clock: ManualClock, backoff: Backoff
    ) -> None:
        """A quarter below to a quarter above, and never over the maximum."""
        seen = Seen(failures=30)
        bus.on("order.placed", id="stock", attempts=2, backoff=backoff)(seen)
        await bus.emit_many([Message("order.placed", number) for number in range(30)])
        await soon_delayed(bus, "order.placed stock", 30)
        assert 750 - self.slack <= (await info(bus, "order.placed stock")).next_due
        await advance(clock, 749.999 - self.slack)
        assert ((await info(bus, "order.placed stock")).delayed, len(seen.events)) == (30, 30)
        await advance(clock, min(1250, backoff.maximum) - 749.999 + self.slack)
        assert await drained(bus)
        assert [1] * 30 + [2] * 30 == sorted(seen.attempts)

    async def test_the_last_one_to_say_decides_about_attempts(self, bus: Any, colour: Colour) -> None:
        """Settings (one attempt), then the subscription, then `emit`, then the message itself."""
        silent, stated = Seen(failures=99), Seen(failures=99)
        bus.on("order.placed", id="silent", backoff=0)(silent)
        bus.on("order.placed", id="stated", attempts=2, backoff=0)(stated)
        await bus.emit("order.placed", "none")
        messages = [Message("order.placed", "own", attempts=4), Message("order.placed", "given")]
        await bus.emit_many(messages, attempts=3)
        assert await drained(bus)
        counts = [[seen.data.count(data) for data in ("none", "given", "own")] for seen in (silent, stated)]
        assert [[1, 3, 4], [2, 3, 4]] == counts

    async def test_the_last_one_to_say_decides_about_the_backoff(self, bus: Any, colour: Colour) -> None:
        """Settings, then the subscription, then `emit`, then the message itself."""
        bus.on("order.placed", id="silent", attempts=2)(Seen(failures=99))
        bus.on("order.placed", id="stated", attempts=2, backoff=200)(Seen(failures=99))
        waits: list[list[float]] = []
        for messages, options in (
            ([Message("order.placed")], {}),
            ([Message("order.placed")], {"backoff": 300}),
            ([Message("order.placed", backoff=400)], {"backoff": 300}),
        ):
            await bus.emit_many(messages, **options)
            waits.append([await self._wait(bus, id) for id in ("silent", "stated")])
        expected = [[PAUSE, 200], [300, 300], [400, 400]]
        assert [[self.near(wait) for wait in both] for both in expected] == waits

    async def _wait(self, bus: Any, id: str) -> float:
        await soon_delayed(bus, f"order.placed {id}")
        wait = (await info(bus, f"order.placed {id}")).next_due
        assert await bus.purge(id) == 1
        return wait

    @pytest.mark.parametrize("place", UNUSABLE)
    async def test_what_cannot_be_used_is_refused_at_once(self, bus: Any, colour: Colour, place: str) -> None:
        """By an error that names the place; nothing is emitted."""
        seen = Seen()
        bus.on("order.*", id="audit")(seen)
        with pytest.raises(InvalidInputError, match=place):
            await UNUSABLE[place](bus)
        assert await drained(bus)
        assert (0, []) == ((await info(bus, "order.* audit")).emitted, seen.events)

    async def test_a_handler_that_cannot_work_is_refused_at_once(self, bus: Any, colour: Colour) -> None:
        """One that takes no argument, and a second one with an id; the backend hears of neither."""
        bus.on("order.placed", id="stock")(Seen())
        for handler, id in ((lambda: None, "mail"), (Seen(), "stock")):
            with pytest.raises(ConfigurationError, match=r"must take one argument|'stock' already"):
                await bus.subscribe("order.placed", handler, id=id)
        assert ["stock"] == [lane.subscription for lane in await bus.lanes()]
