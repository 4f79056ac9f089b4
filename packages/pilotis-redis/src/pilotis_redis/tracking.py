"""Changes to keys, as the server tells of them: client tracking, on a connection of its own.

The connection speaks RESP2 and has invalidations redirected to itself: so they are ordinary messages of a channel, and
tracking ends with the connection that hears of it, never behind its back. See https://redis.io/docs/latest/develop/reference/client-side-caching/
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import msgspec
from redis.exceptions import TimeoutError as NoAnswerError

from pilotis_redis.clients import async_client
from pilotis_redis.options import RedisOptions

CHANNEL = "__redis__:invalidate"

OnChange = Callable[[Collection[str] | None], object]


async def track(options: RedisOptions, prefix: str, on_change: OnChange) -> None:
    """Tell of changes until the connection breaks, and raise what broke it. See `RedisLink.track`."""
    client = async_client(msgspec.structs.replace(options, protocol=2), is_waiting=True)
    try:
        line = _Line(await client.connection_pool.get_connection(), options.timeout)
        await line.begin(prefix)
        on_change(None)
        while True:
            message = await line.heard()
            if message[0] == b"message":
                on_change(_keys(message[2]))
    finally:
        await client.aclose()


class _Line:
    """The connection. The server that says nothing for as long as the time-out is asked whether it is still there."""

    def __init__(self, connection: Any, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout

    async def begin(self, prefix: str) -> None:
        number = await self._asked("CLIENT", "ID")
        await self._asked("CLIENT", "TRACKING", "ON", "REDIRECT", number, "BCAST", "PREFIX", prefix)
        await self._asked("SUBSCRIBE", CHANNEL)

    async def heard(self) -> list[Any]:
        """Return the next message, or the answer to being asked."""
        message = await self._connection.read_response(timeout=self._timeout)
        return await self._asked("PING") if message is None else message

    async def _asked(self, *command: Any) -> Any:
        await self._connection.send_command(*command)
        reply = await self._connection.read_response(timeout=self._timeout)
        if reply is None:
            raise NoAnswerError(f"no answer to {command[0]} within {self._timeout:g} s")
        return reply


def _keys(names: list[bytes] | None) -> list[str] | None:
    """Return the keys that have changed; None for all, when a database was flushed."""
    return None if names is None else [name.decode(errors="replace") for name in names]
