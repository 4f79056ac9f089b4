"""Write a test once, run it in both colours."""

from __future__ import annotations

import asyncio
import enum
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar, cast

from pilotis.bridge import drive, gather, run_blocking, running_loop

R = TypeVar("R")


class Colour(enum.Enum):
    """How a test calls: blocking verbs without an event loop, or async verbs under one."""

    BLOCKING = "blocking"
    ASYNC = "async"

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Run a test's coroutine in this colour."""
        return drive(coroutine, "test") if self is Colour.BLOCKING else asyncio.run(coroutine)

    def voice(self, thing: object) -> Any:
        """Return a stand-in for a portable object whose verbs are awaited, whatever the colour.

        `await voiced.get("k")` calls `get("k")` in blocking use and awaits `aget("k")` under a loop. Context
        managers are entered by `async with`, iterators read by `async for`. The rest is passed through.
        """
        return _Voiced(thing, self)


async def together(*actions: Callable[[], Coroutine[Any, Any, R]]) -> list[R]:
    """Run actions side by side: on threads in blocking use, as tasks under a loop. Results in order."""
    if running_loop() is not None:
        return await gather(*(action() for action in actions))
    return _on_threads(actions)


def _on_threads(actions: tuple[Callable[[], Coroutine[Any, Any, R]], ...]) -> list[R]:
    outcomes: list[Any] = [None] * len(actions)

    def act(index: int, action: Callable[[], Coroutine[Any, Any, R]]) -> None:
        try:
            outcomes[index] = (drive(action(), "action"), None)
        except BaseException as error:
            outcomes[index] = (None, error)

    threads = [threading.Thread(target=act, args=pair, daemon=True) for pair in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return [_result(outcome) for outcome in outcomes]


def _result(outcome: tuple[R, BaseException | None] | None) -> R:
    assert outcome is not None, "an action is still running after 30 s"
    result, error = outcome
    if error is not None:
        raise error
    return result


async def soon(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait in either colour until `condition()` holds; fail after `seconds` real seconds."""
    from pilotis_testing.clock import until

    await run_blocking(until, condition, seconds)


class _Voiced:
    def __init__(self, thing: Any, colour: Colour) -> None:
        self._thing = thing
        self._colour = colour

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._thing, name)
        if not callable(member) or isinstance(member, type):
            return member
        twin = getattr(self._thing, f"a{name}", None)
        if twin is None:
            return functools.partial(_pass, member, self._colour)
        if self._colour is Colour.ASYNC:
            return functools.partial(_pass, twin, self._colour)
        return functools.partial(_blocking, member, self._colour)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("_thing", "_colour"):
            object.__setattr__(self, name, value)
        else:
            setattr(self._thing, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._thing(*args, **kwargs)

    async def __aenter__(self) -> Any:
        if self._colour is Colour.ASYNC:
            return _dress(await self._thing.__aenter__(), self._colour)
        return _dress(self._thing.__enter__(), self._colour)

    async def __aexit__(self, *error: object) -> Any:
        if self._colour is Colour.ASYNC:
            return await self._thing.__aexit__(*error)
        return self._thing.__exit__(*error)


def _pass(member: Callable[..., Any], colour: Colour, /, *args: Any, **kwargs: Any) -> Any:
    result = member(*args, **kwargs)
    return _awaited(result, colour) if inspect.iscoroutine(result) else _dress(result, colour)


async def _awaited(result: Awaitable[Any], colour: Colour) -> Any:
    return _dress(await result, colour)


def _blocking(member: Callable[..., Any], colour: Colour, /, *args: Any, **kwargs: Any) -> Any:
    """Call a blocking verb when it is awaited; an iterator at once, to be read by `async for`."""
    if getattr(member, "__wrapped__", None) is not None and _iterates(member):
        return _each(member(*args, **kwargs))
    return _call(member, colour, args, kwargs)


def _iterates(member: Callable[..., Any]) -> bool:
    return inspect.isasyncgenfunction(inspect.unwrap(member))


async def _call(member: Callable[..., Any], colour: Colour, args: Any, kwargs: Any) -> Any:
    return _dress(member(*args, **kwargs), colour)


async def _each(items: Iterator[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


def _dress(result: Any, colour: Colour) -> Any:
    """Voice what a verb hands out, where that has verbs in both colours itself."""
    has_both = hasattr(result, "__aenter__") and hasattr(result, "__enter__")
    return _Voiced(result, colour) if has_both or _has_twins(result) else result


def _has_twins(result: Any) -> bool:
    kind = cast("type[Any]", type(result))
    return kind.__module__.startswith("pilotis.modules") and any(
        name.startswith("a") and len(name) > 1 and hasattr(result, name[1:]) for name in vars(kind)
    )
