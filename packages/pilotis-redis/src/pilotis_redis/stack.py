"""Where a pool keeps its connections: last in, first out, and without a lock unless somebody waits."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from typing import Any


class Stack:
    """A queue as redis-py's pools use it: of places, which are None, and of connections that were made.

    `append` and `pop` of a deque are one step each, so that only those who wait need a lock.
    """

    def __init__(self, size: int) -> None:
        self.queue: deque[Any] = deque()
        self._size = size
        self._returned = threading.Condition()
        self._waiting = 0

    def connection(self) -> Any | None:
        """Take a connection that was made; None where there is none, or where others wait for one."""
        if self._waiting:
            return None
        try:
            top = self.queue.pop()
        except IndexError:
            return None
        if top is None:
            self.put_nowait(None)
        return top

    def put_nowait(self, item: Any) -> None:
        """Put a connection or a place on top. Raises `queue.Full` for one too many."""
        if len(self.queue) >= self._size:
            raise queue.Full
        self.queue.append(item)
        if self._waiting:
            with self._returned:
                self._returned.notify()

    def get(self, block: bool, timeout: float) -> Any:
        """Take what is on top, and wait for it at most `timeout` seconds: then `queue.Empty` is raised."""
        deadline = time.monotonic() + (timeout if block else 0.0)
        with self._returned:
            self._waiting += 1  # from now on, whoever puts something back tells
            try:
                return self._next(deadline)
            finally:
                self._waiting -= 1

    def _next(self, deadline: float) -> Any:
        while True:
            try:
                return self.queue.pop()
            except IndexError:
                left = deadline - time.monotonic()
            if left <= 0:
                raise queue.Empty
            self._returned.wait(left)
