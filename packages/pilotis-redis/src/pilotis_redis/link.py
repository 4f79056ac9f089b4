"""The one way to Redis: the blocking client or the asyncio one behind the same `execute`."""

from __future__ import annotations

import functools
import math
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import msgspec
from pilotis.bridge import Latch, running_loop
from pilotis.errors import ConfigurationError
from redis.exceptions import NoScriptError

from pilotis_redis.clients import async_client, blocking_client
from pilotis_redis.listener import Listener
from pilotis_redis.options import RedisOptions
from pilotis_redis.pairs import ClusterPair, LentPair, Pair
from pilotis_redis.scripts import Script
from pilotis_redis.tracking import OnChange, track

Command = tuple[Any, ...]
Call = tuple[Sequence[str], Sequence[Any]]
"""The keys and the arguments of a script."""


class RedisLink:
    """Commands to one Redis, from any thread and any event loop.

    Replies are those of redis-py, texts as bytes. Errors are redis-py's own; `faults.classify` explains them. A command
    is sent once: where its answer is lost, nobody knows what became of it. Connections are made when they are first
    needed, and again after `close` and in a child process.
    """

    def __init__(self, options: RedisOptions, *, client: Any = None, async_client: Any = None) -> None:
        """Keep the options, or clients of the caller's, which count instead and are never closed. No I/O."""
        lent = [given for given in (client, async_client) if given is not None]
        for given in lent:
            _check_lent(given)
        self._options = options
        self._lent = (client, async_client)
        self.patience = min((_time_out(given) for given in lent), default=options.timeout)
        """For how many seconds an answer is waited for; infinite for clients that were passed in and wait for ever."""
        self.is_cluster = _is_cluster(lent[0]) if lent else options.address.kind == "cluster"
        self.address = "the client that was passed in" if lent else options.address.shown
        if lent:
            self._commands = self._reads = self._lines = LentPair(client, async_client)
        else:
            self._commands = _pair(options, is_waiting=False)
            self._reads = _pair(options, is_waiting=True)
            self._lines = _pair(options, is_waiting=False)
        self.can_listen = client is not None or not lent
        """Whether there is a blocking client, which `listening` needs."""
        self.can_track = not lent and not self.is_cluster
        """Whether connections can be made for `track`, and one of them tells of all keys."""
        self._listener = Listener(self._lines.blocking, options.timeout)

    async def execute(self, *command: Any) -> Any:
        """Run one command and return its reply."""
        return await self._commands.execute(command, {})

    def patient(self, seconds: float) -> RedisLink:
        """Return a link with connections of its own, for commands that wait on the server for up to `seconds`.

        So what waits holds nobody up, and a connection that broke unnoticed is found out. Close it in the end.
        With clients that were passed in, theirs are used, with their time-outs: see `patience`.
        """
        client, async_client = self._lent
        options = msgspec.structs.replace(self._options, timeout=self._options.timeout + seconds)
        return RedisLink(options, client=client, async_client=async_client)

    async def execute_waiting(self, *command: Any) -> Any:
        """Run a command that waits on the server, such as `BLPOP`, for as long as it says itself.

        It has a connection of its own, without a time-out: name the time in the command. With clients that were passed
        in, theirs are used, with their time-outs.
        """
        return await self._reads.execute(command, {})

    async def pipeline(self, commands: Iterable[Command]) -> list[Any]:
        """Send commands together and return their replies in order: one round trip (in a cluster, one per node).

        All of them run, each by itself; then the first error is raised.
        """
        return _unfailed(await self._commands.pipeline(list(commands)))

    async def transaction(self, commands: Iterable[Command]) -> list[Any]:
        """Run commands in one `MULTI` and return their replies in order: all of them, with nothing between, or none.

        One that fails keeps none of the others back; then the first error is raised. In a cluster, all keys must have
        the same hash tag.
        """
        return _unfailed(await self._commands.pipeline(list(commands), together=True))

    async def script(self, script: Script, keys: Sequence[str], arguments: Sequence[Any] = ()) -> Any:
        """Run a script, atomically, and return its reply. A server that does not know it yet is sent it.

        In a cluster all keys must have the same hash tag.
        """
        try:
            return await self._commands.execute(("EVALSHA", script.digest, len(keys), *keys, *arguments), {})
        except NoScriptError:
            return await self.execute("EVAL", script.source, len(keys), *keys, *arguments)

    async def script_each(self, script: Script, calls: Iterable[Call]) -> list[Any]:
        """Run a script for each call, in one round trip, and return the replies in order.

        Each run is atomic by itself. All of them run; then the first error is raised.
        """
        runs = [(len(keys), *keys, *arguments) for keys, arguments in calls]
        replies = await self._commands.pipeline([("EVALSHA", script.digest, *run) for run in runs])
        unknown = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            again = await self._commands.pipeline([("EVAL", script.source, *runs[index]) for index in unknown])
            for index, reply in zip(unknown, again, strict=True):
                replies[index] = reply
        return _unfailed(replies)

    async def script_together(self, script: Script, calls: Iterable[Call]) -> list[Any]:
        """Run a script for each call, all of them atomically, and return the replies in order.

        The first call brings the script along: within a transaction, nobody can send one that was not known.
        """
        runs = [(len(keys), *keys, *arguments) for keys, arguments in calls]
        first = ("EVAL", script.source, *runs[0])
        return await self.transaction([first, *(("EVALSHA", script.digest, *run) for run in runs[1:])])

    def listening(self, channel: str) -> AbstractAsyncContextManager[Latch]:
        """Listen to a channel: `async with` enters once the server knows, and has a latch that the next message sets.

        All who listen share one connection. The latch is set, too, when that breaks: look for yourself.
        """
        return self._listener.listening(channel)

    async def track(self, prefix: str, on_change: OnChange) -> None:
        """Tell of changes to keys that begin with `prefix`, by whomever, until the connection breaks: then raise.

        It is a connection of its own, on the running loop. `on_change(None)` is called once every later change
        will be told, and where a database was flushed; then `on_change(keys)`.
        """
        await track(self._options, prefix, on_change)

    async def scan(self, pattern: str, count: int) -> AsyncGenerator[list[bytes], None]:
        """Find keys by a pattern of Redis's own, about `count` looked at in each step; no step blocks the server.

        A key may be found twice. Keys that come or go meanwhile may be found or not.
        """
        for target in await self._scanned():
            cursor = 0
            while True:
                command = ("SCAN", cursor, "MATCH", pattern, "COUNT", count)
                cursor, keys = _scanned_step(await self._commands.execute(command, target))
                if keys:
                    yield keys
                if cursor == 0:
                    break

    async def info(self) -> dict[str, Any]:
        """Return what the server tells of itself; of a cluster, one node of it."""
        options = {"target_nodes": "random"} if self.is_cluster else {}
        return await self._commands.execute(("INFO",), options)

    async def close(self) -> None:
        """Close the clients, unless they were passed in. Idempotent."""
        await self._listener.close()
        await self._commands.close()
        await self._reads.close()
        await self._lines.close()

    def native(self, kind: type) -> object | None:
        """Return redis-py's own client of a type: the blocking one, or that of the running loop."""
        return next((client for client in self._commands.at_hand() if isinstance(client, kind)), None)

    async def _scanned(self) -> list[dict[str, Any]]:
        """Return the options that send a command to each server that has keys of its own."""
        if not self.is_cluster:
            return [{}]
        await self.info()  # now it knows its nodes
        client = self._commands.blocking() if running_loop() is None else self._commands.awaited()
        return [{"target_nodes": node} for node in client.get_primaries()]


