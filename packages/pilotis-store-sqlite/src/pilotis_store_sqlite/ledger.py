"""SqliteLedger: the ledger of notifications in an SQLite file."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from enum import Flag
from itertools import chain
from typing import Any, ClassVar

from pilotis.durations import optional_seconds
from pilotis.errors import OperationError
from pilotis.providers import (
    LedgerCapability,
    LedgerEntry,
    LedgerProvider,
    LedgerQuery,
    Retention,
    ledger_entry,
    ledger_row,
    ledger_searches,
    newest_first,
)

from pilotis_store_sqlite.database import Database, classify, sql
from pilotis_store_sqlite.options import SqliteOptions, read_url

STEPS = ("ledger_1",)

_ARGUMENT = re.compile(r":([a-z_]+)")


class SqliteLedgerOptions(SqliteOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the ledger in SQLite. Durations are seconds."""

    retention: float | None = 90 * 86_400
    """How long notifications are kept after they were recorded, and their keys with them. None keeps them for good."""

    def __post_init__(self) -> None:
        super().__post_init__()
        optional_seconds(self.retention, "retention", minimum=1)


class SqliteLedger(LedgerProvider):
    """Keeps entries in the table `pilotis_ledger` of a file, which any number of processes of one machine share.

    The table is made when the ledger is opened. What was recorded is on the disk.
    """

    Options = SqliteLedgerOptions
    options: SqliteLedgerOptions
    capabilities: ClassVar[Flag] = LedgerCapability.DURABLE

    def __init__(self, options: SqliteLedgerOptions) -> None:
        super().__init__(options)
        self._path = read_url(self.options.url)
        self._database = Database(self._path, self.options.timeout)
        self._retention = Retention(self.options.retention)

    @property
    def address(self) -> str:
        return str(self._path)

    async def migrate(self) -> list[str]:
        made = await self._database.open("ledger", [sql(step) for step in STEPS])
        return [f"made the table pilotis_ledger in {self._path}"] if made else []

    async def open(self) -> None:
        await self.migrate()
        await self._forget_sometimes()

    async def ping(self) -> None:
        await self._database.run(lambda connection: _rows(connection, sql("ledger_read"), service="", id=""))

    async def close(self) -> None:
        await self._database.close()

    def classify(self, error: Exception) -> type[OperationError] | None:
        return classify(error) or super().classify(error)

    async def record(self, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
        await self._forget_sometimes()
        return await self._database.change(lambda connection: [self._record(connection, entry) for entry in entries])

    async def replace(self, entries: Sequence[LedgerEntry]) -> list[bool]:
        return await self._database.change(lambda connection: [self._replace(connection, entry) for entry in entries])

    async def read(self, ids: Sequence[str]) -> list[LedgerEntry | None]:
        return await self._database.run(lambda connection: [self._read(connection, id) for id in ids])

    async def find(self, query: LedgerQuery) -> list[LedgerEntry]:
        return await self._database.run(lambda connection: self._find(connection, query))

    # On a connection

    def _record(self, connection: sqlite3.Connection, entry: LedgerEntry) -> LedgerEntry:
        row = ledger_row(entry) | {"service": self.context.name}
        if connection.execute(sql("ledger_record"), row).rowcount:
            return entry
        [holder] = _rows(connection, sql("ledger_holder"), **row)
        return holder

    def _replace(self, connection: sqlite3.Connection, entry: LedgerEntry) -> bool:
        row = ledger_row(entry) | {"service": self.context.name}
        return connection.execute(sql("ledger_replace"), row).rowcount == 1

    def _read(self, connection: sqlite3.Connection, id: str) -> LedgerEntry | None:
        return next(iter(_rows(connection, sql("ledger_read"), service=self.context.name, id=id)), None)

    def _find(self, connection: sqlite3.Connection, query: LedgerQuery) -> list[LedgerEntry]:
        searches = [search | {"service": self.context.name} for search in ledger_searches(query)]
        found = [_rows(connection, only_asked(sql("ledger_find"), search), **search) for search in searches]
        return newest_first(chain.from_iterable(found), query.limit)

    # Retention

    async def _forget_sometimes(self) -> None:
        terms = self._retention.due(self.context.clock)
        if terms is not None:
            values = terms | {"service": self.context.name}
            self._retention.done(
                await self._database.change(lambda it: it.execute(sql("ledger_forget"), values).rowcount)
            )


def only_asked(statement: str, arguments: Mapping[str, Any]) -> str:
    """Return a statement without the lines that have an argument that is None."""
    return "\n".join(line for line in statement.splitlines() if _is_asked(line, arguments))


def _is_asked(line: str, arguments: Mapping[str, Any]) -> bool:
    return all(arguments[name] is not None for name in _ARGUMENT.findall(line))


def _rows(connection: sqlite3.Connection, statement: str, **arguments: Any) -> list[LedgerEntry]:
    return [ledger_entry(row) for row in connection.execute(statement, arguments).fetchall()]
