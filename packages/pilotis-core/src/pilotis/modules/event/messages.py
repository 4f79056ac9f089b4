"""Events to bytes and back. What is written carries a version, so that two versions of Pilotis can run side by side."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Generic, Literal, TypeVar

import msgspec

from pilotis.backoff import Backoff
from pilotis.clock import Clock
from pilotis.codec import JSON
from pilotis.errors import InvalidInputError
from pilotis.ids import new_id
from pilotis.modules.event.model import Event, Message
from pilotis.modules.event.provider import Delivery, OutgoingEvent
from pilotis.settings.model import EventSettings

T = TypeVar("T")

_write = msgspec.json.Encoder().encode


class _Written(msgspec.Struct, omit_defaults=True):
    v: int
    at: float
    data: msgspec.Raw
    metadata: msgspec.Raw | None = None
    attempts: int | None = None
    backoff: Backoff | None = None


class _Read(msgspec.Struct, Generic[T]):
    v: Literal[1]
    at: float
    data: T
    metadata: dict[str, Any] = {}


class Head(msgspec.Struct):
    """What an event says about its own retries."""

    attempts: int | None = None
    backoff: Backoff | None = None


_read_head: Callable[[bytes, str], Head] = JSON.reader(Head)


def pack(message: Message, settings: EventSettings, clock: Clock, *, hurried: bool) -> OutgoingEvent:
    """Return a message as the provider takes it; without its delay where `hurried`.

    Raises InvalidInputError with the path inside the data for what cannot be encoded, and for too many bytes.
    """
    body = _body(message, clock)
    if len(body) > settings.max_bytes:
        raise InvalidInputError(
            f"data: {message.name!r} takes {len(body)} bytes, more than the {settings.max_bytes} of event.max_bytes; "
            "put the data into a file or the cache, and its key into the event"
        )
    dedupe_ttl = message.dedupe_ttl
    return OutgoingEvent(
        message.id or new_id(clock),
        message.name,
        body,
        0.0 if hurried or message.delay is None else float(message.delay),  # pyright: ignore[reportArgumentType] - seconds by now
        message.priority or "normal",
        message.key,
        message.dedupe,
        settings.dedupe_ttl if dedupe_ttl is None else float(dedupe_ttl),  # pyright: ignore[reportArgumentType] - seconds by now
        message.id is None,
    )


def _body(message: Message, clock: Clock) -> bytes:
    return _write(
        _Written(
            1,
            clock.time(),
            msgspec.Raw(JSON.encode(message.data, "data")),
            msgspec.Raw(JSON.encode(message.metadata, "metadata")) if message.metadata else None,
            message.attempts,
            message.backoff,  # pyright: ignore[reportArgumentType] - a Backoff by now
        )
    )


@lru_cache(maxsize=1024)
def body_reader(type: Any) -> Callable[[bytes, str], _Read[Any]]:
    """Return what reads the body of an event of a given name, with its data as a `type`."""
    return JSON.reader(_Read[type])


read: Callable[[bytes, str], _Read[Any]] = body_reader(Any)
"""What reads a body whose data may be anything."""


def event_reader(type: Any) -> Callable[[Delivery], Event[Any]]:
    """Return what makes an event of a delivery, with its data as a `type`: TypeMismatchError where it does not fit."""
    read = body_reader(type)

    def unpack(delivery: Delivery) -> Event[Any]:
        return _event(delivery.id, delivery.name, read(delivery.body, delivery.name), delivery.attempt)

    return unpack


def legible(body: bytes, at: float) -> _Read[Any]:
    """Return what can be read of a body, for people; `at` is its time where it tells none.

    What another version wrote, or nobody did who should have, is its own data, as text.
    """
    try:
        return read(body, "data")
    except InvalidInputError:
        return _Read(v=1, at=at, data=body.decode(errors="replace"))


def glimpse(event: OutgoingEvent, now: float) -> Event[Any]:
    """Return an event as those see it who only look on."""
    return _event(event.id, event.name, legible(event.body, now), 0)


def _event(id: str, name: str, body: _Read[Any], attempt: int) -> Event[Any]:
    return Event(
        id=id,
        name=name,
        data=body.data,
        metadata=body.metadata,
        attempt=attempt,
        emitted_at=datetime.fromtimestamp(body.at, UTC),
    )


def head(delivery: Delivery) -> Head:
    """Return the options that travelled with an event. Raises InvalidInputError where they cannot be read."""
    return _read_head(delivery.body, delivery.name)
