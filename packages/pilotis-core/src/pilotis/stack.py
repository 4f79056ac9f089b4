"""Where a pool keeps its connections: last in, first out, and first come, first served."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from typing import Any


class Stack:
    """Places, which are None, and connections that were made. It is a queue as redis-py's pools use it.

    Those who wait stand in line, and nobody overtakes them: else a thread that gives a connection back and wants one
    again would always find it before a waiting one has woken up. There is no lock: each step is one of a deque's own.
    """

    def __init__(self, size: int) -> None:
        self.queue: deque[Any] = deque()
        """What is free, the places below."""
        self._size = size
        self._line: deque[threading.Event] = deque()
        """Who waits. The first one alone may take something; what he has is set when it is time to look."""

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._line)

    def connection(self) -> Any | None:
        """Take a connection that was made; None where there is none, or where others wait for one."""
        if self._line:
            return None
        try:
            top = self.queue.pop()
        except IndexError:
            return None
        if top is None:
            self.put_nowait(None)
        return top

    def put_nowait(self, item: Any) -> None:
        """Put a connection on top, or a place below. Raises `queue.Full` for one too many."""
        if len(self.queue) >= self._size:
            raise queue.Full
        if item is None:
            self.queue.appendleft(None)
        else:
            self.queue.append(item)
        if self._line:
            self._call_next()

    def get(self, block: bool, timeout: float) -> Any:
        """Take what is on top, and wait for it at most `timeout` seconds: then `queue.Empty` is raised."""
        deadline = time.monotonic() + (timeout if block else 0.0)
        turn = threading.Event()
        try:
            self._line.append(turn)  # in here, as nobody would pass one who was interrupted and stood there for good
            return self._at_turn(turn, deadline)
        finally:
            self._line.remove(turn)
            self._call_next()

    def _at_turn(self, turn: threading.Event, deadline: float) -> Any:
        while True:
            if self._line[0] is turn and self.queue:
                try:
                    return self.queue.pop()
                except IndexError:  # somebody took it who had looked before there was a line
                    pass
            left = deadline - time.monotonic()
            if left <= 0:
                raise queue.Empty
            turn.wait(left)
            turn.clear()

    def _call_next(self) -> None:
        try:
            first = self._line[0]
        except IndexError:
            return
        if self.queue:
            first.set()
