"""The one way to PostgreSQL: psycopg's blocking connections or its asyncio ones behind the same verbs."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from pilotis.bridge import PerLoop, reset_after_fork, running_loop

from pilotis_postgres.connections import connect
from pilotis_postgres.listener import Ear, Listener
from pilotis_postgres.options import PostgresOptions
from pilotis_postgres.pool import Pool
from pilotis_postgres.session import Parameters, Row, Session, Statement


class Pools:
    """A pool for threads, and one for each event loop; each is made when it is first needed."""

    def __init__(self, options: PostgresOptions, *, close_lent: bool = False) -> None:
        """Keep the options. With `close_lent`, what is lent is closed, too, when a loop ends or at `close`."""
        self._options = options
        self._close_pool = functools.partial(Pool.close, lent=close_lent)
        self._loops: PerLoop[Pool] = PerLoop(self._new, self._close_pool)
        self._blocking = self._new()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._blocking = self._new()  # and the parent's is not closed: that would end the parent's sessions

    def here(self) -> Pool:
        """Return the pool for the caller."""
        return self._blocking if running_loop() is None else self._loops.get()

    async def close(self) -> None:
        """Close the connections. They are made again when they are needed again."""
        blocking, self._blocking = self._blocking, self._new()
        await self._close_pool(blocking)
        await self._loops.aclose()

    def _new(self) -> Pool:
        options = self._options
        return Pool(options.max_connections, options.timeout, functools.partial(connect, options))


class Postgres:
    """Statements to one PostgreSQL, from any thread and any event loop.

    Each statement is sent once, and committed by itself outside of `transaction`; where its answer is lost, nobody
    knows what became of it. Errors are psycopg's own; `faults.classify` explains them. Values are passed beside the
    text, `%s` or `%(name)s` in it. Connections are made when they are first needed, and again after `close` and in a
    child process. A caller that is cancelled or interrupted leaves nothing behind: its statement is cancelled on the
    server, and its transaction rolled back.
    """

    def __init__(self, options: PostgresOptions) -> None:
        """Keep the options. No I/O."""
        self.options = options
        self.address = options.shown
        self._pools = Pools(options)
        self.listener = Listener(options)

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[Session]:
        """Have a connection to oneself for the length of a block; what is not committed in it is rolled back."""
        pool = self._pools.here()
        connection = await pool.take()
        try:
            yield Session(connection)
        finally:
            await pool.give(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Session]:
        """Have a transaction for the length of a block. It commits at the end; an error rolls back."""
        async with self.session() as session, session.transaction():
            yield session

    async def execute(self, query: str, parameters: Parameters = None) -> list[Row]:
        """Run one statement and return its rows."""
        pool = self._pools.here()
        connection = await pool.take()
        try:
            return await Session(connection).execute(query, parameters)
        finally:
            await pool.give(connection)

    async def script(self, queries: str, parameters: Parameters = None) -> list[Row]:
        """Run several statements in one round trip, as one transaction, and return the rows of the last one."""
        async with self.session() as session:
            return await session.script(queries, parameters)

    async def batch(self, statements: Iterable[Statement]) -> list[list[Row]]:
        """Run statements in one round trip, all of them or none, and return the rows of each."""
        async with self.session() as session:
            return await session.batch(statements)

    def listening(self, channel: str) -> AbstractAsyncContextManager[Ear]:
        """Listen to a channel: `async with` enters once the server knows.

        All who listen share one connection of the process. Behind a pooler that lends connections for a transaction,
        nothing is ever heard: see `startup.Facts`.
        """
        return self.listener.listening(channel)

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        await self.listener.close()
        await self._pools.close()
