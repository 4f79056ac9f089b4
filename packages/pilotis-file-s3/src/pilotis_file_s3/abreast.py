"""A few blocking calls side by side, in both colours."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from functools import partial

from pilotis.bridge import THREADS, Latch


class Abreast:
    """Calls on threads, a few at a time, begun by one caller. The first that fails ends the caller's next wait."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._under_way = 0
        self._ended = Latch()
        self._error: BaseException | None = None

    async def call(self, job: Callable[[], object]) -> None:
        """Begin a call, once there is room for it. Raises what one of those before it raised."""
        await self._wait_for(self._most - 1)
        self._raise()
        with self._lock:
            self._under_way += 1
        try:
            THREADS.submit(partial(self._run, partial(contextvars.copy_context().run, job)))
        except BaseException:
            self._end()
            raise

    async def all(self) -> None:
        """Wait until all have ended. Raises what one of them raised."""
        await self._wait_for(0)
        self._raise()

    async def ended(self) -> None:
        """Wait until all have ended, however that was."""
        await self._wait_for(0)

    async def _wait_for(self, under_way: int) -> None:
        while True:
            with self._lock:
                if self._under_way <= under_way:
                    return
                self._ended = ended = Latch()
            await ended.wait()

    def _run(self, job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:
            self._error = self._error or error
        self._end()

    def _end(self) -> None:
        with self._lock:
            self._under_way -= 1
            ended = self._ended
        ended.set()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
