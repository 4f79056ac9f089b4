"""What is notified, heard by a whole process on one connection."""

from __future__ import annotations

import logging
import queue
import select
import socket
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
from pilotis.bridge import Latch, drive, finish, reset_after_fork
from psycopg.sql import SQL, Identifier

from pilotis_postgres.connections import connect
from pilotis_postgres.faults import NoAnswerError
from pilotis_postgres.options import PostgresOptions

logger = logging.getLogger("pilotis.postgres")


class Ear:
    """What hears a channel. Before each look at what may have changed, ask for `news`; then wait for that."""

    def __init__(self, join: Callable[[Ear], Any]) -> None:
        self._join = join
        self.line: Line | None = None
        self.heard = Latch()
        self.pid = 0
        """The server's process that listens: while it is there, so are we."""

    async def news(self) -> Latch:
        """Return a latch that is set by what is notified from now on, or when the connection breaks: look then.

        A connection that broke is made again here.
        """
        self.heard = heard = Latch()
        await self._join(self)
        return heard


class Listener:
    """Channels of all threads and event loops of a process, on one connection and one thread.

    Both begin when somebody first listens. When the connection breaks, everybody is woken, and whoever asks for news
    next makes another.
    """

    def __init__(self, options: PostgresOptions) -> None:
        self._options = options
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self.line: Line | None = None

    @asynccontextmanager
    async def listening(self, channel: str) -> AsyncGenerator[Ear]:
        """Enter once the server knows. Raises psycopg's errors, and `NoAnswerError` where it says nothing."""
        ear = Ear(lambda one: self._attached(channel, one))
        await ear.news()
        try:
            yield ear
        finally:
            if ear.line is not None:
                ear.line.leave(channel, ear)

    async def close(self) -> None:
        """End the connection, and wake everybody. Idempotent."""
        with self._lock:
            line, self.line = self.line, None
        if line is not None:
            line.cut()
            await line.ended.wait(self._options.timeout)

    async def _attached(self, channel: str, ear: Ear) -> None:
        """Have an ear on a line that works, where it is not on one already."""
        if ear.line is not None and not ear.line.is_cut:
            return
        line = self._current()
        known = line.join(channel, ear)
        try:
            await line.begun.wait()
            if not await known.wait(self._options.timeout):
                raise NoAnswerError(f"no answer to LISTEN within {self._options.timeout:g} s")
            if line.error is not None:
                raise line.error
        except BaseException:
            await finish(_left(line, channel, ear))
            raise
        ear.line, ear.pid = line, line.pid

    def _current(self) -> Line:
        """Return the line, which may be connecting still: those who come meanwhile share what becomes of it."""
        with self._lock:
            if self.line is None or self.line.is_cut:
                self.line = Line(self._options)
                self.line.begin()
            return self.line


class _Channel:
    """Who listens to it, and whether the server knows."""

    def __init__(self) -> None:
        self.known = Latch()
        self.ears: list[Ear] = []


class Line:
    """A connection and the thread that it belongs to, which makes it, until it breaks."""

    def __init__(self, options: PostgresOptions) -> None:
        self.is_cut = True
        self.error: Exception | None = None
        """What broke it."""
        self.begun, self.ended = Latch(), Latch()
        """Whether it is connected, or has ended without."""
        self.pid = 0
        self._options = options
        self._connection: Any = None
        self._lock = threading.Lock()
        self.channels: dict[str, _Channel] = {}
        self._errands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._bell, self._ring = socket.socketpair()

    def begin(self) -> None:
        """Start the thread. Whoever is interrupted leaves a line that is cut, and a thread that ends."""
        self.is_cut = False
        try:
            threading.Thread(target=self._work, daemon=True, name="pilotis-postgres-listener").start()
        except BaseException:
            self.cut()
            raise

    def join(self, channel: str, ear: Ear) -> Latch:
        """Have `ear` hear a channel, and return what is set once the server knows."""
        with self._lock:
            entry = self.channels.get(channel)
            if entry is None:
                entry = self.channels[channel] = _Channel()
                self._have_done(lambda: self._tell("LISTEN", channel, entry.known))
            entry.ears.append(ear)
            if self.is_cut:
                entry.known.set()
                ear.heard.set()
            return entry.known

    def leave(self, channel: str, ear: Ear) -> None:
        """Have `ear` hear it no longer."""
        with self._lock:
            entry = self.channels.get(channel)
            if entry is None or ear not in entry.ears:
                return
            entry.ears.remove(ear)
            if not entry.ears:
                del self.channels[channel]
                self._have_done(lambda: self._tell("UNLISTEN", channel, Latch()))

    def cut(self) -> None:
        """End it: its thread notices, and ends too."""
        self.is_cut = True
        self._have_done(lambda: None)

    def _have_done(self, errand: Callable[[], None]) -> None:
        self._errands.put(errand)
        with suppress(OSError):  # it has ended
            self._ring.send(b"!")

    def _tell(self, verb: str, channel: str, done: Latch) -> None:
        self._connection.execute(SQL(verb + " {}").format(Identifier(channel)))  # pyright: ignore[reportArgumentType]
        done.set()

    def _work(self) -> None:
        try:
            self._connect()
            while not self.is_cut:
                self._turn()
        except Exception as error:
            self.error = error
            logger.log(logging.DEBUG if self.is_cut else logging.INFO, "stopped listening to PostgreSQL: %s", error)
        finally:
            self._end()

    def _connect(self) -> None:
        self._connection = drive(connect(self._options), "listen")
        self._connection.add_notify_handler(self._note)
        self.pid = _server_process(self._connection)
        self.begun.set()

    def _turn(self) -> None:
        """Wait for an errand or for something that the server says, and see to both."""
        watch = select.poll()
        for source in (self._bell, self._connection.pgconn.socket):
            watch.register(source, select.POLLIN)
        watch.poll()
        self._connection.pgconn.consume_input()
        while (notice := self._connection.pgconn.notifies()) is not None:
            self._wake(notice.relname.decode())
        while not self._errands.empty():
            self._bell.recv(1)
            self._errands.get()()

    def _note(self, notice: psycopg.Notify) -> None:
        """Hear what came along with the answer to an errand."""
        self._wake(notice.channel)

    def _wake(self, channel: str) -> None:
        with self._lock:
            entry = self.channels.get(channel)
            ears = [] if entry is None else list(entry.ears)
        for ear in ears:
            ear.heard.set()

    def _end(self) -> None:
        self.is_cut = True
        if self._connection is not None:
            self._connection.close()
        self._bell.close()
        self._ring.close()
        with self._lock:
            for entry in self.channels.values():
                entry.known.set()
                for ear in entry.ears:
                    ear.heard.set()
        self.begun.set()
        self.ended.set()


async def _left(line: Line, channel: str, ear: Ear) -> None:
    line.leave(channel, ear)


def _server_process(connection: Any) -> int:
    (pid,) = connection.execute("SELECT pg_backend_pid()").fetchone()
    return pid
