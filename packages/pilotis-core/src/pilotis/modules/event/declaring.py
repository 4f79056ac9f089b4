"""What is declared about events: subscriptions, periodic events and interceptors."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, Protocol, TypeVar, cast
from weakref import WeakSet

import msgspec

from pilotis.backoff import Backoff
from pilotis.bridge import reset_after_fork
from pilotis.durations import optional_seconds
from pilotis.errors import ConfigurationError, InvalidInputError
from pilotis.keys import check_text
from pilotis.modules.event.checks import LONGEST_NAME, as_backoff, check_count, check_pattern
from pilotis.modules.event.model import Message
from pilotis.modules.event.schedule import Periodic, every_seconds, on_cron

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
Interceptor = Callable[[Message], Message | Awaitable[Message | None] | None]


class HandlerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a subscription says about itself. What is None is decided by the settings."""

    attempts: int | None = None
    backoff: Backoff | None = None
    timeout: float | None = None
    concurrency: int | None = None
    batch: int | None = None
    within: float | None = None


class Subscribing(msgspec.Struct, frozen=True):
    """A handler, and what it is for."""

    pattern: str
    id: str | None
    function: Callable[..., Any]
    options: HandlerOptions


class Intercepting(msgspec.Struct, frozen=True):
    """A function that sees every message before it is sent."""

    function: Interceptor


Declaration = Subscribing | Periodic | Intercepting


class Taker(Protocol):
    """Whoever acts on declarations: an event bus."""

    def take(self, declarations: Sequence[Declaration]) -> None:
        """Act on declarations, all or none. Raises ConfigurationError for one that cannot work."""
        ...


class Declarations:
    """Where handlers are declared: on their own, or on an event bus. Nothing here does I/O."""

    def __init__(self) -> None:
        self._declared: list[Declaration] = []
        self._takers: WeakSet[Taker] = WeakSet()
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._declaring = threading.Lock()

    def on(
        self,
        name: str,
        *,
        id: str | None = None,
        attempts: int | None = None,
        backoff: Backoff | float | timedelta | None = None,
        timeout: float | timedelta | None = None,
        concurrency: int | None = None,
        batch: int | None = None,
        within: float | timedelta | None = None,
    ) -> Callable[[FunctionT], FunctionT]:
        """Have the decorated function, plain or async, handle the events of a name or pattern ("product.*", "*").

        With an `id` it is tracked alone: retried, listed and paused on its own. Handlers of the same name without
        an id are one unit: if one of them fails, all of them run again. `attempts` is how often it runs in all,
        `backoff` the wait between, `timeout` the seconds one run may take, `concurrency` how many run at once; what
        is left out comes from the settings. With `batch` it is given a list of at most so many events, which are
        waited for at most `within` seconds (0.25 unless given); the batch succeeds or fails as one.

        Raises InvalidInputError for an option that cannot be used, and ConfigurationError for a function that takes
        no argument and for an id that the name has already.
        """
        options = handler_options(
            attempts=attempts, backoff=backoff, timeout=timeout, concurrency=concurrency, batch=batch, within=within
        )
        check_pattern(check_text(name, "name", maximum=LONGEST_NAME))
        if id is not None:
            check_text(id, "id", maximum=LONGEST_NAME)

        def declare(function: FunctionT) -> FunctionT:
            self._declare(Subscribing(name, id, function, options))
            return function

        return declare

    def every(
        self, interval: float | timedelta, name: str, data: object = None, *, id: str | None = None, **options: Any
    ) -> None:
        """Emit an event at each whole multiple of `interval` seconds since 1970 (UTC), once for all processes.

        `options` are those of `emit`. `id` names the schedule; without one it is made from the interval, name and
        data; two that differ cannot share one. A fire that was missed, because no process ran, is not made up for.
        """
        self._declare(every_seconds(interval, Message(name, data, **options), id))

    def cron(
        self,
        expression: str,
        name: str,
        data: object = None,
        *,
        timezone: str = "UTC",
        id: str | None = None,
        **options: Any,
    ) -> None:
        """Emit an event whenever a cron expression says, such as "0 3 * * *", once for all processes.

        Five fields, or six with seconds in front; `timezone` is an IANA name, and summer time is minded. As `every`
        in all else. Raises ConfigurationError for an expression that cannot be read or never comes true, for an
        unknown time zone, and where the extra `pilotis-core[cron]` is not installed.
        """
        self._declare(on_cron(expression, timezone, Message(name, data, **options), id))

    def intercept(self, function: Interceptor) -> Interceptor:
        """Have `function`, plain or async, see every message before it is sent. Can be used as a decorator.

        It may return another message to be sent instead; None leaves it as it is. What it raises is raised by
        `emit`, and nothing is sent.
        """
        if not callable(function):
            raise ConfigurationError(f"an interceptor must be a function, not {type(function).__name__}")
        self._declare(Intercepting(function))
        return function

    def bind(self, taker: Taker) -> None:
        """Hand over what is declared, and what will be. Binding again does nothing."""
        with self._declaring:
            if taker in self._takers:
                return
            taker.take(self._declared)
            self._takers.add(taker)

    def _declare(self, declaration: Declaration) -> None:
        with self._declaring:
            if isinstance(declaration, Subscribing):
                self._refuse_twin(declaration)
            for taker in self._takers:
                taker.take([declaration])
            self._declared.append(declaration)

    def _refuse_twin(self, new: Subscribing) -> None:
        """Tell of a second handler with one id where it is declared, and not where it is included."""
        if new.id is None:
            return
        for known in self._declared:
            if isinstance(known, Subscribing) and (known.pattern, known.id) == (new.pattern, new.id):
                raise twin_error(new, known.function)

    def _withdraw(self, pattern: str, id: str | None) -> None:
        with self._declaring:
            self._declared = [known for known in self._declared if not _is_for(known, pattern, id)]


def _is_for(known: Declaration, pattern: str, id: str | None) -> bool:
    return isinstance(known, Subscribing) and (known.pattern, known.id) == (pattern, id)


def handler_options(
    *,
    attempts: int | None,
    backoff: Backoff | float | timedelta | None,
    timeout: float | timedelta | None,
    concurrency: int | None,
    batch: int | None,
    within: float | timedelta | None,
) -> HandlerOptions:
    """Return checked options. Raises InvalidInputError naming the one that cannot be used."""
    if within is not None and batch is None:
        raise InvalidInputError("within: is how long a batch is waited for; give batch= too")
    return HandlerOptions(
        attempts=None if attempts is None else check_count(attempts, "attempts"),
        backoff=None if backoff is None else as_backoff(backoff),
        timeout=optional_seconds(timeout, "timeout"),
        concurrency=None if concurrency is None else check_count(concurrency, "concurrency"),
        batch=None if batch is None else check_count(batch, "batch"),
        within=optional_seconds(within, "within"),
    )


def twin_error(new: Subscribing, known: Callable[..., Any]) -> ConfigurationError:
    """Return the error of a second handler with the same id for the same event."""
    return ConfigurationError(
        f"{new.pattern!r} has a handler with the id {new.id!r} already ({name_of(known)}); "
        f"give {name_of(new.function)} another one"
    )


def name_of(function: Any) -> str:
    """Return what a function is called in messages: its module and qualified name."""
    while hasattr(function, "func"):
        function = function.func
    named: Any = function if hasattr(function, "__qualname__") else cast("Any", type(function))
    return f"{named.__module__}.{named.__qualname__}"
