"""What is published, heard by a whole process on one connection."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from pilotis.bridge import Latch, finish, reset_after_fork, run_blocking
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as NoAnswerError

logger = logging.getLogger("pilotis.redis")

ALWAYS = "pilotis:listening"
"""A channel on which nothing is ever said: without one, redis-py does not read."""
LONGEST_READ = 3600.0
"""Seconds after which one read is followed by the next: there is no need for it to be long or short."""


class Listener:
    """Subscriptions of all threads and event loops of a process, on one connection and one thread.

    Both begin when somebody first listens. When the connection breaks, everybody is woken, and the next one to listen
    makes a new one: whoever is woken must look for himself.
    """

    def __init__(self, client: Callable[[], Any], timeout: float) -> None:
        """`client` returns a blocking client, whose time-outs are for connecting; `timeout` is for subscribing."""
        self._client = client
        self._timeout = timeout
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._line: _Line | None = None

    @asynccontextmanager
    async def listening(self, channel: str) -> AsyncGenerator[Latch]:
        """Enter once the server knows; the latch is set at the next message, or when the connection breaks."""
        heard = Latch()
        name = channel.encode()
        line, known = await run_blocking(self._join, name, heard)
        try:
            if not await known.wait(self._timeout):
                raise NoAnswerError(f"no answer to SUBSCRIBE within {self._timeout:g} s")
            if line.error is not None:  # it broke before anybody could hear anything
                raise line.error
            yield heard
        finally:
            await finish(run_blocking(line.leave, name, heard))

    async def close(self) -> None:
        """End the connection, and wake everybody. Idempotent."""
        with self._lock:
            line, self._line = self._line, None
        if line is not None:
            await run_blocking(line.cut)

    def _join(self, channel: bytes, heard: Latch) -> tuple[_Line, Latch]:
        """Blocks while connecting."""
        with self._lock:
            if self._line is None or self._line.is_cut:
                self._line = _Line(self._client().pubsub())
                self._line.begin()
            return self._line, self._line.join(channel, heard)


class _Channel:
    """Who listens to it, and whether the server knows."""

    def __init__(self) -> None:
        self.known = Latch()
        self.heard: list[Latch] = []


class _Line:
    """A connection, from its first subscription until it breaks."""

    def __init__(self, subscriptions: Any) -> None:
        self.is_cut = True
        self.error: Exception | None = None
        """What broke it."""
        self._subscriptions = subscriptions
        self._lock = threading.Lock()
        self._channels: dict[bytes, _Channel] = {}

    def begin(self) -> None:
        """Blocks while connecting. Whoever is interrupted leaves a line that is cut, and no thread."""
        try:
            self._subscriptions.subscribe(ALWAYS)
            self.is_cut = False
            threading.Thread(target=self._listen, daemon=True, name="pilotis-redis-listener").start()
        except BaseException:
            self.cut()
            raise

    def join(self, channel: bytes, heard: Latch) -> Latch:
        """Have `heard` set at the next message, and return what is set once the server knows."""
        with self._lock:
            entry = self._channels.get(channel) or self._subscribed(channel)
            entry.heard.append(heard)
            if self.is_cut:
                _wake(entry)
            return entry.known

    def leave(self, channel: bytes, heard: Latch) -> None:
        with self._lock:
            entry = self._channels.get(channel)
            if entry is None:
                return
            entry.heard.remove(heard)
            if not entry.heard and not self.is_cut:
                del self._channels[channel]
                self._send(self._subscriptions.unsubscribe, channel)

    def cut(self) -> None:
        """End the connection: its thread notices, and ends too."""
        with self._lock:
            self.is_cut = True
            connection = self._subscriptions.connection
            if connection is not None:
                connection.disconnect()

    def _subscribed(self, channel: bytes) -> _Channel:
        entry = self._channels[channel] = _Channel()
        if not self.is_cut:
            self._send(self._subscriptions.subscribe, channel)
        return entry

    def _send(self, command: Callable[[bytes], object], channel: bytes) -> None:
        """Send a command; where that fails the connection is broken, and the next one to listen makes another."""
        try:
            command(channel)
        except RedisError as error:
            self.error = self.error or error
            self.is_cut = True

    def _listen(self) -> None:
        try:
            while not self.is_cut:
                self._note(self._subscriptions.get_message(timeout=LONGEST_READ))
        except Exception as error:
            self.error = self.error or error
            logger.log(logging.DEBUG if self.is_cut else logging.INFO, "stopped listening to Redis: %s", error)
        finally:
            self._end()

    def _note(self, message: dict[str, Any] | None) -> None:
        with self._lock:
            entry = self._channels.get(message["channel"]) if message is not None else None
            if message is None or entry is None:
                return
            if message["type"] == "subscribe":
                entry.known.set()
            elif message["type"] == "message":
                for heard in entry.heard:
                    heard.set()

    def _end(self) -> None:
        with self._lock:
            self.is_cut = True
            for entry in self._channels.values():
                _wake(entry)
            self._subscriptions.close()


def _wake(entry: _Channel) -> None:
    for latch in (entry.known, *entry.heard):
        latch.set()
