"""What is under way, so that closing can wait for it."""

from __future__ import annotations

import threading

from pilotis.bridge import Latch, reset_after_fork


class Underway:
    """Counts the blocks that are being run, on all threads and loops."""

    def __init__(self) -> None:
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._ended = Latch()

    def __enter__(self) -> None:
        with self._lock:
            if self._count == 0:
                self._ended = Latch()
            self._count += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._count -= 1
            last = self._count == 0
        if last:
            self._ended.set()

    async def end(self, limit: float) -> bool:
        """Wait until nothing is under way, at most `limit` real seconds. Return whether that is so."""
        with self._lock:
            if self._count == 0:
                return True
            ended = self._ended
        return await ended.wait(limit)
