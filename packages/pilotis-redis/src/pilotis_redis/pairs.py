"""A client of each colour, made when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from pilotis.bridge import Flights, PerLoop, finish, reset_after_fork, run_blocking, running_loop
from pilotis.errors import UnsupportedError


class Pair:
    """The blocking client of a process and the asyncio clients of its loops; those of its own are closed by it."""

    def __init__(self, make_blocking: Callable[[], Any], make_async: Callable[[], Any]) -> None:
        self._make_blocking = make_blocking
        self._loops: PerLoop[Any] = PerLoop(make_async, _aclose)
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._blocking: Any = None

    def blocking(self) -> Any:
        """Return the client for threads."""
        return self._blocking or self._begin()

    def awaited(self) -> Any:
        """Return the client of the running loop."""
        return self._loops.get()

    def at_hand(self) -> list[Any]:
        """Return the clients that can be used here."""
        return [self.blocking()] if running_loop() is None else [self.blocking(), self.awaited()]

    async def close(self) -> None:
        """Close the clients. They are made again when they are needed again."""
        with self._lock:
            client, self._blocking = self._blocking, None
        if client is not None:
            client.close()
        await self._loops.aclose()

    async def execute(self, command: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Run one command."""
        if running_loop() is None:
            return self.blocking().execute_command(*command, **options)
        return await self.awaited().execute_command(*command, **options)

    async def pipeline(self, commands: list[tuple[Any, ...]], *, together: bool = False) -> list[Any]:
        """Send commands at once, `together` in a transaction, and return what became of each: its reply or error."""
        if running_loop() is None:
            return _filled(self.blocking(), commands, together).execute(raise_on_error=False)
        return await _filled(self.awaited(), commands, together).execute(raise_on_error=False)

    def _begin(self) -> Any:
        client = self._make_blocking()  # outside of the lock: that of a cluster connects
        with self._lock:
            kept = self._blocking = self._blocking or client
        if kept is not client:
            client.close()
        return kept


class ClusterPair(Pair):
    """Clients of a cluster. One task at a time has the asyncio client find its nodes, before anybody else uses it.

    redis-py breaks the connections of those who use it meanwhile.
    """

    def after_fork(self) -> None:
        super().after_fork()
        self._findings = Flights()
        self._ready: WeakSet[Any] = WeakSet()

    async def execute(self, command: tuple[Any, ...], options: dict[str, Any]) -> Any:
        await self._find_nodes()
        return await super().execute(command, options)

    async def pipeline(self, commands: list[tuple[Any, ...]], *, together: bool = False) -> list[Any]:
        await self._find_nodes()
        return await super().pipeline(commands, together=together)

    async def _find_nodes(self) -> None:
        if running_loop() is None:
            return
        client = self.awaited()
        if client not in self._ready:
            # to its end: redis-py never closes what it had opened when it was cancelled
            await self._findings.run(id(client), lambda: finish(client.initialize()))
            self._ready.add(client)


class LentPair(Pair):
    """Clients of somebody else's, which are never closed. One of a colour will do.

    Without an asyncio client, commands under a loop go through a thread; without a blocking one, blocking use is an
    `UnsupportedError`.
    """

    def __init__(self, blocking: Any, awaited: Any) -> None:
        super().__init__(lambda: blocking, lambda: awaited)
        self._lent = blocking
        self._lent_async = awaited

    def blocking(self) -> Any:
        if self._lent is None:
            raise UnsupportedError("blocking use: only async_client= was passed in, so pass client= too, or", "redis")
        return self._lent

    def awaited(self) -> Any:
        return self._lent_async or self._lent

    def at_hand(self) -> list[Any]:
        return [client for client in (self._lent, self._lent_async) if client is not None]

    async def close(self) -> None:
        """Do nothing: whoever lent the clients closes them."""

    async def execute(self, command: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if self._lent_async is None:
            return await run_blocking(self._lent.execute_command, *command, **options)
        return await super().execute(command, options)

    async def pipeline(self, commands: list[tuple[Any, ...]], *, together: bool = False) -> list[Any]:
        if self._lent_async is None:
            return await run_blocking(_filled(self._lent, commands, together).execute, raise_on_error=False)
        return await super().pipeline(commands, together=together)


def _filled(client: Any, commands: list[tuple[Any, ...]], together: bool) -> Any:
    pipeline = client.pipeline(transaction=together)
    for command in commands:
        pipeline.execute_command(*command)
    return pipeline


async def _aclose(client: Any) -> None:
    await client.aclose()
