"""Events to bytes and back. What is written carries a version, so that two versions of Pilotis can run side by side."""

from __future__ import annotations

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


_read_head = msgspec.json.Decoder(Head).decode


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
def _body_of(type: Any) -> Any:
    return _Read[type]


def unpack(delivery: Delivery, type: Any) -> Event[Any]:
    """Return the event of a delivery, with its data as a `type`. Raises TypeMismatchError if it does not fit."""
    body = read(delivery.body, delivery.name, type)
    return Event(
        id=delivery.id,
        name=delivery.name,
        data=body.data,
        metadata=body.metadata,
        attempt=delivery.attempt,
        emitted_at=datetime.fromtimestamp(body.at, UTC),
    )


def read(body: bytes, name: str, type: Any = Any) -> _Read[Any]:
    """Return what is written in the body of an event."""
    return JSON.decode(body, _body_of(type), name)


def head(delivery: Delivery) -> Head:
    """Return the options that travelled with an event."""
    return _read_head(delivery.body)
