"""What users of the event module hold in their hands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, TypeVar, cast

import msgspec
from msgspec.structs import force_setattr

from pilotis.backoff import Backoff
from pilotis.durations import optional_seconds
from pilotis.errors import InvalidInputError
from pilotis.keys import check_text
from pilotis.modules.event.checks import Priority, as_backoff, check_count, check_name, check_priority

T = TypeVar("T")


class Event(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What a handler is given. `Event[Order]` as its annotation has `data` converted to an `Order`."""

    id: str
    name: str
    data: T
    metadata: dict[str, Any]
    """What the emitter added, for example who asked for it."""
    attempt: int
    """Which run of the handler this is; the first is 1."""
    emitted_at: datetime
    """When it was emitted, in UTC."""


class Message(msgspec.Struct, frozen=True):
    """An event to be emitted, with options of its own. What is None is decided further up.

    Raises InvalidInputError where a value cannot be used; `data` and `metadata` are looked at when it is emitted.
    """

    name: str
    data: Any = None
    id: str | None = None
    """Its id. An event whose id was emitted in the last 24 hours is dropped. None: a new one."""
    attempts: int | None = None
    """How often each handler runs before the event is a dead letter."""
    delay: float | timedelta | None = None
    """Seconds before the first run."""
    backoff: Backoff | float | timedelta | None = None
    """The wait between runs. A number of seconds is a fixed one."""
    group: str | None = None
    """Keep it back until `release_group`."""
    priority: Priority | None = None
    key: str | None = None
    """Events of one key are handled one after the other, in the order in which they were emitted."""
    dedupe: str | None = None
    """An event with the `name` and `dedupe` of one that was emitted within `dedupe_ttl` is dropped."""
    dedupe_ttl: float | timedelta | None = None
    metadata: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers may be untyped
            raise InvalidInputError(f"name: expected text, got {type(self.name).__name__}")
        check_name(self.name)
        for field, check in _CHECKS:
            value = getattr(self, field)
            if value is not None:
                force_setattr(self, field, check(value, field))
        if self.key is not None and self.priority is not None:
            raise InvalidInputError(
                f"priority: {self.name!r} has the key {self.key!r}, and events of one key are handled in the order "
                "in which they were emitted; give one of the two"
            )

    def over(self, defaults: Message) -> Message:
        """Return this message, with what it leaves open taken from `defaults`."""
        mine = {field: value for field in _OPTIONS if (value := getattr(self, field)) is not None}
        return msgspec.structs.replace(defaults, name=self.name, data=self.data, **mine)


def _check_mapping(value: object, at: str) -> object:
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"{at}: expected a mapping, got {type(value).__name__}")
    return cast("object", value)


_CHECKS: tuple[tuple[str, Callable[[Any, str], object]], ...] = (
    ("id", check_text),
    ("attempts", check_count),
    ("delay", optional_seconds),
    ("backoff", as_backoff),
    ("group", check_text),
    ("priority", check_priority),
    ("key", check_text),
    ("dedupe", check_text),
    ("dedupe_ttl", optional_seconds),
    ("metadata", _check_mapping),
)
_OPTIONS = tuple(field for field, _ in _CHECKS)


# What a handler may raise


class RetryLater(Exception):
    """Raised by a handler: not now. It does not count as an attempt.

    `after` is the wait in seconds or a timedelta; None waits as the backoff says.
    """

    def __init__(self, after: float | timedelta | None = None) -> None:
        self.after = optional_seconds(after, "after")
        super().__init__(f"to be tried again in {'a while' if self.after is None else f'{self.after:g} s'}")


class Discard(Exception):
    """Raised by a handler: this event is of no use to it. The delivery counts as handled."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "discarded")
        self.reason = reason


class DeadLetter(Exception):
    """Raised by a handler: no other attempt would help. The delivery is a dead letter at once."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "given up")
        self.reason = reason


class PartialFailure(Exception):
    """Raised by a handler of batches: some events failed, and the others are done.

    `failures` maps the ids of those that failed to their errors, each of which counts as if a handler of that event
    alone had raised it: `RetryLater`, `Discard` and `DeadLetter` too. Raises InvalidInputError for anything else.
    An id that is not in the batch fails all of it.
    """

    def __init__(self, failures: Mapping[str, BaseException]) -> None:
        _check_mapping(failures, "failures")
        for id, error in failures.items():
            if not isinstance(error, BaseException):  # pyright: ignore[reportUnnecessaryIsInstance] - callers may be untyped
                raise InvalidInputError(f"failures[{id!r}]: expected an exception, got {type(error).__name__}")
        self.failures = dict(failures)
        super().__init__(f"{len(failures)} events of the batch failed")


# What the bus lists


class DeclaredLanes(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the lanes that a process declares. Lanes are told by their names, in the order of the alphabet."""

    new: list[str]
    """Nobody had declared them."""
    changed: list[str]
    """They were known with other handlers, or another number of crashes."""
    known: list[str]
    stale: list[str]
    """The backend has them, and this process does not declare them: `forget` removes them for good."""


DeathCause = Literal["failed", "mismatch", "given up", "crashed"]


class DeadLetterRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that was given up: one event, for one subscription."""

    id: str
    """The event's id."""
    name: str
    data: Any
    """The text of the whole event where that cannot be read, such as one that a newer version of Pilotis wrote."""
    metadata: dict[str, Any]
    emitted_at: datetime
    """In UTC; `first_at` where it cannot be read."""
    subscription: str | None
    """The subscription's id; None for the handlers that have none."""
    pattern: str
    """What the subscription is for."""
    cause: DeathCause
    """Whether its attempts were used up, its data did not fit, a handler gave it up, or workers died of it."""
    error: str
    traceback: str
    attempts: int
    """How often the handlers ran."""
    crashes: int = 0
    """How many workers died of it."""
    worker: str = ""
    """Who had it last, by host and process."""
    first_at: datetime
    """When it failed first, in UTC; when it died, if that was the first."""
    died_at: datetime
