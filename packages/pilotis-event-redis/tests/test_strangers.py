"""What others leave on a bus: services called alike, other versions, slow clocks, lanes that are gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import msgspec
import pytest
from pilotis.bridge import pause
from pilotis.modules.event import Event, EventBus
from pilotis.providers import Context
from pilotis_event_redis import RedisEvents, RedisEventsOptions
from pilotis_testing import Colour, ManualClock
from pilotis_testing.colours import soon, together
from pilotis_testing.event_base import Held, Seen, drained
from pilotis_testing.redis import tell

LANES = "{pilotis:events}:l:"


@pytest.fixture
def make(redis_url: str, colour: Colour) -> Iterator[Callable[..., Any]]:
    """What makes the bus of one more process, of a service."""
    with ExitStack() as stack:

        def make(name: str = "shop", **surroundings: Any) -> Any:
            context = Context(name=name, **surroundings)
            bus = EventBus(RedisEvents(RedisEventsOptions(url=redis_url)), context=context)
            stack.callback(context.runtime.stop)
            stack.callback(bus.close)
            return colour.voice(bus)

        yield make


def insert(url: str, lane: str, id: str, body: bytes) -> None:
    """Put an entry into a lane behind everybody's back."""
    head = msgspec.msgpack.encode([id, "order.placed", "n", 0, 0, "", 0])
    tell(url, "XADD", f"{LANES}{lane}:n", "*", "h", head, "b", body)


async def test_a_service_whose_name_continues_another_keeps_its_lanes_to_itself(make: Callable[..., Any]) -> None:
    """Slashes in names of services and of events do not meet."""
    outer, inner = make("shop", role="emit"), make("shop/eu", role="emit")
    await outer.subscribe("eu/placed", Seen(), id="outer")
    await inner.subscribe("placed", Seen(), id="outer")
    await make("shop%2Feu", role="emit").subscribe("placed", Seen(), id="outer")
    assert [["eu/placed outer"], ["placed outer"]] == [[it.lane for it in await bus.lanes()] for bus in (outer, inner)]
    await outer.emit("eu/placed", 1)
    await inner.emit("placed", 1)
    assert [1, 1] == [it.queued for bus in (outer, inner) for it in await bus.lanes()]


async def test_schedules_of_two_services_may_have_one_id(make: Callable[..., Any]) -> None:
    """A fire of the one is not taken for one of the other."""
    clock = ManualClock()
    seen: dict[str, Seen] = {}
    for name in ("shop", "audit"):
        bus = make(name, clock=clock)
        seen[name] = Seen()
        bus.on(f"{name}.report", id="report")(seen[name])
        bus.every(600, f"{name}.report", id="nightly")
        await bus.open()
    await soon(lambda: clock.waiting >= 2)
    clock.advance(600)
    for it in seen.values():
        await it.times(1)


async def test_an_event_that_cannot_be_read_hides_no_dead_letter(make: Callable[..., Any], redis_url: str) -> None:
    """It is one itself, at once, and is listed with its text as its data."""
    bus = make()

    @bus.on("order.placed", id="stock", attempts=5)
    def take(event: Event[int]) -> None:
        raise ValueError(event.data)

    await bus.open()
    bodies = (b'{"v":2,"at":1,"data":1}', b"\xff{", b'{"v":1,"at":1,"data":7,"attempts":"x"}')
    for id, body in zip("abc", bodies, strict=True):
        insert(redis_url, "shop/order.placed stock", id, body)
    assert await drained(bus)
    letters = {it.id: it async for it in bus.dead_letters()}
    assert {"a": '{"v":2,"at":1,"data":1}', "b": "\ufffd{", "c": 7} == {id: it.data for id, it in letters.items()}
    assert {"mismatch"} == {it.cause for it in letters.values()}
    assert letters["a"].emitted_at == letters["a"].first_at
    assert len(await bus.findings()) == 1


async def test_dead_letters_are_removed_whatever_the_clock_here_says(make: Callable[..., Any]) -> None:
    """Without an age, all of them: Redis may be ahead."""
    bus = make(clock=ManualClock())
    bus.on("order.placed", id="stock")(Seen(failures=1))
    await bus.emit("order.placed")
    await soon(lambda: bus.tally == {"dead": 1})
    assert await bus.purge_dead() == 1


async def test_nothing_stays_of_a_lane_that_was_forgotten_in_flight(make: Callable[..., Any], redis_url: str) -> None:
    """What is settled after that is counted nowhere, by whomever."""
    bus, other = make(), make(role="emit")
    begun, gate = threading.Event(), threading.Event()

    @bus.on("order.placed", id="stock")
    def take(_: object) -> None:
        begun.set()
        gate.wait(10)

    await bus.emit("order.placed")
    await soon(begun.is_set)
    assert await other.forget("stock") == 1
    gate.set()
    await soon(lambda: bus.fenced == 1)
    assert tell(redis_url, "KEYS", f"{LANES}*") == []


async def test_draining_sees_what_others_have_handled(make: Callable[..., Any]) -> None:
    """The last event may be in the hands of another process, which tells nobody here that it is done."""
    bus, other, held = make(), make(), Held()
    other.on("order.placed", id="stock")(held)
    await other.emit("order.placed")
    await held.times(1)
    bus.on("order.placed", id="stock")(Seen())
    await bus.open()
    results: list[bool] = []

    async def drain() -> None:
        results.append(await bus.drain(8))

    async def let_go() -> None:
        await pause(0.1)
        held.let_go()

    await together(drain, let_go)
    assert [True] == results


GARBAGE = {
    "no MessagePack": ("h", b"\xc1", "b", b"{}"),
    "another shape": ("h", msgspec.msgpack.encode({"id": "x"}), "b", b"{}"),
    "too short": ("h", msgspec.msgpack.encode(["x"]), "b", b"{}"),
    "another priority": ("h", msgspec.msgpack.encode(["x", "order.placed", "?", 0, 0, "", 0]), "b", b"{}"),
    "other fields": ("what", "ever"),
}


@pytest.mark.parametrize("fields", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("waits", [False, True], ids=["taken", "read"])
async def test_an_entry_that_nobody_can_read_holds_up_nobody(
    make: Callable[..., Any], redis_url: str, *, fields: tuple[Any, ...], waits: bool
) -> None:
    """It is a dead letter at once, whether it was there before or comes while a process waits."""
    seen = Seen()
    bus = make(role="all" if waits else "emit")
    await bus.subscribe("order.placed", seen, id="audit")
    if waits:
        await bus.emit("order.placed", 0)
        await seen.times(1)
    tell(redis_url, "XADD", f"{LANES}shop/order.placed audit:n", "*", *fields)
    if not waits:
        bus = make()
        await bus.subscribe("order.placed", seen, id="audit")
    await bus.emit("order.placed", 1)
    await seen.times(2 if waits else 1)
    assert await drained(bus)
    assert 1 == seen.data[-1]
    [letter] = [it async for it in bus.dead_letters()]
    assert "mismatch" == letter.cause
    assert 1 == await bus.replay()
    assert await drained(bus)
