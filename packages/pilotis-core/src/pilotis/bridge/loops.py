"""Crossing event loops: run a coroutine on another one, keep one resource per running one."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from pilotis.bridge.forks import reset_after_fork
from pilotis.bridge.latch import Latch
from pilotis.bridge.mode import running_loop
from pilotis.bridge.tasks import finish
from pilotis.errors import ClosedError

R = TypeVar("R")

CANCEL_GRACE = 5.0


async def on_loop(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine on `loop`, from either colour, with the caller's context; cancelled with the caller.

    The loop must be running; raises `RuntimeError` if it is closed, and `ClosedError` if it ends before the coroutine
    does. A cancelled caller waits up to 5 s for the clean-up there.
    """
    if running_loop() is loop:
        return await coroutine
    errand = _Errand(loop, coroutine)
    try:
        loop.call_soon_threadsafe(errand.start, context=contextvars.copy_context())
    except RuntimeError:
        coroutine.close()
        raise
    try:
        await errand.ended.wait()
    except BaseException:
        loop.call_soon_threadsafe(errand.cancel)
        await finish(errand.ended.wait(CANCEL_GRACE))
        raise
    return errand.result()


class _Errand(Generic[R]):
    """A coroutine on its way to another loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, R]) -> None:
        self.ended = Latch()
        self._loop = loop
        self._coroutine = coroutine
        self._task: asyncio.Task[R] | None = None
        self._cancelled = False

    def start(self) -> None:
        if self._cancelled:
            self._coroutine.close()
            self.ended.set()
            return
        self._task = self._loop.create_task(self._coroutine)
        self._task.add_done_callback(self._land)

    def cancel(self) -> None:
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()

    def result(self) -> R:
        assert self._task is not None
        if self._task.cancelled():  # and not by the caller, who does not ask for the result then
            raise ClosedError("the event loop that was to do this ended before it was done")
        return self._task.result()

    def _land(self, task: asyncio.Task[R]) -> None:
        if not task.cancelled():
            task.exception()  # the caller may be gone: mark the error as seen
        self.ended.set()


class PerLoop(Generic[R]):
    """One resource per running event loop, made at first use and closed with its loop.

    It hangs on an asynchronous generator of the loop, so that `asyncio.run` closes it at its end. The loop
    is held strongly: its identity is not reused while the resource lives.
    """

    def __init__(self, make: Callable[[], R], close: Callable[[R], Awaitable[object]]) -> None:
        self._make = make
        self._close = close
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[int, tuple[asyncio.AbstractEventLoop, R, AsyncGenerator[None, None]]] = {}

    def get(self) -> R:
        """Return the resource of the loop that runs on this thread. There must be one."""
        loop = running_loop()
        assert loop is not None, "there is no running event loop"
        try:
            return self._kept[id(loop)][1]
        except KeyError:
            return self._add(loop)

    async def aclose(self) -> None:
        """Close every resource: those of other running loops on their own loop."""
        with self._lock:
            kept, self._kept = list(self._kept.values()), {}
        for loop, _, keeper in kept:
            if loop.is_running():
                with contextlib.suppress(RuntimeError):  # it closed a moment ago, and its resource with it
                    await on_loop(loop, _aclose(keeper))

    def _add(self, loop: asyncio.AbstractEventLoop) -> R:
        resource = self._make()
        keeper = self._keep(id(loop), resource)
        with contextlib.suppress(StopIteration):  # runs to its yield, and so registers with the loop
            keeper.__anext__().__await__().__next__()
        with self._lock:
            self._kept = {key: entry for key, entry in self._kept.items() if not entry[0].is_closed()}
            self._kept[id(loop)] = (loop, resource, keeper)
        return resource

    async def _keep(self, key: int, resource: R) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            with self._lock:
                self._kept.pop(key, None)
            await self._close(resource)


async def _aclose(keeper: AsyncGenerator[None, None]) -> None:
    await keeper.aclose()
