"""psycopg's connections, with everything set that its defaults leave to luck."""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from pilotis.backoff import Backoff
from pilotis.bridge import drive, finish, pause, running_loop
from psycopg import generators, waiting
from psycopg.pq import PipelineStatus, TransactionStatus

from pilotis_postgres.colours import settled
from pilotis_postgres.faults import NoAnswerError, mark_unsent, may_pass
from pilotis_postgres.options import PostgresOptions

R = TypeVar("R")
Native = psycopg.Connection[tuple[Any, ...]] | psycopg.AsyncConnection[tuple[Any, ...]]

logger = logging.getLogger("pilotis.postgres")

INTERVAL = 0.1
"""Seconds between looks at the clock while an answer is waited for."""

GRACE = 1.0
"""Seconds for cancelling a statement on the server; a connection where that takes longer is closed."""

RECONNECTING = Backoff.exponential(0.05, factor=3, maximum=1, jitter=0.5)


class BlockingConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection for threads, which waits for each answer for `patience` seconds and no longer.

    A wait that is interrupted, or in vain, cancels the statement on the server, so that nothing goes on behind us.
    """

    patience: float

    def wait(self, gen: Any, interval: float = INTERVAL, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.read(gen, self.patience)
        except BaseException as error:
            if _leaves_something(self, error):
                drive(_abandon(self), "cancel")
            raise

    def read(self, steps: Any, seconds: float) -> Any:
        """Go through psycopg's steps, for so many seconds."""
        # not psycopg's default: its C code begins anew at every signal, and so hears of none that comes often
        return waiting.wait_poll(bounded(steps, seconds), self.pgconn.socket, INTERVAL)

    def __del__(self, *_: object) -> None:
        """Say nothing: what is not closed at the end of the program, or is a parent's, is nobody's mistake."""


class TaskConnection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """A connection for tasks, which waits for each answer for `patience` seconds and no longer.

    A wait that is cancelled, or in vain, cancels the statement on the server, so that nothing goes on behind us.
    """

    patience: float

    async def wait(self, gen: Any, interval: float = INTERVAL, *args: Any, **kwargs: Any) -> Any:
        try:
            return await self.read(gen, self.patience)
        except BaseException as error:
            if _leaves_something(self, error):
                await finish(_abandon(self))
            raise

    async def read(self, steps: Any, seconds: float) -> Any:
        """Go through psycopg's steps, for so many seconds."""
        return await waiting.wait_async(bounded(steps, seconds), self.pgconn.socket, INTERVAL)

    def __del__(self, *_: object) -> None:
        """Say nothing: what is not closed at the end of the program, or is a parent's, is nobody's mistake."""


def _is_active(connection: Any) -> bool:
    return connection.pgconn.transaction_status == TransactionStatus.ACTIVE


async def _abandon(connection: Any) -> None:
    """Cancel a statement on the server and read what it answers, or else end the connection.

    It is cancelled again and again: a statement that reaches the server later than that goes on as if nothing was.
    """
    deadline = time.monotonic() + GRACE
    try:
        while _is_active(connection):
            await settled(connection.cancel_safe(timeout=GRACE))
            await _drained(connection, deadline)
    except BaseException as error:
        _cut(connection, error)


async def _drained(connection: Any, deadline: float) -> None:
    """Read what is answered now. Raises `NoAnswerError` where there is none and the time is over."""
    try:
        await settled(connection.read(_drain(connection), INTERVAL))
    except NoAnswerError:
        if time.monotonic() > deadline:
            raise


def _drain(connection: Any) -> Any:
    """Return psycopg's steps to the end of the answer. In a pipeline they would have none."""
    if connection.pgconn.pipeline_status != PipelineStatus.OFF:
        raise psycopg.InterfaceError("the connection was in a pipeline")
    return generators.fetch_many(connection.pgconn)


def _leaves_something(connection: Any, error: BaseException) -> bool:
    """Tell whether a statement goes on though nobody waits for it any more."""
    return _is_active(connection) and (isinstance(error, NoAnswerError) or not isinstance(error, Exception))


def _cut(connection: Any, error: BaseException) -> None:
    """End a connection of which nobody knows what it is about."""
    logger.debug("a statement could not be cancelled, and its connection is closed: %r", error)
    connection.pgconn.finish()


def bounded(steps: Generator[Any, Any, R], seconds: float) -> Generator[Any, Any, R]:
    """Go through psycopg's steps, which have no such bound, and raise `NoAnswerError` once they take too long."""
    deadline = time.monotonic() + seconds
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > deadline:
                raise NoAnswerError(f"no answer within {seconds:g} s")
            wanted = steps.send(ready)
    except StopIteration as end:
        return end.value


async def connect(options: PostgresOptions) -> Any:
    """Make a connection of the caller's colour. It commits each statement by itself, and prepares none.

    Prepared statements belong to one connection to the server, and a pooler may have the next one sent on another.
    """
    attempt = 1
    while True:
        try:
            return await _connect(options)
        except psycopg.Error as error:
            if attempt > options.reconnects or not may_pass(error):
                mark_unsent(error)
                raise
        await pause(RECONNECTING.delay(attempt))
        attempt += 1


async def _connect(options: PostgresOptions) -> Any:
    kind: Any = BlockingConnection if running_loop() is None else TaskConnection
    made = kind.connect(**options.parameters(), autocommit=True, prepare_threshold=None)
    connection = await settled(made)
    connection.patience = options.timeout
    return connection


def is_quiet(connection: Any) -> bool:
    """Tell whether a connection that nobody uses is of use: to one that is, the server has nothing to say.

    What it says to others is that they end, or something that nobody would read.
    """
    if connection.closed:
        return False
    watch = select.poll()
    watch.register(connection.pgconn.socket, select.POLLIN)
    return not watch.poll(0)


def is_idle(connection: Any) -> bool:
    """Tell whether there is nothing under way, and no transaction."""
    return connection.pgconn.transaction_status == TransactionStatus.IDLE


async def tidied(connection: Any) -> bool:
    """Roll back what is under way, whatever interrupts us, and tell whether the connection can be used by others."""
    if not is_idle(connection):
        await finish(_roll_back(connection))
    return is_idle(connection)


async def closed(connection: Any) -> None:
    """Close a connection. The server rolls back what was under way."""
    await settled(connection.close())


async def _roll_back(connection: Any) -> None:
    if _is_active(connection):
        await closed(connection)  # nobody will ever read the answer that is on its way
        return
    try:
        await settled(connection.rollback())
    except psycopg.Error:
        await closed(connection)
