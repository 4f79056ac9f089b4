"""Where handlers are run: so many places in a process, for all of its subscriptions."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Places(Generic[T]):
    """Lends places to whoever asks, and has the others wait for their turn, in order. Thread-safe.

    `most` is how many places there are; None for as many as are asked for. `start` is called with each one whose place
    has come.
    """

    def __init__(self, most: int | None, start: Callable[[T], None]) -> None:
        self._most = most
        self._start = start
        self._lock = threading.Lock()
        self._taken = 0
        self._waiting: deque[T] = deque()

    @property
    def wanted(self) -> bool:
        """Whether somebody waits: then nobody should stay for long."""
        return bool(self._waiting)

    def ask(self, one: T) -> None:
        """Start one at once, or as soon as a place is free."""
        with self._lock:
            if self._most is not None and self._taken >= self._most:
                self._waiting.append(one)
                return
            self._taken += 1
        self._start(one)

    def leave(self) -> None:
        """Give a place back, to the next who waits."""
        with self._lock:
            if not self._waiting:
                self._taken -= 1
                return
            one = self._waiting.popleft()
        self._start(one)
