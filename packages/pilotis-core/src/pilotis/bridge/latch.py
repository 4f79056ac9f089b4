"""Latch: the only wait across colours."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

from pilotis.bridge.mode import running_loop, settle

Wake = Callable[[], object]


class Latch:
    """Set once, from anywhere; waited on by threads and by tasks of any event loop."""

    __slots__ = ("_lock", "_set", "_wakes")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self._wakes: list[Wake] = []

    def set(self) -> None:
        """Open the latch and wake every waiter. Setting it again does nothing."""
        with self._lock:
            self._set = True
            wakes, self._wakes = self._wakes, []
        for wake in wakes:
            wake()

    def is_set(self) -> bool:
        """Tell whether the latch was set."""
        return self._set

    def on_set(self, wake: Wake) -> None:
        """Have `wake()` called by whoever sets the latch; at once if it is set. It must not block or raise."""
        if not self._enrol(wake):
            wake()

    def forget(self, wake: Wake) -> None:
        """Take back an `on_set` that was not called yet; otherwise do nothing."""
        with self._lock, contextlib.suppress(ValueError):
            self._wakes.remove(wake)

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait for the latch, at most `timeout` real seconds (None: for ever). Return whether it is set."""
        if self._set or (timeout is not None and timeout <= 0):
            return self._set
        loop = running_loop()
        if loop is None:
            self._wait_on_thread(timeout)
        else:
            await self._wait_in_loop(loop, timeout)
        return self._set

    def _enrol(self, wake: Wake) -> bool:
        with self._lock:
            if not self._set:
                self._wakes.append(wake)
                return True
        return False

    def _wait_on_thread(self, timeout: float | None) -> None:
        gate = threading.Lock()
        gate.acquire()
        if not self._enrol(gate.release):
            return
        try:
            gate.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))
        finally:
            self.forget(gate.release)

    async def _wait_in_loop(self, loop: asyncio.AbstractEventLoop, timeout: float | None) -> None:
        future: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there any more
                loop.call_soon_threadsafe(settle, future)

        if not self._enrol(wake):
            return
        timer = None if timeout is None else loop.call_later(timeout, settle, future)
        try:
            await future
        finally:
            self.forget(wake)
            if timer is not None:
                timer.cancel()
