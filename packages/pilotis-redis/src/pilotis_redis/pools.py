"""Pools whose callers wait for a connection, and try again to make one: redis-py's own fail in either case.

A pool makes the connection before a command is sent, so trying again here can never send a command twice.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from pilotis.backoff import Backoff
from pilotis.bridge import Latch, pause
from pilotis.errors import ConnectionFailedError
from pilotis.stack import Stack

from pilotis_redis.faults import classify, mark_unsent
from pilotis_redis.quick import is_quiet, is_quiet_async

RECONNECTING = Backoff.exponential(0.05, factor=3, maximum=1, jitter=0.5)

if TYPE_CHECKING:
    _Blocking = redis.BlockingConnectionPool
    _Async = redis.asyncio.BlockingConnectionPool
else:
    _Blocking = _Async = object


class _Patience(_Blocking):
    """Connecting from a thread."""

    reconnects: int = 0
    """None for the pools of a cluster: another node may have taken over, which only asking anew can tell."""
    pool: Stack

    def __init__(self, *args: Any, **settings: Any) -> None:
        kind: Any = Stack
        super().__init__(*args, queue_class=kind, **settings)  # pyright: ignore[reportUnknownMemberType]

    def at_hand(self) -> Any | None:
        """Take a connection that is ready for a command; None where one is to be made, mended or waited for."""
        self._checkpid()
        connection = self.pool.connection()
        if connection is None or is_quiet(connection):
            return connection
        self.pool.put_nowait(connection)
        return None

    def give(self, connection: Any) -> None:
        """Take back what was at hand."""
        if self.owns_connection(connection) and not connection.should_reconnect():
            _cut_if_interrupted(connection)
            self.pool.put_nowait(connection)
        else:
            self.release(connection)

    def release(self, connection: Any) -> None:
        _cut_if_interrupted(connection)
        super().release(connection)  # pyright: ignore[reportUnknownMemberType]

    def get_connection(self, *_: Any, **__: Any) -> Any:
        attempt = 1
        while True:
            try:
                return super().get_connection()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            except (redis.ConnectionError, redis.TimeoutError) as error:
                if not _may_pass(error, attempt, self.reconnects):
                    mark_unsent(error)
                    raise
            time.sleep(RECONNECTING.delay(attempt))
            attempt += 1


class _AsyncPatience(_Async):
    """Connecting from a task.

    Those for whom there is no connection stand in line, and nobody overtakes them. redis-py's own line has a gap:
    where a task is cancelled at its turn, the next one is not told, and waits beside a free connection.
    """

    reconnects: int

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)  # pyright: ignore[reportUnknownMemberType]
        self._line: deque[Latch] = deque()
        """Who waits, each with what is set at his turn."""

    def at_hand(self) -> Any | None:
        """Take a connection that is ready for a command; None where one is to be made, mended or waited for."""
        if self._line or not self._available_connections or not is_quiet_async(self._available_connections[-1]):
            return None
        connection = self._available_connections.pop()
        self._in_use_connections.add(connection)
        return connection

    async def release(self, connection: Any) -> None:
        """Take a connection back. It waits for nothing, so that no cancellation can come in between."""
        self._in_use_connections.remove(connection)
        if connection.should_reconnect():
            await connection.disconnect(nowait=True)
        self._available_connections.append(connection)
        self._call_next()

    async def get_connection(self, *_: Any, **__: Any) -> Any:
        attempt = 1
        while True:
            try:
                if self._line or not self.can_get_connection():
                    await self._stand_in_line()
                return await self._take()
            except (redis.ConnectionError, redis.TimeoutError) as error:
                if not _may_pass(error, attempt, self.reconnects):
                    mark_unsent(error)
                    raise
            await pause(RECONNECTING.delay(attempt))
            attempt += 1

    async def _take(self) -> Any:
        """Take a connection that is free."""
        connection = self.get_available_connection()
        self._call_next()  # there may be another one
        try:
            if (
                connection.is_connected
                and self.connection_kwargs.get("protocol") != 3
                and not is_quiet_async(connection)
            ):
                await connection.disconnect(nowait=True)  # redis-py notices an end only once the loop has read it
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def _stand_in_line(self) -> None:
        turn = Latch()
        self._line.append(turn)
        try:
            if not await turn.wait(self.timeout):
                raise redis.ConnectionError("No connection available.")
        except BaseException:
            self._line.remove(turn)
            self._call_next()  # it may have been his turn
            raise
        self._line.remove(turn)

    def _call_next(self) -> None:
        if self._line and self.can_get_connection():
            self._line[0].set()


class Pool(_Patience, redis.BlockingConnectionPool):
    """Of one server, for threads."""


class SentinelPool(  # pyright: ignore[reportIncompatibleMethodOverride] - within redis-py
    _Patience, redis.sentinel.SentinelConnectionPool, redis.BlockingConnectionPool
):
    """Of the master that sentinels name, for threads."""

    def disconnect(self, inuse_connections: bool = True) -> None:
        super().disconnect(inuse_connections)
        if inuse_connections:  # it is closed for good, and nobody else closes its connections to sentinels
            for client in _sentinels(self):
                client.close()


class AsyncPool(_AsyncPatience, redis.asyncio.BlockingConnectionPool):
    """Of one server, for the tasks of one loop."""


class AsyncSentinelPool(
    _AsyncPatience, redis.asyncio.sentinel.SentinelConnectionPool, redis.asyncio.BlockingConnectionPool
):
    """Of the master that sentinels name, for the tasks of one loop."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        if inuse_connections:
            for client in _sentinels(self):
                await client.aclose()


def _cut_if_interrupted(connection: Any) -> None:
    """End a connection whose caller was interrupted, wherever he was: there may be replies that he did not read."""
    error = sys.exc_info()[1]
    if error is not None and not isinstance(error, Exception):
        connection.disconnect()


def _sentinels(pool: Any) -> list[Any]:
    return pool.sentinel_manager.sentinels


def _may_pass(error: Exception, attempt: int, reconnects: int) -> bool:
    """Tell whether the server may let us in when it is asked again: it is down or starting, and not unwilling."""
    return attempt <= reconnects and classify(error) is ConnectionFailedError
