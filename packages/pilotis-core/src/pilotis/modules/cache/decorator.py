"""`@cache.cached`: a function whose results are kept."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, cast, overload

from pilotis.errors import ConfigurationError
from pilotis.keys import DerivedKey, KeyTemplate
from pilotis.runtime import is_async

if TYPE_CHECKING:
    from pilotis.modules.cache.portable import Cache

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
ResultT_co = TypeVar("ResultT_co", covariant=True)


class CachedFunction(Protocol[P, ResultT_co]):
    """A function decorated with `cached`. Called as before: a plain one stays plain, an async one async."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> ResultT_co: ...

    @overload
    def __get__(self, instance: None, owner: type, /) -> Self: ...
    @overload
    def __get__(
        self: CachedFunction[Concatenate[S, Q], ResultT_co], instance: S, owner: type, /
    ) -> Callable[Q, ResultT_co]: ...

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the result for these arguments, and tell whether there was one."""
        ...

    async def ainvalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """The same, for async callers."""
        ...


class Recipe:
    """How one decorated function is kept: its key, its tags, and the other arguments of `get_or_set`."""

    def __init__(
        self, cache: Cache, function: Callable[..., Any], key: str | None, tags: Sequence[str], options: dict[str, Any]
    ) -> None:
        refuse_unfit(function)
        self._cache = cache
        self._function = function
        self._key = DerivedKey(function) if key is None else KeyTemplate(key, function)
        self._tags = [KeyTemplate(tag, function) for tag in tags]
        self._options = options

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key, factory, options = self._asked(args, kwargs)
        return self._cache.get_or_set(key, factory, **options)

    async def acall(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key, factory, options = self._asked(args, kwargs)
        return await self._cache.aget_or_set(key, factory, **options)

    def invalidate(self, *args: Any, **kwargs: Any) -> bool:
        return self._cache.delete(self._key.render(args, kwargs)) > 0

    async def ainvalidate(self, *args: Any, **kwargs: Any) -> bool:
        return await self._cache.adelete(self._key.render(args, kwargs)) > 0

    def _asked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, Callable[[], Any], Mapping[str, Any]]:
        """Return what `get_or_set` is called with."""
        options = self._options
        if self._tags:
            options = {**options, "tags": [tag.render(args, kwargs) for tag in self._tags]}
        return self._key.render(args, kwargs), functools.partial(self._function, *args, **kwargs), options


def decorated(function: Callable[P, R], recipe: Recipe) -> CachedFunction[P, R]:
    """Return the function with its recipe applied."""
    call: Any = _async_face(function, recipe) if is_async(function) else _plain_face(function, recipe)
    call.invalidate = recipe.invalidate
    call.ainvalidate = recipe.ainvalidate
    return cast("CachedFunction[P, R]", call)


def refuse_unfit(function: Callable[..., Any]) -> None:
    """Raise `ConfigurationError` for what is no function whose result could be kept."""
    if not callable(function):
        raise ConfigurationError(f"cached: expected a function, plain or async, got {type(function).__name__}")
    try:
        inspect.signature(function)
    except ValueError as error:
        raise ConfigurationError(
            f"cached: {function.__qualname__} does not tell its parameters; put a function around it"
        ) from error
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(
            f"cached: {function.__qualname__} is a generator, which can be read once only; return a list"
        )


def _plain_face(function: Callable[..., Any], recipe: Recipe) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return recipe.call(args, kwargs)

    return call


def _async_face(function: Callable[..., Any], recipe: Recipe) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await recipe.acall(args, kwargs)

    return call
