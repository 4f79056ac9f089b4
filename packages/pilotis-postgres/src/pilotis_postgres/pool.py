"""A fair pool, written once for threads and for the tasks of a loop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from pilotis.bridge import Latch, finish
from pilotis.errors import OperationTimeoutError

from pilotis_postgres.connections import closed, is_quiet, tidied


class Pool:
    """At most `size` connections. Who finds all in use stands in line, and nobody overtakes them.

    What is given back goes to the first in line at once; so a task that is cancelled at its turn passes it on, and
    nobody waits beside a connection that is free.
    """

    def __init__(self, size: int, patience: float, make: Callable[[], Awaitable[Any]]) -> None:
        self._make = make
        self._patience = patience
        self._size = self._places = size
        self._lock = threading.Lock()
        self._free: list[Any] = []
        self._lent: dict[int, Any] = {}
        self._line: deque[Latch] = deque()
        self._is_closed = False

    async def take(self, patience: float | None = None) -> Any:
        """Return a connection that works. One that broke since it was last used is replaced by a new one.

        Raises `OperationTimeoutError` when none has become free for `patience` seconds, or those of the pool.
        """
        await self._place(self._patience if patience is None else patience)
        try:
            connection = await self._connection()
        except BaseException:
            self._leave()
            raise
        self._lent[id(connection)] = connection
        return connection

    async def give(self, connection: Any) -> None:
        """Take a connection back, rolling back what it was about; one that is of no more use is dropped."""
        try:
            is_tidy = await tidied(connection)
        except BaseException:
            await self.drop(connection)
            raise
        if is_tidy and not self._is_closed and self._lent.pop(id(connection), None) is not None:
            self._free.append(connection)
            self._leave()
        else:
            await self.drop(connection)

    async def drop(self, connection: Any) -> None:
        """Close a connection that was taken, instead of giving it back."""
        if self._lent.pop(id(connection), None) is not None:
            self._leave()
        await finish(closed(connection))

    async def close(self, *, lent: bool = False) -> None:
        """Close what is free now, and what is `lent` too if asked to; else that is closed when it is given back."""
        self._is_closed = True
        while self._free:
            await closed(self._free.pop())
        for connection in list(self._lent.values()) if lent else ():
            await closed(connection)

    async def _connection(self) -> Any:
        while self._free:
            try:
                connection = self._free.pop()
            except IndexError:  # somebody else was faster
                break
            if is_quiet(connection):
                return connection
            await closed(connection)
        return await self._make()

    async def _place(self, patience: float) -> None:
        with self._lock:
            if self._places:
                self._places -= 1
                return
            turn = Latch()
            self._line.append(turn)
        try:
            if not await turn.wait(patience):
                raise OperationTimeoutError(
                    f"all {self._size} connections were in use for {patience:g} s; raise max_connections"
                )
        except BaseException:
            self._step_out(turn)
            raise

    def _step_out(self, turn: Latch) -> None:
        with self._lock:
            if turn in self._line:
                self._line.remove(turn)
                return
        self._leave()  # it was his turn

    def _leave(self) -> None:
        """Give a place to the first in line, or back."""
        with self._lock:
            if self._line:
                self._line.popleft().set()
            else:
                self._places += 1