def each_stream(reply: Any) -> Iterable[tuple[bytes, list[Any]]]:
    """Return the streams that `XREAD` or `XREADGROUP` answered with, and their entries, whatever the protocol."""
    if isinstance(reply, dict):
        by_name = cast("dict[bytes, list[list[Any]]]", reply)
        return [(name, [entry for part in parts for entry in part]) for name, parts in by_name.items()]
    return [] if reply is None else [(name, entries) for name, entries in reply]


def _unfailed(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _scanned_step(reply: Any) -> tuple[int, list[bytes]]:
    """Return the cursor and the keys of one step; a cluster tells the cursor by node."""
    cursor: int | dict[str, int]
    cursor, keys = reply
    return (next(iter(cursor.values())) if isinstance(cursor, dict) else cursor), keys


def _pair(options: RedisOptions, *, is_waiting: bool) -> Pair:
    kind = ClusterPair if options.address.kind == "cluster" else Pair
    return kind(
        functools.partial(blocking_client, options, is_waiting=is_waiting),
        functools.partial(async_client, options, is_waiting=is_waiting),
    )


def _check_lent(client: Any) -> None:
    encoder = client.get_encoder() if hasattr(client, "get_encoder") else None
    if encoder is None:
        raise ConfigurationError(f"expected a client of redis-py, got {type(client).__qualname__}")
    if encoder.decode_responses:
        raise ConfigurationError("expected a client that leaves replies as bytes: make it with decode_responses=False")


def _time_out(client: Any) -> float:
    """Return for how long a client waits for an answer."""
    holder = client.nodes_manager if hasattr(client, "nodes_manager") else client.connection_pool
    seconds = holder.connection_kwargs.get("socket_timeout")
    return math.inf if seconds is None else seconds


def _is_cluster(client: Any) -> bool:
    return hasattr(client, "get_primaries")
