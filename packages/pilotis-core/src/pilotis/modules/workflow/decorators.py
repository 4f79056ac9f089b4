"""What an application writes its workflows with: `step` and the functions it decorates."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Generic, Literal, ParamSpec, TypeVar, cast, overload

import msgspec

from pilotis.backoff import Backoff
from pilotis.bridge import blocking, run_blocking
from pilotis.codec import parameter_types, return_type
from pilotis.durations import optional_seconds
from pilotis.errors import ConfigurationError, UsageError
from pilotis.keys import check_text
from pilotis.modules.workflow.scope import current_replay
from pilotis.runtime import is_async

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

DEFAULT_BACKOFF = Backoff.exponential(1, maximum=60, jitter=0.1)
UNDO_ATTEMPTS = 5
_RESERVED = frozenset("@~#/")


class StepOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a step is run. `timeout` is in seconds, of one attempt."""

    attempts: int = 1
    backoff: Backoff = DEFAULT_BACKOFF
    timeout: float | None = None
    raises: tuple[type[Exception], ...] = ()
    once: bool = False
    external: bool = False
    on_failure: Literal["fail", "continue"] = "fail"
    no_compensation: bool = False


class Bound(Generic[T_co]):
    """A step with its arguments, not called yet: for `workflow.parallel`."""

    __slots__ = ("args", "kwargs", "step")

    def __init__(self, step: Step[..., Any, T_co], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.step = step
        self.args = args
        self.kwargs = kwargs

    def __repr__(self) -> str:
        return f"<bound step {self.step.name!r}>"


class Step(Generic[P, R, T]):
    """A function whose result is recorded when a workflow calls it. Elsewhere it is the plain function."""

    undo: Step[..., Any, Any] | None = None

    def __init__(self, function: Callable[P, R], name: str, options: StepOptions) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.options = options
        self.is_async = is_async(function)
        self.signature = inspect.signature(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the step. An async one is awaited; in a plain workflow it is called by `step.call(...)`."""
        replay = current_replay()
        if replay is None:
            return self.function(*args, **kwargs)
        if not self.is_async:
            return cast("R", self.call(*args, **kwargs))
        if replay.flow.is_async:
            return cast("R", self.acall(*args, **kwargs))
        raise UsageError(
            f"the plain workflow {replay.flow.name!r} called the async step {self.name!r}, whose result it cannot "
            f"await. Use `{self.name}.call(...)`"
        )

    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the step, plain or async, and wait for its result."""
        replay = current_replay()
        if replay is not None:
            return await replay.step(self, args, kwargs)
        if self.is_async:
            return await cast("Coroutine[Any, Any, T]", self.function(*args, **kwargs))
        return cast("T", await run_blocking(self.function, *args, **kwargs))

    call = blocking(acall)

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Bound[T]:
        """Return the step with its arguments, for `workflow.parallel`. Raises TypeError as the call would."""
        self.signature.bind(*args, **kwargs)
        return Bound(self, args, kwargs)

    @overload
    def compensate(self, function: FunctionT, /) -> FunctionT: ...

    @overload
    def compensate(
        self, /, *, attempts: int = ..., backoff: Backoff = ..., timeout: float | timedelta | None = ...
    ) -> Callable[[FunctionT], FunctionT]: ...

    def compensate(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        attempts: int = UNDO_ATTEMPTS,
        backoff: Backoff = DEFAULT_BACKOFF,
        timeout: float | timedelta | None = None,
    ) -> Any:
        """Decorate the function that undoes the step. It gets the arguments of the step, and then its result.

        It runs when the workflow fails or is cancelled after the step was done, up to `attempts` times.
        """
        options = _options(f"the compensation of step {self.name!r}", attempts, backoff, timeout)
        decorate = functools.partial(self._undone_by, options)
        return decorate if function is None else decorate(function)

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments in one form, however they were given; defaults are filled in."""
        if not kwargs and len(args) == len(self.signature.parameters):
            return args, kwargs
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.args, bound.kwargs

    @functools.cached_property
    def returns(self) -> Any:
        """The type of the result, as annotated."""
        return return_type(self.function)

    @functools.cached_property
    def takes(self) -> list[Any]:
        """The types of the parameters, as annotated."""
        return list(parameter_types(self.function).values())

    def _undone_by(self, options: StepOptions, function: FunctionT) -> FunctionT:
        if self.undo is not None:
            raise ConfigurationError(f"step {self.name!r} has two compensations; one does all that is to be undone")
        _check_undo(self, function)
        self.undo = Step(function, self.name, options)
        return function


def _check_undo(step: Step[..., Any, Any], function: Callable[..., Any]) -> None:
    needed = [None] * (len(step.signature.parameters) + 1)
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if any(parameter.kind in variable for parameter in step.signature.parameters.values()):
        return
    try:
        inspect.signature(function).bind(*needed)
    except TypeError as error:
        raise ConfigurationError(
            f"the compensation of step {step.name!r} must take the step's {len(needed) - 1} arguments, "
            f"and then its result: {error}"
        ) from None


class _StepDecorator:
    """What `@step(...)` makes: keeps the types of plain and async functions apart."""

    def __init__(self, name: str | None, options: StepOptions) -> None:
        self._name = name
        self._options = options

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]]) -> Step[P, Coroutine[Any, Any, T], T]: ...

    @overload
    def __call__(self, function: Callable[P, T]) -> Step[P, T, T]: ...

    def __call__(self, function: Callable[..., Any]) -> Step[..., Any, Any]:
        return Step(function, _name_of(function, self._name), self._options)


@overload
def step(function: Callable[P, Coroutine[Any, Any, T]], /) -> Step[P, Coroutine[Any, Any, T], T]: ...


@overload
def step(function: Callable[P, T], /) -> Step[P, T, T]: ...


@overload
def step(
    *,
    name: str | None = ...,
    attempts: int = ...,
    backoff: Backoff = ...,
    timeout: float | timedelta | None = ...,
    raises: tuple[type[Exception], ...] = ...,
    once: bool = ...,
    external: bool = ...,
    on_failure: Literal["fail", "continue"] = ...,
    no_compensation: bool = ...,
) -> _StepDecorator: ...


def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    attempts: int = 1,
    backoff: Backoff = DEFAULT_BACKOFF,
    timeout: float | timedelta | None = None,
    raises: tuple[type[Exception], ...] = (),
    once: bool = False,
    external: bool = False,
    on_failure: Literal["fail", "continue"] = "fail",
    no_compensation: bool = False,
) -> Any:
    """Decorate a function, plain or async, whose result a workflow records.

    It is tried `attempts` times, with the waits of `backoff` between; a `PermanentError` ends that at once. `timeout`
    bounds one attempt. An error whose class is in `raises` reaches the workflow as itself, restored from its
    arguments; any other as `StepFailedError`. With `once` it is never run a second time: an attempt that was
    interrupted raises `StepInterruptedError`. With `external` the function only begins the work, and `complete_step`
    brings the result; `timeout` is then the time until that. With `on_failure="continue"` the workflow gets None
    instead of the error. With `no_compensation` the step's compensation is left out. `name` is the function's own
    where none is given.
    """
    options = _options(
        f"step {name or getattr(function, '__name__', '')!r}", attempts, backoff, timeout,
        raises=raises, once=once, external=external, on_failure=on_failure, no_compensation=no_compensation,
    )  # fmt: skip
    decorate = _StepDecorator(name, options)
    return decorate if function is None else decorate(function)


def _options(at: str, attempts: int, backoff: Backoff, timeout: float | timedelta | None, **others: Any) -> StepOptions:
    if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"{at}: attempts: expected a whole number from 1, got {attempts!r}")
    if others.get("once") and attempts > 1:
        raise ConfigurationError(f"{at}: once=True never runs twice, so attempts must be 1, got {attempts}")
    if not isinstance(backoff, Backoff):  # pyright: ignore[reportUnnecessaryIsInstance] - callers may be untyped
        raise ConfigurationError(f"{at}: backoff: expected a Backoff such as Backoff.exponential(1), got {backoff!r}")
    _check_others(at, others)
    seconds = optional_seconds(timeout, f"{at}: timeout")
    return StepOptions(attempts=attempts, backoff=backoff, timeout=seconds, **others)


def _check_others(at: str, others: dict[str, Any]) -> None:
    for name in ("once", "external", "no_compensation"):
        if not isinstance(others.get(name, False), bool):
            raise ConfigurationError(f"{at}: {name}: expected True or False, got {others[name]!r}")
    if others.get("on_failure", "fail") not in ("fail", "continue"):
        raise ConfigurationError(f'{at}: on_failure: expected "fail" or "continue", got {others["on_failure"]!r}')
    raises: object = others.get("raises", ())
    if not (isinstance(raises, tuple) and all(_is_error(kind) for kind in cast("tuple[object, ...]", raises))):
        raise ConfigurationError(f"{at}: raises: expected a tuple of exception classes, (Declined,), got {raises!r}")


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)


def _name_of(function: Callable[..., Any], name: str | None) -> str:
    if not callable(function):
        raise ConfigurationError(f"@step decorates a function, got {function!r}")
    if next(iter(inspect.signature(function).parameters), None) == "self":
        raise ConfigurationError(
            f"@step decorates functions, and {function.__qualname__} is a method; pass it the object"
        )
    own: str = getattr(function, "__name__", type(function).__name__)
    name = check_text(own if name is None else name, "step name", maximum=200)
    if _RESERVED & set(name):
        raise ConfigurationError(f"step name {name!r}: the characters @ ~ # and / are used in keys; choose others")
    return name
