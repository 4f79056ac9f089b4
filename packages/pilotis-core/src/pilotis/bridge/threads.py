"""Blocking calls under an event loop: an elastic pool of daemon threads.

A bounded pool would deadlock followers against their leader, so work is never queued: an idle thread is
reused, or a new one is started. The threads are daemons and are never joined.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import threading
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

from pilotis.bridge.forks import reset_after_fork
from pilotis.bridge.mode import running_loop, settle

logger = logging.getLogger("pilotis.bridge")

P = ParamSpec("P")
R = TypeVar("R")
Job = Callable[[], object]

IDLE_SECONDS = 10.0


class _Seat:
    """One thread's place: the job it was handed, and the gate it sleeps behind."""

    __slots__ = ("gate", "job")

    def __init__(self, job: Job) -> None:
        self.gate = threading.Lock()
        self.gate.acquire()
        self.job: Job | None = job


class Threads:
    """An elastic pool. `submit` never blocks and never queues."""

    def __init__(self, idle: float = IDLE_SECONDS) -> None:
        self._idle = idle
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._free: list[_Seat] = []
        self._all = 0

    @property
    def busy(self) -> int:
        """How many threads are at work now."""
        with self._lock:
            return self._all - len(self._free)

    def submit(self, job: Job) -> None:
        """Run `job` on a thread of its own. The job must not raise."""
        with self._lock:
            seat = self._free.pop() if self._free else None
            if seat is None:
                self._all += 1
        if seat is None:
            self._start(_Seat(job))
        else:
            seat.job = job
            seat.gate.release()

    def _start(self, seat: _Seat) -> None:
        try:
            threading.Thread(target=self._work, args=(seat,), daemon=True, name="pilotis-call").start()
        except RuntimeError:
            with self._lock:
                self._all -= 1
            raise

    def _work(self, seat: _Seat) -> None:
        while True:
            job, seat.job = seat.job, None
            assert job is not None
            job()
            del job
            with self._lock:
                self._free.append(seat)
            if not seat.gate.acquire(timeout=self._idle) and self._leave(seat):
                return

    def _leave(self, seat: _Seat) -> bool:
        with self._lock:
            if seat in self._free:
                self._free.remove(seat)
                self._all -= 1
                return True
        seat.gate.acquire()  # a job was handed over at the last moment
        return False


THREADS = Threads()


async def run_blocking(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a blocking function: at once in blocking use, on a thread under an event loop.

    The function sees a copy of the caller's context. A cancelled caller does not wait for it; where the
    function takes something that must be given back, use `run_blocking_with_undo`.
    """
    loop = running_loop()
    if loop is None:
        return function(*args, **kwargs)
    return await _on_thread(loop, functools.partial(function, *args, **kwargs), None)


async def run_blocking_with_undo(function: Callable[[], R], undo: Callable[[R], object]) -> R:
    """Like `run_blocking`; when the caller was cancelled meanwhile, `undo(result)` runs on the thread."""
    loop = running_loop()
    if loop is None:
        return function()
    return await _on_thread(loop, function, undo)


async def _on_thread(loop: asyncio.AbstractEventLoop, job: Callable[[], R], undo: Callable[[R], object] | None) -> R:
    call = _Call(loop, functools.partial(contextvars.copy_context().run, job), undo)
    THREADS.submit(call.run)
    return await call.answer()


class _Call(Generic[R]):
    """One call under way. Its result reaches the caller, or is undone: one of the two, once."""

    __slots__ = ("_error", "_finished", "_future", "_gone", "_job", "_lock", "_loop", "_result", "_undo")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, job: Callable[[], R], undo: Callable[[R], object] | None
    ) -> None:
        self._loop = loop
        self._job = job
        self._undo = undo
        self._future: asyncio.Future[None] = loop.create_future()
        self._lock = threading.Lock()
        self._gone = self._finished = False
        self._result: R | None = None
        self._error: BaseException | None = None

    async def answer(self) -> R:
        try:
            await self._future
        except BaseException:
            if self._leave():
                THREADS.submit(self._take_back)
            raise
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # the traceback refers to this frame: break the cycle
        return self._result  # pyright: ignore[reportReturnType] - set when there is no error

    def run(self) -> None:
        try:
            self._result = self._job()
        except BaseException as error:
            self._error = error
        with self._lock:
            self._finished = True
            gone = self._gone
        if gone or not self._wake():
            self._take_back()

    def _leave(self) -> bool:
        """The caller goes. Returns whether there is a result that it leaves behind."""
        with self._lock:
            self._gone = True
            return self._finished

    def _wake(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(settle, self._future)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _take_back(self) -> None:
        if self._error is not None:
            logger.debug("a call failed after its caller was gone", exc_info=self._error)
        elif self._undo is not None:
            try:
                self._undo(self._result)  # pyright: ignore[reportArgumentType] - set when there is no error
            except Exception:
                logger.exception("the result of a call could not be undone after its caller was gone")
