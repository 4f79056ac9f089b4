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

from pilotis_redis.faults import classify, mark_unsent

RECONNECTING = Backoff.exponential(0.05, factor=3, maximum=1, jitter=0.5)

if TYPE_CHECKING:
    _Blocking = redis.BlockingConnectionPool
    _Async = redis.asyncio.BlockingConnectionPool
else:
    _Blocking = _Async = object


class _Patience(_Blocking):
    """Connecting from a thread."""

    reconnects: int

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
    """Connecting from a task."""

    reconnects: int
    waiting: int = 0
    """Tasks in line for a connection. Nobody overtakes them."""

    async def get_connection(self, *_: Any, **__: Any) -> Any:
        attempt = 1
        while True:
            try:
                return await (self._take() if self.can_get_connection() and not self.waiting else self._queue())
            except (redis.ConnectionError, redis.TimeoutError) as error:
                if not _may_pass(error, attempt, self.reconnects):
                    mark_unsent(error)
                    raise
            await pause(RECONNECTING.delay(attempt))
            attempt += 1

    async def _take(self) -> Any:
        """Take a connection that is free: redis-py would begin a wait, with a time-out, for that too."""
        connection = self.get_available_connection()
        try:
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


def _may_pass(error: Exception, attempt: int, reconnects: int) -> bool:
    """Tell whether the server may let us in when it is asked again: it is down or starting, and not unwilling."""
    return attempt <= reconnects and classify(error) is ConnectionFailedError
