"""One server: connections that threads take turns with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from pilotis.providers import reset_after_fork
from pymemcache import Client, MemcacheUnexpectedCloseError  # pyright: ignore[reportMissingTypeStubs]

from pilotis_cache_memcached.options import MemcachedCacheOptions, Place, name_of

T = TypeVar("T")

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
        self._places = threading.BoundedSemaphore(self._options.max_connections)

    def call(self, function: Callable[[Any], T]) -> T:
        """Return `function(client)`. Blocks. Where it fails, in whatever way, its connection is not used again."""
        if not self._places.acquire(timeout=self._options.timeout):
            raise TimeoutError(f"all {self._options.max_connections} connections to {self.name} are in use")
        try:
            client = self._client()
            try:
                answer = function(client)
            except BaseException as error:
                client.close()
                if isinstance(error, _LOST):
                    self.close()
                self._on_failure()
                raise
            self._idle.append(client)
            return answer
        finally:
            self._places.release()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            try:
                client = self._idle.pop()
            except IndexError:  # somebody was faster
                return
            client.close()

    def _client(self) -> Any:
        try:
            return self._idle.pop()
        except IndexError:
            options = self._options
            return Client(
                self._place,
                connect_timeout=options.connect_timeout,
                timeout=options.timeout,
                no_delay=True,
                default_noreply=False,
            )
