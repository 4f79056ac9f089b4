"""One connection, in the hands of one caller."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from pilotis_postgres.colours import entered, settled

Row = tuple[Any, ...]
Parameters = Sequence[Any] | Mapping[str, Any] | None
Statement = tuple[str, Parameters]


class Session:
    """Statements on a psycopg connection of either colour. Errors are psycopg's own."""

    __slots__ = ("connection",)

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def execute(self, query: str, parameters: Parameters = None) -> list[Row]:
        """Run one statement and return its rows; no rows where it has none."""
        return await _rows(await settled(self.connection.execute(query, parameters)))

    async def script(self, queries: str, parameters: Parameters = None) -> list[Row]:
        """Run several statements in one round trip, and return the rows of the last one.

        psycopg writes the values into the text. The first statement that fails ends the script. Outside of a
        transaction, and without a `BEGIN` in it, they are one transaction.
        """
        is_blocking = isinstance(self.connection, psycopg.Connection)
        kind: Any = psycopg.ClientCursor if is_blocking else psycopg.AsyncClientCursor
        cursor = await settled(kind(self.connection, row_factory=tuple_row).execute(queries, parameters))
        while cursor.nextset():
            pass
        return await _rows(cursor)

    async def batch(self, statements: Iterable[Statement]) -> list[list[Row]]:
        """Run statements in one round trip, all of them or none, and return the rows of each."""
        async with entered(self.connection.pipeline()):
            cursors = [await settled(self.connection.execute(*statement)) for statement in statements]
        return [await _rows(cursor) for cursor in cursors]

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Session]:
        """Begin a transaction; within one, a savepoint. Commits at the end of the block; an error rolls back."""
        async with entered(self.connection.transaction()):
            yield self

    @asynccontextmanager
    async def patient(self, seconds: float) -> AsyncGenerator[Session]:
        """Wait for answers for `seconds` more: for statements that wait on the server."""
        before = self.connection.patience
        self.connection.patience = before + seconds
        try:
            yield self
        finally:
            self.connection.patience = before


async def _rows(cursor: Any) -> list[Row]:
    return [] if cursor.description is None else await settled(cursor.fetchall())
