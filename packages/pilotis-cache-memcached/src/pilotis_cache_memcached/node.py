"""One server: connections that threads take turns with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple

from pilotis.providers import reset_after_fork
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
        self._idle: list[Any] = []
        self._made = 0
        self._waiting = 0
        self._changed = threading.Condition()

    def call(self, function: Callable[[Any, *Ts], T], *args: *Ts) -> T:
        """Return `function(client, *args)`. Blocks. Where it fails, in whatever way, its connection is not used again.

        Who finds all connections in use waits for one: taking and giving back need no lock where there are enough.
        """
        try:
            client = self._idle.pop()
        except IndexError:
            client = self._awaited()
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
        self._idle.append(client)
        if self._waiting:
            self._tell()
        return answer

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            try:
                client = self._idle.pop()
            except IndexError:  # somebody was faster
                return
            self._end(client)

    def _awaited(self) -> Any:
        with self._changed:
            self._waiting += 1  # before looking: who gives one back from now on tells
            try:
                client = self._changed.wait_for(self._free, self._options.timeout)
            finally:
                self._waiting -= 1
        if client is None:
            raise TimeoutError(f"all {self._options.max_connections} connections to {self.name} are in use")
        return client

    def _free(self) -> Any:
        """Take a connection that nobody uses, or make one while there may be more; None if there may not."""
        try:
            return self._idle.pop()
        except IndexError:
            if self._made >= self._options.max_connections:
                return None
        self._made += 1
        return self._client()

    def _end(self, client: Any) -> None:
        client.close()
        with self._changed:
            self._made -= 1
            self._changed.notify()

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify()

    def _client(self) -> Any:
        options = self._options
        return Client(
            self._place,
            connect_timeout=options.connect_timeout,
            timeout=options.timeout,
            no_delay=True,
            default_noreply=False,
        )
