"""One server: connections that threads take turns with."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple

from pilotis.providers import reset_after_fork
from pilotis.stack import Stack
from pymemcache import Client, MemcacheUnexpectedCloseError  # pyright: ignore[reportMissingTypeStubs]

from pilotis_cache_memcached.options import MemcachedCacheOptions, Place, name_of

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_LOST = (OSError, MemcacheUnexpectedCloseError)
"""After these the other connections are suspect as well."""


class Node:
    """A pool of pymemcache's clients. The one that was used last is used first.

    pymemcache has a pool too, which refuses callers when all are in use, and goes on with dead connections after a
    restart of the server, one failed call each.
    """

    def __init__(self, place: Place, options: MemcachedCacheOptions, on_failure: Callable[[], object]) -> None:
        """Connect to nothing yet. `on_failure` is called when a connection was lost."""
        self.name = name_of(place)
        self._place = place
        self._options = options
        self._on_failure = on_failure
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._stack = Stack(self._options.max_connections)
        for _ in range(self._options.max_connections):
            self._stack.put_nowait(None)

    @property
    def waiting(self) -> int:
        """How many threads wait for a connection."""
        return self._stack.waiting

    def call(self, function: Callable[[Any, *Ts], T], *args: *Ts) -> T:
        """Return `function(client, *args)`. Blocks. Where it fails, in whatever way, its connection is not used again.

        Who finds all connections in use waits for one, and nobody overtakes him.
        """
        client = self._stack.connection() or self._awaited()
        try:
            answer = function(client, *args)
        except BaseException as error:
            self._end(client)
            if isinstance(error, _LOST):
                self.close()
            self._on_failure()
            if isinstance(error, BlockingIOError):
                raise TimeoutError(f"no answer within {self._options.timeout:g} s") from error
            raise
        self._stack.put_nowait(client)
        return answer

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while (client := self._stack.connection()) is not None:
            self._end(client)

    def _awaited(self) -> Any:
        try:
            client = self._stack.get(block=True, timeout=self._options.timeout)
        except queue.Empty:
            used = f"all {self._options.max_connections} connections to {self.name} are in use"
            raise TimeoutError(used) from None
        return client or self._client()

    def _end(self, client: Any) -> None:
        client.close()
        self._stack.put_nowait(None)

    def _client(self) -> Any:
        options = self._options
        return Client(
            self._place,
            connect_timeout=options.connect_timeout,
            timeout=options.timeout,
            no_delay=True,
            default_noreply=False,
        )
