"""What the six portable classes have in common: life cycle, error mapping, telemetry."""

from __future__ import annotations

import enum
import functools
from collections.abc import AsyncGenerator, Callable, Coroutine
from enum import Flag
from types import TracebackType
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, TypeVar, cast

from pilotis.bridge import Flights, blocking, finish
from pilotis.context import Context
from pilotis.errors import ClosedError, ConfigurationError, OperationError, PilotisError, UnsupportedError
from pilotis.findings import Finding
from pilotis.provider import Provider
from pilotis.runtime import lodge
from pilotis.settings.secrets import mask_urls

P = ParamSpec("P")
R = TypeVar("R")
SelfT = TypeVar("SelfT")
ProviderT = TypeVar("ProviderT", bound=Provider)
ClientT = TypeVar("ClientT")


class _State(enum.Enum):
    NEW = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()


class Portable(Generic[ProviderT]):
    """The base of the portable classes. Thread-safe, and usable from any number of event loops."""

    module: ClassVar[str]

    def __init__(self, provider: ProviderT, *, context: Context | None = None) -> None:
        """Stand in front of `provider`. No I/O: the provider is opened at first use, or by `open()`.

        Raises `ConfigurationError` for what is no provider.
        """
        if not isinstance(cast("object", provider), Provider):
            raise ConfigurationError(f"{self.module}: expected a provider object, got {type(provider).__name__}")
        self.context = context or provider.context
        provider.context = self.context
        self._own = provider
        self._provider = lodge(provider, self.context.runtime) if provider.asyncio_only else provider
        self._guards = _Guards(self)
        self._state = _State.NEW
        self._openings = Flights()
        self.instance = "default"
        """Its name among the instances of its module in the settings."""
        self.owner: object = None
        """The app, kept alive for as long as one of its modules is in use."""
        self.hot: bool = False
        """Whether a verb may start at once: open, no stand-in, no telemetry to tell."""
        self.stand_in: Portable[Any] | None = None

    @property
    def provider_name(self) -> str:
        """The provider's name in settings, such as `redis`."""
        return self._own.name or type(self._own).__name__

    @property
    def capabilities(self) -> Flag:
        """What the provider guarantees."""
        return self._own.capabilities

    @property
    def address(self) -> str:
        """Where the backend is, without its password."""
        return self._own.address

    @property
    def shared(self) -> bool:
        """Whether other processes see the same data."""
        return self._own.shared

    @property
    def facts(self) -> dict[str, str]:
        """The attributes that tell its figures from those of others."""
        return {
            "pilotis.app": self.context.name,
            "pilotis.instance": self.instance,
            "pilotis.provider": self.provider_name,
        }

    @property
    def blocking_in_loop(self) -> str:
        return self.context.blocking_in_loop

    @property
    def is_open(self) -> bool:
        """Whether the provider was opened and not closed yet."""
        return self._state is _State.OPEN

    def native(self, kind: type[ClientT]) -> ClientT:
        """Return the native client. Raises `TypeError` if the provider has none of that type."""
        client = self._own.native(kind)
        if client is None:
            raise TypeError(f"{self.module} provider {self.provider_name!r} has no native {kind.__qualname__}")
        return cast("ClientT", client)

    def require(self, capability: Flag) -> None:
        """Raise `UnsupportedError` unless the provider declares the capability."""
        if capability not in self._own.capabilities:
            raise UnsupportedError(str(capability.name), self.provider_name)

    def require_named(self, names: list[str]) -> None:
        """Check the `require` of the settings. Raises `ConfigurationError` for names that do not exist."""
        known = type(self._own.capabilities).__members__
        for name in names:
            if name.upper() not in known:
                raise ConfigurationError(
                    f"unknown capability {name!r}; {self.module} has {', '.join(sorted(known)).lower()}",
                    path=f"{self.module}.require",
                )
            self.require(known[name.upper()])

    # Life cycle

    async def aopen(self) -> None:
        """Open the provider and ping it. Opening twice does nothing.

        Raises `ConnectionFailedError` naming module, provider and address if the backend cannot be reached;
        a later call tries again.
        """
        if self._state is _State.CLOSED:
            raise self._closed_error()
        if self._state is _State.NEW:
            await self._openings.run("open", self._open)

    open = blocking(aopen)

    async def aclose(self) -> None:
        """Stop what is under way and close the provider. Idempotent. Later verbs raise `ClosedError`."""
        was, self._state = self._state, _State.CLOSED
        self._warm()
        if was is not _State.CLOSED:
            await finish(self._close(opened=was is _State.OPEN))

    close = blocking(aclose)

    def renew(self) -> None:
        """Let a closed module be opened again: for an app whose opening failed half-way."""
        self._state = _State.NEW

    async def aping(self) -> None:
        """Raise if the backend cannot be used now."""
        await self.aopen()
        with self.calling("ping"):
            await self._provider.ping()

    ping = blocking(aping)

    async def amigrate(self) -> list[str]:
        """Make what the provider keeps in its backend, such as tables, and return a sentence for each change.

        For a deployment, before anything is opened. Idempotent; where nothing has to be made, nothing is done.
        """
        if self._state is _State.CLOSED:
            raise self._closed_error()
        with self.calling("migrate"):
            return await self._provider.migrate()

    migrate = blocking(amigrate)

    def afindings(self) -> Coroutine[Any, Any, list[Finding]]:
        """Tell what is wrong with what the module looks after. A module that looks after nothing finds nothing."""
        return _nothing()

    findings = blocking(afindings)

    async def ready(self) -> None:
        """What happens before a verb of a module that is not at hand yet: it is opened."""
        await self.aopen()

    async def _open(self) -> None:
        if self._state is not _State.NEW:
            return
        try:
            with self.calling("open"):
                await self._provider.open()
                await self._provider.ping()
            self._note_open()
        except BaseException:
            await finish(self._provider.close())
            raise
        await self._started()

    def _open_soon(self) -> None:
        """Open in the background if the app is open already, so that what was just declared begins by itself."""
        if self.context.opened and self._state is _State.NEW:
            self.context.runtime.spawn(self.aopen(), f"opening of {self.module}")

    def _note_open(self) -> None:
        if self._state is _State.CLOSED:  # while it was being opened
            raise self._closed_error()
        self._state = _State.OPEN
        self._warm()

    def _closed_error(self) -> ClosedError:
        return ClosedError(f"the {self.module} module was closed; make a new app to go on")

    async def _close(self, *, opened: bool) -> None:
        try:
            if opened:
                await self._stopping()
        finally:
            with self.calling("close"):
                await self._provider.close()

    async def _started(self) -> None:
        """What a module does once it is open, such as beginning to consume."""

    async def _stopping(self) -> None:
        """What a module does before its provider closes, such as draining."""

    def substitute(self, stand_in: Portable[Any] | None) -> None:
        """Have another module of the same kind answer every verb, until None takes it back: `app.override`."""
        self.stand_in = stand_in
        self._warm()

    def _warm(self) -> None:
        self.hot = self._state is _State.OPEN and self.stand_in is None and self.context.telemetry is None

    # Errors

    def calling(self, operation: str) -> Guard:
        """Return the context in which a provider's verb is called: native errors become ours in it."""
        return self._guards[operation]

    def guard(self, operation: str) -> Guard:
        """Return a new such context: for modules that do more in it."""
        return Guard(self, operation)

    def explain(self, error: Exception, operation: str) -> OperationError:
        """Make our error of a native one."""
        kind = self._own.classify(error) or OperationError
        return kind(
            f"{self.module} provider {self.provider_name!r} ({self.address}) failed in {operation}: "
            f"{type(error).__name__}: {mask_urls(str(error))}",
            module=self.module,
            provider=self.provider_name,
            operation=operation,
            outcome=self._own.outcome(error),
        )


