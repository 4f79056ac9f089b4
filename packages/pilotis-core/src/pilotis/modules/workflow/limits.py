"""Bounds of user code: time-outs hold while it runs, and what it raises never ends a thread or a loop of ours.

Async functions whose time is up are cancelled, plain ones abandoned and counted.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Any

from pilotis.bridge import Latch, gather, running_loop
from pilotis.context import Context
from pilotis.modules.workflow.scope import Unwind
from pilotis.runtime import is_async


class Strays:
    """The plain functions that still run although nobody waits for them any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._astray: set[Watched] = set()

    def __len__(self) -> int:
        return len(self._astray)

    def add(self, call: Watched) -> None:
        """Count a call, unless it has ended."""
        with self._lock:
            if not call.ended:
                self._astray.add(call)

    def ended(self, call: Watched) -> None:
        """Note the end of a call."""
        with self._lock:
            call.ended = True
            self._astray.discard(call)


class Watched:
    """A plain function whose end is noticed, even when nobody waits for it."""

    def __init__(self, function: Callable[[], Any], strays: Strays) -> None:
        self._function = function
        self._strays = strays
        self.ended = False

    def __call__(self) -> Any:
        try:
            return self._function()
        finally:
            self._strays.ended(self)

    def abandon(self) -> None:
        """Say that nobody waits for it any more."""
        self._strays.add(self)


class TimeIsUp(Exception):
    """A user's function was not done in its time."""


class Escaped(Exception):
    """A user's function raised what is no Exception, such as SystemExit: its cause. asyncio would end the loop."""


def contained(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with everything that it raises made an Exception, but for what it is left by."""

    async def acall(*args: Any, **kwargs: Any) -> Any:
        try:
            return await function(*args, **kwargs)
        except (Exception, Unwind):
            raise
        except BaseException as error:
            if isinstance(error, (asyncio.CancelledError, GeneratorExit)) and _is_left():
                raise
            raise Escaped from error

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (Exception, Unwind):
            raise
        except BaseException as error:
            raise Escaped from error

    return acall if is_async(function) else call


def _is_left() -> bool:
    """Tell whether the task that runs is cancelled or closed from outside; else the function raised it by itself."""
    task = None if running_loop() is None else asyncio.current_task()
    return task is None or task.cancelling() > 0


async def call_within(
    context: Context, strays: Strays, seconds: float | None, function: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """Call a user's function from either colour, for at most `seconds`. Raises `TimeIsUp` after that."""
    safe = contained(function)
    if seconds is None:
        return await context.runtime.call(safe, *args, **kwargs)
    race = _race(context, strays, seconds, functools.partial(safe, *args, **kwargs))
    return await (context.runtime.run(race) if running_loop() is None else race)


async def _race(context: Context, strays: Strays, seconds: float, function: Callable[[], Any]) -> Any:
    watched = function if is_async(function) else Watched(function, strays)
    over = Latch()

    async def work() -> Any:
        try:
            return await context.runtime.call(watched)
        finally:
            over.set()

    async def watch() -> None:
        if not await context.clock.wait(over, seconds):
            raise TimeIsUp

    try:
        return (await gather(work(), watch()))[0]
    except BaseException:
        if isinstance(watched, Watched):
            watched.abandon()
        raise
