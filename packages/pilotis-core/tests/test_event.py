"""What the event module refuses, and how it decides: no backend is needed for that."""

from __future__ import annotations

import dataclasses
import functools
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilotis.backoff import Backoff
from pilotis.clock import SYSTEM_CLOCK
from pilotis.errors import ConfigurationError, InvalidInputError, TypeMismatchError
from pilotis.handlers import Handlers
from pilotis.modules.event import Delivery, Event, Message, RetryLater
from pilotis.modules.event.messages import event_reader, head, pack
from pilotis.modules.event.schedule import Periodic, every_seconds
from pilotis.modules.event.subscriptions import Registry
from pilotis.settings.model import EventSettings


@dataclasses.dataclass
class Order:
    """What is ordered."""

    number: int


def nothing(event: Event[Any]) -> None:
    """Handle nothing."""


# Messages


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, "name: expected text of 1 to 200 characters"),
        ({"name": 7}, "name: expected text, got int"),
        ({"name": "order placed"}, "name: expected text without spaces"),
        ({"name": "order.*"}, "name: expected the name of one event"),
        ({"name": "order\n"}, "name: expected text without control characters"),
        ({"name": "x" * 201}, "name: expected text of 1 to 200 characters, got 201"),
        ({"attempts": 0}, "attempts: expected 1 or more"),
        ({"attempts": True}, "attempts: expected a whole number"),
        ({"delay": -1}, "delay: expected from 0"),
        ({"delay": float("nan")}, "delay: expected a finite number"),
        ({"backoff": "soon"}, "backoff: expected a Backoff or seconds, got str"),
        ({"priority": "urgent"}, "priority: expected 'high', 'normal' or 'low', got 'urgent'"),
        ({"priority": "high", "key": "k"}, "give one of the two"),
        ({"dedupe": ""}, "dedupe: expected text of 1"),
        ({"dedupe_ttl": -1}, "dedupe_ttl: expected from 0"),
        ({"metadata": [1]}, "metadata: expected a mapping, got list"),
        ({"id": ""}, "id: expected text of 1"),
        ({"group": 7}, "group: expected text, got int"),
    ],
)
def test_a_message_is_checked_where_it_is_made(arguments: dict[str, Any], message: str) -> None:
    """Every option that cannot be used is an error that names it."""
    merged: dict[str, Any] = {"name": "order.placed", **arguments}
    with pytest.raises(InvalidInputError) as caught:
        Message(**merged)
    assert message in str(caught.value)


def test_a_message_takes_durations_in_both_forms() -> None:
    """A timedelta becomes seconds, and a number of seconds a fixed backoff."""
    message = Message("a", delay=timedelta(minutes=1), backoff=5, dedupe_ttl=timedelta(hours=1))
    assert (message.delay, message.backoff, message.dedupe_ttl) == (60.0, Backoff.fixed(5), 3600.0)


def test_a_messages_own_options_win() -> None:
    """What a message leaves open is taken from the defaults, and nothing else."""
    merged = Message("a", 1, attempts=5).over(Message("b", 2, attempts=3, delay=4, id="x"))
    assert (merged.name, merged.data, merged.attempts, merged.delay, merged.id) == ("a", 1, 5, 4.0, "x")


def test_what_cannot_be_encoded_is_refused_with_its_path() -> None:
    """In the data, and in the metadata."""
    for message, path in (
        (Message("a", {"lines": [{"price": float("inf")}]}), r"data\.lines\[0\]\.price"),
        (Message("a", metadata={"by": socket.AF_INET6, "of": object()}), r"metadata\.of"),
        (Message("a", {1: 2}), "data: expected keys that are text"),
    ):
        with pytest.raises(InvalidInputError, match=path):
            pack(message, EventSettings(), SYSTEM_CLOCK, hurried=False)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=8,
)


@given(json_values, st.none() | st.integers(1, 99), st.none() | st.floats(0, 1e6))
def test_an_event_survives_the_way(data: Any, attempts: int | None, backoff: float | None) -> None:
    """Its data, id, name, metadata, time and retry options arrive as they were sent."""
    message = Message("order.placed", data, "the-id", attempts, backoff=backoff, metadata={"by": "ada"})
    event = pack(message, EventSettings(), SYSTEM_CLOCK, hurried=False)
    delivery = Delivery("lane", "1", event.id, event.name, event.body, 3)
    got = event_reader(Any)(delivery)
    assert (got.id, got.name, got.data, got.metadata, got.attempt) == ("the-id", "order.placed", data, {"by": "ada"}, 3)
    assert abs((datetime.now(UTC) - got.emitted_at).total_seconds()) < 60
    stated = head(delivery)
    assert (stated.attempts, stated.backoff) == (attempts, None if backoff is None else Backoff.fixed(backoff))


@pytest.mark.parametrize("body", [b"", b"{", b'{"v":2,"at":0,"data":1}', b'{"v":1,"data":1}', b'\xff{"v":1}'])
def test_a_body_that_is_not_ours_does_not_fit(body: bytes) -> None:
    """Corrupted bodies, and those of a later version, are mismatches: dead letters, and no crash."""
    with pytest.raises(TypeMismatchError):
        event_reader(Any)(Delivery("lane", "1", "id", "order.placed", body, 1))


