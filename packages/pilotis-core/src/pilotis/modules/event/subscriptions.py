"""Which handlers are for which events."""

from __future__ import annotations

import inspect
import threading
import typing
from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import asdict

from pilotis.codec import JSON, parameter_types
from pilotis.errors import ConfigurationError, InvalidInputError, TypeMismatchError
from pilotis.modules.event.declaring import HandlerOptions, Subscribing, name_of, twin_error
from pilotis.modules.event.messages import event_reader
from pilotis.modules.event.model import Event
from pilotis.modules.event.provider import EventLane
from pilotis.runtime import is_async
from pilotis.settings.model import EventSettings

DEFAULT_WITHIN = 0.25


class Handler:
    """A user's function, and the type of data it asks for."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = name_of(function)
        self.type = _data_type(function, self.name)
        self.read = event_reader(self.type)
        """Makes the event of a delivery."""
        self.is_async = is_async(function)


class Subscription:
    """The handlers of one lane: one with an id, or all of a pattern that have none. Unchangeable."""

    def __init__(
        self, declared: Subscribing, handlers: Sequence[Handler], options: HandlerOptions, settings: EventSettings
    ) -> None:
        self.pattern = declared.pattern
        self.id = declared.id
        self.lane = lane_id(declared.pattern, declared.id)
        self.handlers = tuple(handlers)
        self.stated = options
        self.attempts = options.attempts or settings.attempts
        self.backoff = options.backoff or settings.backoff
        self.timeout = settings.handler_timeout if options.timeout is None else options.timeout
        self.concurrency = options.concurrency or settings.concurrency
        self.batch = options.batch
        self.within = DEFAULT_WITHIN if options.within is None else options.within
        self.max_crashes = settings.max_crashes

    @property
    def spec(self) -> EventLane:
        """What the provider has to know."""
        return EventLane(
            self.lane, self.pattern, self.id, self.max_crashes, tuple(sorted(it.name for it in self.handlers))
        )

    @property
    def runs_on_thread(self) -> bool:
        """Whether its handlers can be run one after the other on a thread: plain ones that nobody cuts off."""
        return self.timeout is None and not any(handler.is_async for handler in self.handlers)


def lane_id(pattern: str, id: str | None) -> str:
    """Return the id of a lane. Patterns have no spaces, so that no two subscriptions share one."""
    return pattern if id is None else f"{pattern} {id}"


class Registry:
    """The subscriptions of one bus. Thread-safe; what it hands out does not change any more."""

    def __init__(self, settings: EventSettings) -> None:
        self._settings = settings
        self.after_fork()
        self._by_lane: dict[str, Subscription] = {}
        self.version = 0
        """Grows with every change."""

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    def add(self, declared: Sequence[Subscribing]) -> None:
        """Take handlers in, all or none.

        Raises ConfigurationError for a second one with the same id, or one that cannot work.
        """
        handlers = [Handler(it.function) for it in declared]
        with self._lock:
            by_lane = dict(self._by_lane)
            for it, handler in zip(declared, handlers, strict=True):
                known = by_lane.get(lane_id(it.pattern, it.id))
                added = self._subscription(it, handler) if known is None else self._joined(known, it, handler)
                by_lane[added.lane] = added
            self._by_lane = by_lane
            self.version += len(declared)

    def _subscription(self, declared: Subscribing, handler: Handler) -> Subscription:
        return Subscription(declared, [handler], declared.options, self._settings)

    def _joined(self, known: Subscription, declared: Subscribing, handler: Handler) -> Subscription:
        if declared.id is not None:
            raise twin_error(declared, known.handlers[0].function)
        return Subscription(declared, [*known.handlers, handler], _merged(known, declared), self._settings)

    def remove(self, pattern: str, id: str | None) -> bool:
        """Take handlers out. Return whether there were any."""
        with self._lock:
            lane = lane_id(pattern, id)
            found = lane in self._by_lane
            self._by_lane = {known: it for known, it in self._by_lane.items() if known != lane}
            self.version += found
        return found

    def get(self, lane: str) -> Subscription | None:
        """Return the subscription of a lane."""
        return self._by_lane.get(lane)

    def all(self) -> list[Subscription]:
        """Return every subscription."""
        return list(self._by_lane.values())


def _merged(known: Subscription, declared: Subscribing) -> HandlerOptions:
    """Return the options of a unit: what any of its handlers says, as long as no two disagree."""
    if known.batch or declared.options.batch:
        raise ConfigurationError(
            f"{name_of(declared.function)} shares {declared.pattern!r} with {known.handlers[0].name}, and one of them "
            "takes batches: give them ids"
        )
    merged = asdict(known.stated)
    for field, value in asdict(declared.options).items():
        if value is not None and merged[field] not in (None, value):
            raise ConfigurationError(
                f"the handlers of {declared.pattern!r} without an id are one unit, and {name_of(declared.function)} "
                f"wants {field}={value!r} where another wants {merged[field]!r}: agree, or give them ids"
            )
        merged[field] = merged[field] if value is None else value
    return HandlerOptions(**merged)


def _data_type(function: Callable[..., Any], name: str) -> Any:
    _check_callable(function, name)
    data = _event_type(_first_annotation(function))
    try:
        JSON.convert(None, data)
    except TypeMismatchError:  # the type is a good one, and None does not fit it
        return data
    except InvalidInputError as error:
        raise ConfigurationError(f"handler {name}: its event cannot hold such data: {error}") from error
    return data


def _first_annotation(function: Callable[..., Any]) -> Any:
    try:
        return next(iter(parameter_types(function).values()), Any)
    except ValueError:  # some built-in functions do not tell what they take
        return Any


def _event_type(annotation: Any) -> Any:
    """Return X for `Event[X]`, and for lists of such."""
    if typing.get_origin(annotation) is Event:
        return typing.get_args(annotation)[0]
    nested = [_event_type(argument) for argument in typing.get_args(annotation)]
    return next((found for found in nested if found is not Any), Any)


def _check_callable(function: object, name: str) -> None:
    if not callable(function):
        raise ConfigurationError(f"a handler must be a function, not {type(function).__name__}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(f"handler {name} is a generator, whose body would never run; take the `yield` out")
    try:
        inspect.signature(function).bind(object())
    except ValueError:
        return  # as `_first_annotation` does
    except TypeError as error:
        raise ConfigurationError(f"handler {name} must take one argument, the event: {error}") from error
