"""Pools whose callers wait for a connection, and try again to make one: redis-py's own fail in either case.

A pool makes the connection before a command is sent, so trying again here can never send a command twice.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from pilotis.backoff import Backoff
from pilotis.bridge import pause
from pilotis.errors import ConnectionFailedError

from pilotis_redis.faults import classify
from pilotis_redis.quick import is_quiet, is_quiet_async
from pilotis_redis.stack import Stack

RECONNECTING = Backoff.exponential(0.05, factor=3, maximum=1, jitter=0.5)

if TYPE_CHECKING:
    _Blocking = redis.BlockingConnectionPool
    _Async = redis.asyncio.BlockingConnectionPool
else:
    _Blocking = _Async = object


class _Patience(_Blocking):
    """Connecting from a thread."""

    reconnects: int
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
            self.pool.put_nowait(connection)
        else:
            self.release(connection)

    def get_connection(self, *_: Any, **__: Any) -> Any:
        attempt = 1
        while True:
            try:
                return super().get_connection()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            except redis.ConnectionError as error:
                if not _may_pass(error, attempt, self.reconnects):
                    raise
            time.sleep(RECONNECTING.delay(attempt))
            attempt += 1


class _AsyncPatience(_Async):
    """Connecting from a task."""

    reconnects: int
    waiting: int = 0
    """Tasks in line for a connection. Nobody overtakes them."""

    def at_hand(self) -> Any | None:
        """Take a connection that is ready for a command; None where one is to be made, mended or waited for."""
        if self.waiting or not self._available_connections or not is_quiet_async(self._available_connections[-1]):
            return None
        connection = self._available_connections.pop()
        self._in_use_connections.add(connection)
        return connection

    async def give(self, connection: Any) -> None:
        """Take back what was at hand."""
        if self.waiting or connection.should_reconnect():
            await self.release(connection)
            return
        self._in_use_connections.remove(connection)
        self._available_connections.append(connection)

    async def get_connection(self, *_: Any, **__: Any) -> Any:
        attempt = 1
        while True:
            try:
                return await (self._take() if self.can_get_connection() and not self.waiting else self._queue())
            except redis.ConnectionError as error:
                if not _may_pass(error, attempt, self.reconnects):
                    raise
            await pause(RECONNECTING.delay(attempt))
            attempt += 1

    async def _take(self) -> Any:
        """Take a connection that is free: redis-py would begin a wait, with a time-out, for that too."""
        connection = self.get_available_connection()
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

    async def _queue(self) -> Any:
        self.waiting += 1
        try:
            return await super().get_connection()  # pyright: ignore[reportUnknownMemberType]
        finally:
            self.waiting -= 1


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


def _sentinels(pool: Any) -> list[Any]:
    return pool.sentinel_manager.sentinels


def _may_pass(error: redis.ConnectionError, attempt: int, reconnects: int) -> bool:
    """Tell whether the server may let us in when it is asked again: it is down or starting, and not unwilling."""
    return attempt <= reconnects and classify(error) is ConnectionFailedError
