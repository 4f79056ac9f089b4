"""The app's background event loop: renewals, refreshes, timers and workers live there.

It runs on one daemon thread, started when first needed. User code never blocks it: plain functions run on
threads of their own, async ones on their home loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar, cast

from pilotis.bridge import Latch, blocked_loops, on_loop, reset_after_fork, run_blocking, running_loop
from pilotis.errors import ClosedError, InvalidInputError

logger = logging.getLogger("pilotis.runtime")

R = TypeVar("R")
Loop = asyncio.AbstractEventLoop

STOP_SECONDS = 5.0
AGAIN = 0.5
"""Seconds after which a job that is to end is cancelled again."""


def is_async(function: Callable[..., Any]) -> bool:
    """Tell whether calling `function` makes a coroutine: partials and callable objects are looked through."""
    while isinstance(function, functools.partial):
        function = function.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def check_function(value: Callable[..., R], at: str) -> Callable[..., R]:
    """Return `value` if it can be called. Raises `InvalidInputError` naming `at`."""
    if not callable(value):
        raise InvalidInputError(f"{at}: expected a function, plain or async, got {type(value).__name__}")
    return value


class Job(Generic[R]):
    """Work under way on the runtime's loop. `ended` is set when it is over, however it ended."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended = Latch()
        self._task: asyncio.Task[R] | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """Ask the job to end. May be called from any thread, and again."""
        self._cancelled = True
        task = self._task
        if task is not None:
            try:
                task.get_loop().call_soon_threadsafe(task.cancel)
            except RuntimeError:  # the loop is closed, and the job over
                self.ended.set()

    async def end(self) -> None:
        """Cancel the job, and wait until it has ended. It is to have nothing to clean up that may not be cut short.

        A cancellation may be lost: `asyncio.wait_for`, before Python 3.12, does so with one that comes as it ends.
        """
        self.cancel()
        while not await self.ended.wait(AGAIN):
            self.cancel()

    def start(self, loop: Loop, coroutine: Coroutine[Any, Any, R]) -> None:
        """Begin. Runs on the loop's thread."""
        self._task = loop.create_task(coroutine, name=self.name)
        self._task.add_done_callback(self._end)
        if self._cancelled:
            self._task.cancel()

    def _end(self, task: asyncio.Task[R]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("background job %s failed", self.name, exc_info=error)
        self.ended.set()


class Runtime:
    """A background event loop, and the way to the user's own loop. All methods may be called from any thread."""

    def __init__(self, name: str = "pilotis") -> None:
        self._name = name
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._loop: Loop | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._pid = os.getpid()
        self.home: Loop | None = None
        """The loop that entered `async with app`, or runs the worker."""

    @property
    def started(self) -> bool:
        """Tell whether the background thread runs."""
        return self._loop is not None

    @property
    def loop(self) -> Loop:
        """The background loop, started if need be. Raises `ClosedError` once it was stopped."""
        loop = self._loop
        if loop is None:
            with self._lock:
                loop = self._started_loop()
        return loop

    async def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine on the background loop, from either colour; cancelled with the caller."""
        return await self._on(lambda: self.loop, coroutine)

    def spawn(
        self, coroutine: Coroutine[Any, Any, Any], name: str, *, context: contextvars.Context | None = None
    ) -> Job[Any]:
        """Begin a coroutine on the background loop and go on. Its error is logged. It sees an empty context, or yours.

        Raises `ClosedError` once the runtime was stopped.
        """
        job: Job[Any] = Job(name)
        try:
            with self._lock:  # so that nothing comes after what `stop` puts into the loop's queue
                loop = self._started_loop()
                loop.call_soon_threadsafe(job.start, loop, coroutine, context=context or contextvars.Context())
        except BaseException:
            coroutine.close()
            raise
        return job

    async def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a user's function from either colour.

        A plain one runs here in blocking use, on a thread under a loop. An async one runs on its home loop:
        the caller's, else the one that entered the app, else the background loop.
        """
        call = self.call_async if is_async(function) else self.call_plain
        return await call(function, *args, **kwargs)

    async def call_async(self, function: Callable[..., Coroutine[Any, Any, R]], /, *args: Any, **kwargs: Any) -> R:
        """Call a function that is known to be async, as `call` does."""
        return await self._at_home(function(*args, **kwargs))

    async def call_plain(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function that is known not to be `async def`, as `call` does."""
        result = await run_blocking(function, *args, **kwargs)
        if result is None or not inspect.isawaitable(result):
            return result
        return await self._at_home(_await(result))

    def stop(self) -> None:
        """Cancel what is under way, wait up to 5 s for it, and end the thread. Idempotent, and for good."""
        with self._lock:
            self._stopped = True
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
            if loop is not None:
                loop.call_soon_threadsafe(loop.stop)
        if thread is not None and thread is not threading.current_thread():
            thread.join(STOP_SECONDS)

    async def _at_home(self, coroutine: Coroutine[Any, Any, R]) -> R:
        loop = running_loop()
        if loop is not None and loop is not self._loop:
            return await coroutine
        return await self._on(self._home_loop, coroutine)

    async def _on(self, find: Callable[[], Loop], coroutine: Coroutine[Any, Any, R]) -> R:
        try:
            loop = find()
        except BaseException:  # it was stopped, or we were interrupted
            coroutine.close()
            raise
        return await on_loop(loop, coroutine)

    def _home_loop(self) -> Loop:
        home = self.home
        if home is not None and home.is_running() and home not in blocked_loops:
            return home
        return self.loop

    def _started_loop(self) -> Loop:
        if self._stopped:
            raise ClosedError("the app was closed, and its background loop with it; make a new app to go on")
        if self._loop is None:
            self._loop = self._start()
        return self._loop

    def _start(self) -> Loop:
        loop = asyncio.new_event_loop()
        ready = threading.Event()
        loop.call_soon(ready.set)
        thread = threading.Thread(target=_serve, args=(loop,), daemon=True, name=f"{self._name}-runtime")
        try:
            thread.start()
            ready.wait()
        except BaseException:
            loop.call_soon_threadsafe(loop.stop)  # nobody else would: whoever was interrupted has no loop
            raise
        self._thread = thread
        return loop


def _serve(loop: Loop) -> None:
    asyncio.set_event_loop(loop)
    try:
        while not _ran_until_stopped(loop):
            pass
    finally:
        _end_tasks(loop)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _ran_until_stopped(loop: Loop) -> bool:
    """Run the loop. False when user code ended it by `sys.exit` or the like, which asyncio lets through."""
    try:
        loop.run_forever()
    except (SystemExit, KeyboardInterrupt) as error:
        logger.exception("user code raised %s on the background loop, which goes on", type(error).__name__)
        return False
    return True


def _end_tasks(loop: Loop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=STOP_SECONDS))


async def _await(awaitable: Awaitable[R]) -> R:
    return await awaitable


T = TypeVar("T")


def lodge(provider: T, runtime: Runtime) -> T:
    """Have every verb of an asyncio-only provider run on the background loop, whoever calls."""
    return cast("T", _Lodger(provider, runtime))


class _Lodger:
    """A stand-in whose verbs cross over to the loop on which the provider lives."""

    def __init__(self, provider: object, runtime: Runtime) -> None:
        self._provider = provider
        self._runtime = runtime

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._provider, name)
        if inspect.iscoroutinefunction(member):
            return functools.partial(self._cross, member)
        if inspect.isasyncgenfunction(member):
            return functools.partial(self._cross_each, member)
        return member

    async def _cross(self, verb: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **kwargs: Any) -> Any:
        return await self._runtime.run(verb(*args, **kwargs))

    async def _cross_each(self, verb: Callable[..., AsyncIterator[Any]], *args: Any, **kwargs: Any) -> Any:
        source = verb(*args, **kwargs)
        try:
            while True:
                try:
                    yield await self._runtime.run(_next(source))
                except StopAsyncIteration:
                    return
        finally:
            close = getattr(source, "aclose", None)
            if close is not None:
                await self._runtime.run(_await(close()))


async def _next(source: AsyncIterator[T]) -> T:
    return await anext(source)
