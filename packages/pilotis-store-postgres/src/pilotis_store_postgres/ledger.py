"""PostgresLedger: the ledger of notifications in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Flag
from typing import Any, ClassVar

from pilotis.durations import optional_seconds
from pilotis.errors import ConfigurationError, PermissionDeniedError
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
from pilotis_postgres import PostgresBacked, PostgresOptions
from pilotis_postgres.sql import check_name

from pilotis_store_postgres.statements import is_there, statement

_MIGRATING = "SELECT pg_advisory_xact_lock(hashtextextended('pilotis_ledger migrate', 0))"
_COLUMNS = ("notification", "message", "digest", "version", "leased_until", "takeovers")


class PostgresLedgerOptions(PostgresOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the ledger in PostgreSQL, beside those of its connections. Durations are seconds."""

    table: str = "pilotis_ledger"
    """Its table, with or without a schema. Made when the ledger is opened, where it is not there."""
    retention: float | None = 90 * 86_400
    """How long notifications are kept after they were recorded, and their keys with them. None keeps them for good."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name(self.table, "table")
        optional_seconds(self.retention, "retention", minimum=1)


class PostgresLedger(PostgresBacked, LedgerProvider):
    """Keeps entries in a table of a PostgreSQL, which any number of processes share.

    A batch is one transaction, in one round trip. Nothing waits for anybody but for who is recording the same keys, or
    changing the same entries, at that moment.
    """

    Options = PostgresLedgerOptions
    options: PostgresLedgerOptions
    capabilities: ClassVar[Flag] = LedgerCapability.DURABLE

    def __init__(self, options: PostgresLedgerOptions | None = None, **clients: Any) -> None:
        super().__init__(options, **clients)
        self._retention = Retention(self.options.retention)

    async def migrate(self) -> list[str]:
        if await is_there(self.postgres, self.options.table):
            return []
        async with self.postgres.transaction() as session:
            await session.execute(_MIGRATING)
            if await is_there(session, self.options.table):
                return []
            await session.script(self._sql("ledger_1"))
        return [f"made the table {self.options.table} at {self.address}"]

    async def open(self) -> None:
        await super().open()
        await self._make_table()
        await self._forget_sometimes()

    async def _make_table(self) -> None:
        try:
            await self.migrate()
        except Exception as error:
            if self.classify(error) is not PermissionDeniedError:
                raise
            raise ConfigurationError(
                f"there is no table {self.options.table} at {self.address}, and this role may not make it: run "
                f"`pilotis notifications migrate` once, as one that may",
                path="notification.ledger.table",
            ) from error

    async def record(self, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
        await self._forget_sometimes()
        written = await self._change("ledger_record", sorted(entries, key=_key))
        taken = {_key(entry) for entry in entries if entry.id not in written}
        holders = await self._entries("ledger_holders", keys=list(taken)) if taken else {}
        return [
            entry if entry.id in written else holders.get(_key(entry)) or (await self.record([entry]))[0]
            for entry in entries
        ]

    async def replace(self, entries: Sequence[LedgerEntry]) -> list[bool]:
        done = await self._change("ledger_replace", sorted(entries, key=lambda entry: entry.id))
        return [entry.id in done for entry in entries]

    async def read(self, ids: Sequence[str]) -> list[LedgerEntry | None]:
        found = await self._entries("ledger_read", ids=list(ids))
        return [found.get(id) for id in ids]

    async def find(self, query: LedgerQuery) -> list[LedgerEntry]:
        found = [await self._entries("ledger_find", **search) for search in ledger_searches(query)]
        return newest_first((entry for entries in found for entry in entries.values()), query.limit)

    # Statements

    async def _change(self, name: str, entries: Iterable[LedgerEntry]) -> set[str]:
        """Run a statement for each entry, and return the ids of those that it changed something for.

        Whoever changes several has to do it in one order, or two would wait for each other.
        """
        rows = [ledger_row(entry) | {"service": self.context.name} for entry in entries]
        answers = await self.postgres.batch((self._sql(name), row) for row in rows)
        return {id for answer in answers for (id,) in answer}

    async def _entries(self, name: str, **values: Any) -> dict[str, LedgerEntry]:
        """Return the entries that a statement finds, under what it returns before their columns."""
        rows = await self.postgres.execute(self._sql(name), values | {"service": self.context.name})
        return {row[0]: ledger_entry(dict(zip(_COLUMNS, row[1:], strict=True))) for row in rows}

    async def _forget_sometimes(self) -> None:
        terms = self._retention.due(self.context.clock)
        if terms is not None:
            values = terms | {"service": self.context.name}
            ((forgotten,),) = await self.postgres.execute(self._sql("ledger_forget"), values)
            self._retention.done(forgotten)

    def _sql(self, name: str) -> str:
        return statement(name, self.options.table)


def _key(entry: LedgerEntry) -> str:
    """Return the idempotency key; entries without one have none to be in the way of."""
    return entry.notification.idempotency_key or ""
