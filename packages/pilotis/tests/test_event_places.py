"""So many handlers run at once in a process, whatever the subscriptions ask for."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from pilotis import Event, InvalidInputError, Message, Pilotis
from pilotis.bridge import Latch
from pilotis.modules.event import Delivery
from pilotis.modules.event.crew import Crew
from pilotis.modules.event.declaring import HandlerOptions, Subscribing
from pilotis.modules.event.places import Places
from pilotis.modules.event.subscriptions import Handler, Subscription
from pilotis.settings.model import EventSettings
from pilotis_testing import Colour
from pilotis_testing.clock import until
from pilotis_testing.colours import soon


class Gauge:
    """Handlers that wait at a gate, and how many are there at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.gate = Latch()
        self.now = self.most = 0
        self.handled: Counter[str] = Counter()

    def enter(self) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def leave(self, event: Event[Any]) -> None:
        with self.lock:
            self.now -= 1
            self.handled[event.name] += 1

    def plain(self, event: Event[Any]) -> None:
        self.enter()
        threading.Event().wait(0.002)
        self.leave(event)

    async def waiting(self, event: Event[Any]) -> None:
        self.enter()
        await self.gate.wait()
        self.leave(event)


async def test_handlers_of_all_subscriptions_share_the_places_of_their_process(colour: Colour) -> None:
    """Never more than there are places run at once, and everybody has a turn."""
    gauge = Gauge()
    app = Pilotis({"event": {"provider": "local", "worker_concurrency": 2}})
    for name in ("a", "b", "c"):
        app.event.on(name, id=name)(gauge.plain)
    async with colour.voice(app):
        bus = colour.voice(app.event)
        await bus.emit_many([Message(name, number) for number in range(20) for name in ("a", "b", "c")])
        assert await bus.drain(30)
    assert {"a": 20, "b": 20, "c": 20} == gauge.handled
    assert gauge.most == 2


async def test_whoever_has_no_place_waits_for_one(colour: Colour) -> None:
    """Handlers that take long keep their places; the others begin when one is free."""
    gauge = Gauge()
    app = Pilotis({"event": {"provider": "local", "worker_concurrency": 3}})
    for name in ("a", "b"):
        app.event.on(name, id=name, concurrency=5)(gauge.waiting)
    async with colour.voice(app):
        bus = colour.voice(app.event)
        await bus.emit_many([Message(name, number) for number in range(5) for name in ("a", "b")])
        await soon(lambda: gauge.now == 3)
        gauge.gate.set()
        assert await bus.drain(30)
    assert (gauge.most, {"a": 5, "b": 5}) == (3, gauge.handled)


def test_a_worker_may_be_told_another_number() -> None:
    """Whatever the settings say; and it counts what it did."""
    gauge, stop = Gauge(), Latch()
    app = Pilotis({"event": {"provider": "local", "worker_concurrency": 7}}, role="all")
    app.event.on("a", id="a")(gauge.waiting)
    worker = threading.Thread(target=lambda: app.run_worker(stop=stop, concurrency=1))
    worker.start()
    until(lambda: app.event.is_open)
    app.event.emit_many([Message("a", number) for number in range(4)])
    until(lambda: gauge.now == 1)
    assert app.event.at_hand >= 1
    gauge.gate.set()
    stop.set()
    worker.join(20)
    assert (gauge.most, app.event.tally["done"]) == (1, 4)


@pytest.mark.parametrize(("given", "message"), [({"concurrency": 0}, "concurrency: "), ({"grace": -1}, "grace: ")])
def test_what_a_worker_cannot_be_told_is_refused(given: dict[str, Any], message: str) -> None:
    """Before anything is opened."""
    app = Pilotis()
    with pytest.raises(InvalidInputError, match=message):
        app.run_worker(**given)
    assert not app.event.is_open


def test_places_are_taken_in_turn() -> None:
    """In the order in which they were asked for, and each that is left goes to the next."""
    begun: list[str] = []
    places = Places[str](2, begun.append)
    for one in "abcd":
        places.ask(one)
    assert (["a", "b"], True) == (begun, places.wanted)
    places.leave()
    assert ["a", "b", "c"] == begun
    places.leave()
    places.leave()
    places.leave()
    assert (["a", "b", "c", "d"], False) == (begun, places.wanted)
    places.ask("e")
    places.ask("f")
    assert ["e", "f"] == begun[4:]


def test_a_crew_without_a_place_gives_back_what_others_could_do() -> None:
    """And takes on nothing before its turn comes."""
    hungry: list[bool] = []
    options = HandlerOptions()
    declared = Subscribing("a", "a", print, options)
    subscription = Subscription(declared, [Handler(print)], options, EventSettings())
    crew = Crew(subscription, begin=lambda _: None, hungry=lambda: hungry.append(True), most=4)
    assert crew.free() == 4
    delivery = Delivery("a a", "1", "1", "a", b"{}", 1)
    crew.add([delivery])
    assert crew.stuck() == []  # it may have come just now
    assert [delivery] == crew.stuck()
    assert (0, []) == (crew.free(), hungry)
    crew.arrive()
    assert ([], [True], 4) == (crew.next(), hungry, crew.free())


def test_nobody_stays_while_others_wait() -> None:
    """Whoever has the only place leaves it after its turn, although it has more to do at hand."""
    order: list[str] = []
    app = Pilotis({"event": {"provider": "local", "worker_concurrency": 1}})
    bus: Any = app.event

    def busy(event: Event[Any]) -> None:
        order.append("busy")
        if len(order) > 100 and "asked" not in order and app.event.at_hand > 1:
            order.append("asked")
            app.event.emit("rare")
            until(lambda: bus._dispatcher._places.wanted)
            threading.Event().wait(0.03)  # so that the turn is over

    def rare(event: Event[Any]) -> None:
        order.append("rare")

    app.event.on("busy", id="busy", concurrency=200)(busy)
    app.event.on("rare", id="rare")(rare)
    with app:
        app.event.emit_many([Message("busy", number) for number in range(3000)])
        assert app.event.drain(30)
    assert "rare" == order[order.index("asked") + 1]


def test_a_crew_that_rests_sends_for_the_next() -> None:
    """As long as there is something to do."""
    sent: list[Crew] = []
    options = HandlerOptions()
    subscription = Subscription(
        Subscribing("a", "a", print, options), [Handler(print)], options, EventSettings(concurrency=1)
    )
    crew = Crew(subscription, begin=sent.append, hungry=lambda: None, most=1)
    crew.add([Delivery("a a", "1", "1", "a", b"{}", 1)])
    crew.arrive()
    crew.rest()
    assert [crew, crew] == sent
