"""redis-py's clients with a shorter way for a command whose connection is at hand.

Where nothing goes wrong, redis-py spends more time on queues, conditions, retries that are switched off and metrics
that nobody asked for than on the command. All that is out of the ordinary is left to it: to make a connection, to
mend one, to wait for one.
"""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio
from hiredis import pack_command  # pyright: ignore[reportUnknownVariableType] - it does not tell what it returns

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection as _Connection

    from pilotis_redis.pools import AsyncPool, Pool
else:
    _Connection = object


class QuickClient(redis.Redis):
    """For threads."""

    connection_pool: Pool  # pyright: ignore[reportIncompatibleVariableOverride]

    def execute_command(self, *command: Any, **options: Any) -> Any:
        """Run one command."""
        pool = self.connection_pool
        connection = None if options or self.connection else pool.at_hand()
        if connection is None:
            return super().execute_command(*command, **options)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        try:
            connection.send_packed_command(_packed(connection, command), check_health=False)
            reply = connection.read_response(disconnect_on_error=True)
        finally:
            pool.give(connection)
        return _as_told(self.response_callbacks, command[0], reply)


class QuickAsyncClient(redis.asyncio.Redis):
    """For the tasks of one loop."""

    connection_pool: AsyncPool  # pyright: ignore[reportIncompatibleVariableOverride]

    async def execute_command(self, *command: Any, **options: Any) -> Any:
        """Run one command."""
        pool = self.connection_pool
        connection = None if options or self.connection else pool.at_hand()
        if connection is None:
            return await super().execute_command(*command, **options)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        try:
            reply = await _exchange(connection, command)
        finally:
            await pool.release(connection)
        return _as_told(self.response_callbacks, command[0], reply)


def _packed(connection: Any, command: tuple[Any, ...]) -> Any:
    """Return a command as it is sent. redis-py looks at every argument first: that takes longer than all the rest."""
    try:
        return (pack_command(command),) if " " not in command[0] else connection.pack_command(*command)
    except TypeError:  # an argument that needs to be looked at
        return connection.pack_command(*command)


def _as_told(callbacks: Any, name: str, reply: Any) -> Any:
    """Return a reply as redis-py makes it of the server's: that of SET is True, for one."""
    callback = callbacks.get(name)
    return reply if callback is None else callback(reply)


async def _exchange(connection: Any, command: tuple[Any, ...]) -> Any:
    """Send a command and read its reply, with one timer for both: redis-py's own time-out of a write takes a task."""
    limit = connection.socket_timeout
    cut = _Cut(connection)
    timer = None if limit is None else asyncio.get_running_loop().call_later(limit, cut)
    connection.socket_timeout = None
    try:
        await connection.send_packed_command(_packed(connection, command), check_health=False)
        return await connection.read_response(disconnect_on_error=True)
    except redis.ConnectionError as error:
        if cut.is_made:
            raise redis.TimeoutError(f"no answer for {limit:g} s") from error
        raise
    finally:
        connection.socket_timeout = limit
        if timer is not None:
            timer.cancel()


class _Cancellable(_Connection):
    """A connection on which nobody's cancellation is lost.

    redis-py sends within `asyncio.wait_for`, and that of Python 3.11 takes what was done for the answer to a
    cancellation that came at the same moment: whoever was to end goes on.
    """

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send, within the time-out of the connection."""
        limit = self.socket_timeout
        if limit is None or not self.is_connected:
            await super().send_packed_command(command, check_health)
            return
        cut = _Cut(self)
        timer = asyncio.get_running_loop().call_later(limit, cut)
        self.socket_timeout = None
        try:
            await super().send_packed_command(command, check_health)
        except redis.ConnectionError as error:
            if cut.is_made:
                raise redis.TimeoutError(f"nothing could be sent for {limit:g} s") from error
            raise
        finally:
            self.socket_timeout = limit
            timer.cancel()


class AsyncConnection(_Cancellable, redis.asyncio.Connection):
    """Over TCP."""


class AsyncTLSConnection(_Cancellable, redis.asyncio.SSLConnection):
    """Over TLS."""


class AsyncUnixConnection(_Cancellable, redis.asyncio.UnixDomainSocketConnection):
    """Over a socket of this machine."""


class _Cut:
    """Ends a connection whose answer is late: who waits for it finds it closed."""

    __slots__ = ("_connection", "is_made")

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.is_made = False

    def __call__(self) -> None:
        self.is_made = True
        self._connection._writer.transport.abort()


def is_quiet(connection: Any) -> bool:
    """Tell whether a blocking connection is open, and has nothing to say before it is asked."""
    return connection._sock is not None and not _has_news(connection._sock)


def is_quiet_async(connection: Any) -> bool:
    """Tell the same of an asyncio connection, also of what its loop has not read yet."""
    reader, writer = connection._reader, connection._writer
    if reader is None or writer is None or writer.is_closing() or reader.at_eof() or reader._buffer:
        return False
    return not _has_news(writer.get_extra_info("socket"))


def _has_news(sock: Any) -> bool:
    """Tell whether there is something to read: an end, too."""
    if not hasattr(select, "poll"):  # on Windows, whose `select` takes any socket
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
