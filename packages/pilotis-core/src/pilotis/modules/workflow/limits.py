"""Time-outs that hold while user code runs: async functions are cancelled, plain ones abandoned and counted."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from pilotis.bridge import Latch, gather, running_loop
from pilotis.context import Context
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


async def call_within(
    context: Context, strays: Strays, seconds: float | None, function: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """Call a user's function from either colour, for at most `seconds`. Raises `TimeIsUp` after that."""
    if seconds is None:
        return await context.runtime.call(function, *args, **kwargs)
    race = _race(context, strays, seconds, functools.partial(function, *args, **kwargs))
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