# Declarations


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "order placed"}, "without spaces"),
        ({"name": ""}, "name: expected text"),
        ({"id": ""}, "id: expected text"),
        ({"attempts": 0}, "attempts: expected 1 or more"),
        ({"timeout": -1}, "timeout: expected from 0"),
        ({"concurrency": 0}, "concurrency: expected 1 or more"),
        ({"batch": 0}, "batch: expected 1 or more"),
        ({"within": 1}, "within: is how long a batch is waited for"),
        ({"backoff": "x"}, "backoff: expected a Backoff"),
    ],
)
def test_a_subscription_is_checked_where_it_is_declared(options: dict[str, Any], message: str) -> None:
    """Every option that cannot be used is an error that names it, before any function is decorated."""
    arguments: dict[str, Any] = {"name": "order.placed", **options}
    with pytest.raises(InvalidInputError, match=message):
        Handlers().on(**arguments)


class _Taker:
    """Takes subscriptions into a registry, as a bus does."""

    def __init__(self) -> None:
        self.registry = Registry(EventSettings(attempts=7))

    def take(self, declarations: Sequence[Any]) -> None:
        self.registry.add(declarations)


def declared(*functions: Any, **options: Any) -> Registry:
    """Return the registry in which functions were declared for one event."""
    handlers, taker = Handlers(), _Taker()
    handlers.bind(taker)
    for function in functions:
        handlers.on("order.placed", **options)(function)
    return taker.registry


def test_a_handler_must_take_the_event() -> None:
    """What is no function, takes nothing or needs more is an error where it is declared."""

    def greedy(event: object, other: object) -> None: ...

    for function, message in (
        (lambda: None, "must take one argument, the event"),
        (greedy, "must take one argument, the event"),
        ("not a function", "a handler must be a function, not str"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            declared(function)


def test_the_type_of_data_is_read_from_the_annotation() -> None:
    """`Event[X]` and `list[Event[X]]` say X; a partial, a method and a callable object are looked through."""

    class Shop:
        def method(self, event: Event[Order]) -> None: ...

        def __call__(self, event: Event[Order]) -> None: ...

    def partial(event: Event[Order], more: int) -> None: ...

    async def asynchronous(event: Event[Order]) -> None: ...

    for function in (Shop().method, Shop(), functools.partial(partial, more=1), asynchronous):
        assert declared(function, id="x").all()[0].handlers[0].type is Order

    def batch(events: list[Event[Order]]) -> None: ...

    assert declared(batch, id="x", batch=2).all()[0].handlers[0].type is Order
    assert declared(nothing).all()[0].handlers[0].type is Any


def test_a_type_that_no_data_fits_is_refused() -> None:
    """An event cannot carry a socket."""

    def handle(event: Event[socket.socket]) -> None: ...

    with pytest.raises(ConfigurationError, match="its event cannot hold such data"):
        declared(handle)


def test_a_unit_agrees_on_its_options() -> None:
    """What one of its handlers says holds for all; two that disagree are an error that proposes ids."""
    handlers, taker = Handlers(), _Taker()
    handlers.bind(taker)
    handlers.on("order.placed", timeout=5)(nothing)
    handlers.on("order.placed", attempts=3)(nothing)
    [unit] = taker.registry.all()
    assert (unit.timeout, unit.attempts, len(unit.handlers)) == (5.0, 3, 2)
    with pytest.raises(ConfigurationError, match="wants attempts=4 where another wants 3: agree, or give them ids"):
        handlers.on("order.placed", attempts=4)(nothing)
    with pytest.raises(ConfigurationError, match="takes batches: give them ids"):
        handlers.on("order.placed", batch=4)(nothing)
    assert len(taker.registry.all()[0].handlers) == 2


def test_settings_hold_where_a_subscription_says_nothing() -> None:
    """They are the first in line."""
    [subscription] = declared(nothing).all()
    assert (subscription.attempts, subscription.concurrency, subscription.timeout) == (7, 10, None)


# Schedules


def times(periodic: Periodic, after: float, count: int) -> list[float]:
    """Return the next fires."""
    fires = list[float]()
    for _ in range(count):
        after = periodic.next(after)
        fires.append(after)
    return fires


def test_an_interval_fires_at_its_multiples() -> None:
    """So that all processes agree on when that is."""
    periodic = every_seconds(timedelta(minutes=1), Message("a"), None)
    assert times(periodic, 30.0, 3) == [60.0, 120.0, 180.0]
    assert times(periodic, 60.0, 1) == [120.0]


@given(st.floats(0.001, 1e6), st.floats(0, 2e9))
def test_the_next_fire_is_later(interval: float, after: float) -> None:
    """Whatever the interval and the time."""
    assert every_seconds(interval, Message("a"), None).next(after) > after - interval / 1e3


def test_the_same_schedule_has_the_same_name_everywhere() -> None:
    """It is made from the interval, the event and its data, or given."""

    def name(interval: float, data: Any, id: str | None = None) -> str:
        return every_seconds(interval, Message("a", data), id).id

    assert name(60, {"x": 1, "y": 2}) == name(60.0, {"y": 2, "x": 1})
    assert len({name(60, 1), name(61, 1), name(60, 2), name(60, 1, "mine")}) == 4


def test_an_interval_is_checked_where_it_is_declared() -> None:
    """Zero and less would never end."""
    for interval in (0, -1, float("nan"), "1"):
        with pytest.raises(InvalidInputError, match="interval: expected"):
            Handlers().every(interval, "report.due")  # pyright: ignore[reportArgumentType]


def test_retry_later_checks_its_wait() -> None:
    """A negative wait is refused; a timedelta will do."""
    assert RetryLater(timedelta(minutes=1)).after == 60.0
    with pytest.raises(InvalidInputError, match="after"):
        RetryLater(-1)