async def _nothing() -> list[Finding]:
    return []


class Guard:
    """Wraps native errors of one verb, once. Stateless: one is shared by all calls."""

    __slots__ = ("_operation", "_portable")

    def __init__(self, portable: Portable[Any], operation: str) -> None:
        self._portable = portable
        self._operation = operation

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or not isinstance(error, Exception):
            return
        if isinstance(error, OperationError):
            self._sign(error)
        elif not isinstance(error, (PilotisError, StopAsyncIteration)):
            raise self._portable.explain(error, self._operation) from error

    def _sign(self, error: OperationError) -> None:
        error.module = error.module or self._portable.module
        error.provider = error.provider or self._portable.provider_name
        error.operation = error.operation or self._operation


class _Guards(dict[str, Guard]):
    def __init__(self, portable: Portable[Any]) -> None:
        super().__init__()
        self._portable = portable

    def __missing__(self, operation: str) -> Guard:
        guard = self[operation] = self._portable.guard(operation)
        return guard


# Verbs


def operation(verb: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Mark a portable verb: the module is opened before it, and telemetry sees it."""

    begin: Callable[..., Coroutine[Any, Any, Any]] = verb

    @functools.wraps(verb)
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if self.hot:
            return begin(self, *args, **kwargs)
        return _prepared(self, verb, args, kwargs)

    call.at_once = verb  # pyright: ignore[reportAttributeAccessIssue] - for `blocking`: one call less
    return cast("Callable[P, Coroutine[Any, Any, R]]", call)


def diverted(member: Callable[Concatenate[SelfT, P], R]) -> Callable[Concatenate[SelfT, P], R]:
    """Mark a method that is no verb, of a module or an app: whoever stands in for it answers."""

    @functools.wraps(member)
    def call(self: SelfT, /, *args: P.args, **kwargs: P.kwargs) -> R:
        stand_in = cast("Portable[Any]", self).stand_in
        return member(self, *args, **kwargs) if stand_in is None else call(cast("SelfT", stand_in), *args, **kwargs)

    return call


def operation_iterator(verb: Callable[P, AsyncGenerator[R, None]]) -> Callable[P, AsyncGenerator[R, None]]:
    """Mark a portable verb that is an asynchronous generator: the module is opened before its first item."""

    begin: Callable[..., AsyncGenerator[Any, None]] = verb

    @functools.wraps(verb)
    async def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        portable = self.stand_in or self
        await portable.aopen()
        source = begin(portable, *args, **kwargs)
        try:
            async for item in source:
                yield item
        finally:
            await source.aclose()

    return cast("Callable[P, AsyncGenerator[R, None]]", call)


async def _prepared(portable: Portable[Any], verb: Callable[..., Coroutine[Any, Any, R]], args: Any, kwargs: Any) -> R:
    if portable.stand_in is not None:
        return await _prepared(portable.stand_in, verb, args, kwargs)
    await portable.ready()
    telemetry = portable.context.telemetry
    if telemetry is None:
        return await verb(portable, *args, **kwargs)
    with telemetry.operation(portable.module, verb.__name__.lstrip("_").removeprefix("a"), portable.provider_name):
        return await verb(portable, *args, **kwargs)
