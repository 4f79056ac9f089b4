"""PostgresOutbox: the outbox of events in the application's own PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC
from hashlib import blake2b
from typing import Any

import msgspec
from pilotis.durations import seconds
from pilotis.errors import ConfigurationError, OperationError
from pilotis.providers import (
    CallersConnection,
    ClaimedRow,
    Handed,
    HandOver,
    OutboxCapability,
    OutboxKind,
    OutboxProvider,
    OutboxRow,
    OutboxStatus,
    SetAside,
    driver_error,
)
from pilotis_postgres import PostgresBacked, PostgresOptions, Session
from pilotis_postgres.sql import check_name

from pilotis_store_postgres.statements import is_there, statement

_UNDEFINED_TABLE = "42P01"
_MIGRATING = "SELECT pg_advisory_xact_lock(hashtextextended('pilotis_outbox migrate', 0))"
_WINDOW = 4
"""How many times the limit of a claim is looked at for rows to claim, before keys are gone through."""
_LONGEST_LEASE = 2**31 - 1
"""What PostgreSQL takes at most, in milliseconds."""
_CLAIMED = ("position", "kind", "id", "name", "key", "body", "attempts")
_ASIDE = ("id", "kind", "name", "key", "body", "attempts", "error")


class PostgresOutboxOptions(PostgresOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the outbox in PostgreSQL, beside those of its connections."""

    table: str = "pilotis_outbox"
    """Its table, with or without a schema; `pilotis outbox migrate` makes it."""
    notify: bool = True
    """Whether a transaction with rows notifies the relays when it is committed. PostgreSQL has such transactions commit
    one after the other; without it, other processes than the one that wrote find the rows when they poll."""
    lease: float = 60
    """How long a relay may have rows in its hands, in seconds: then the server ends its transaction, for it may have
    been stopped. Longer than handing over a batch may ever take."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name(self.table, "table")
        seconds(self.lease, "lease", minimum=0.01)


class PostgresOutbox(PostgresBacked, OutboxProvider):
    """Keeps rows in a table of a PostgreSQL, which any number of processes share.

    A relay locks the rows that it has in its hands, so that they are free at once when it dies, and after a lease when
    it is stopped. The table is made by `migrate`: opening raises `ConfigurationError` where it is not there. Behind a
    pooler that lends its connections for a transaction nothing can be notified, and WAKE is not declared once it is
    open.
    """

    Options = PostgresOutboxOptions
    options: PostgresOutboxOptions
    capabilities = OutboxCapability.WAKE
    dialect = "postgresql"

    def __init__(self, options: PostgresOutboxOptions | None = None, **clients: Any) -> None:
        super().__init__(options, **clients)
        if not self.options.notify:
            self.capabilities = OutboxCapability.NONE  # pyright: ignore[reportAttributeAccessIssue] - of this one

    async def migrate(self) -> list[str]:
        async with self.postgres.transaction() as session:
            await session.execute(_MIGRATING)
            if await is_there(session, self.options.table):
                return []
            await session.script(self._sql("outbox_1"))
        return [f"made the table {self.options.table} at {self.address}"]

    async def open(self) -> None:
        await super().open()
        if self.facts.pooler == "transaction":
            self.capabilities = OutboxCapability.NONE  # pyright: ignore[reportAttributeAccessIssue] - of this one
        async with self.postgres.session() as session:
            if not await is_there(session, self.options.table):
                raise ConfigurationError(
                    f"there is no table {self.options.table} at {self.address}; make it: pilotis outbox migrate",
                    path="event.outbox",
                )

    def classify(self, error: Exception) -> type[OperationError] | None:
        return super().classify(driver_error(error))

    async def write(self, connection: CallersConnection, bus: str, rows: Sequence[OutboxRow]) -> None:
        keys = sorted({row.key for row in rows if row.key is not None})
        try:
            if keys:
                await connection.execute(self._sql("outbox_lock"), {"bus": bus, "keys": _json(keys)})
            values = {"bus": bus, "rows": _json(rows), "channel": self._notified(bus)}
            await connection.execute(self._sql("outbox_write"), values)
        except Exception as error:
            if getattr(driver_error(error), "sqlstate", None) == _UNDEFINED_TABLE:
                raise self._elsewhere() from error
            raise

    def _elsewhere(self) -> ConfigurationError:
        return ConfigurationError(
            f"expected the database of the connection given to event.transaction, which has no table "
            f"{self.options.table}; the outbox is at {self.address}",
            path="event.outbox",
        )

    # Relaying

    async def relay(self, bus: str, kinds: Collection[OutboxKind], limit: int, hand_over: HandOver) -> int:
        async with self.postgres.transaction() as session:
            rows = await self._claim(session, bus, kinds, limit)
            if rows:
                await self._settle(session, await hand_over(rows))
        return len(rows)

    async def _claim(self, session: Session, bus: str, kinds: Collection[OutboxKind], limit: int) -> list[ClaimedRow]:
        values = {"bus": bus, "kinds": list(kinds), "limit": limit, "window": _WINDOW * limit}
        lease = min(self.options.lease * 1000, _LONGEST_LEASE)
        found = await session.script(self._sql("outbox_claim"), values | {"lease": round(lease)})
        rows = _rows([columns for *columns, _ in found if columns[0] is not None])
        is_cut = found[0][-1]
        if not is_cut or len(rows) == limit or any(row.key is not None for row in rows):
            return rows
        values |= {"limit": limit - len(rows), "taken": [row.position for row in rows]}
        further = _rows(await session.execute(self._sql("outbox_claim_further"), values))
        return sorted([*rows, *further], key=lambda row: row.position)

    async def _settle(self, session: Session, handed: Sequence[Handed]) -> None:
        done = [it.row.position for it in handed if it.verdict == "done"]
        if done:
            await session.execute(self._sql("outbox_done"), {"positions": done})
        for it in handed:
            if it.verdict in ("retry", "aside"):
                values = {"position": it.row.position, "delay": it.delay, "error": it.error.replace("\0", "")}
                await session.execute(self._sql("outbox_failed"), values | {"aside": it.verdict == "aside"})

    async def watch(self, bus: str, wake: Callable[[], object]) -> None:
        async with self.postgres.listening(_channel(bus)) as ear:
            while True:
                heard = await ear.news()
                wake()
                await heard.wait()

    # Looking after it

    async def status(self, bus: str) -> OutboxStatus:
        [(waiting, oldest, retrying, aside)] = await self.postgres.execute(self._sql("outbox_status"), {"bus": bus})
        return OutboxStatus(waiting=waiting, oldest=oldest, retrying=retrying, aside=aside)

    async def aside(self, bus: str, limit: int) -> list[SetAside]:
        rows = await self.postgres.execute(self._sql("outbox_aside"), {"bus": bus, "limit": limit})
        return [_set_aside(row) for row in rows]

    async def retry(self, bus: str, ids: Collection[str] | None) -> int:
        return await self._changed("outbox_retry", bus, ids, channel=self._notified(bus))

    async def discard(self, bus: str, ids: Collection[str] | None) -> int:
        return await self._changed("outbox_discard", bus, ids)

    async def _changed(self, statement: str, bus: str, ids: Collection[str] | None, **values: object) -> int:
        values |= {"bus": bus, "ids": None if ids is None else list(ids)}
        return len(await self.postgres.execute(self._sql(statement), values))

    def _notified(self, bus: str) -> str | None:
        """Return where relays are told of rows of a bus, None where they are told nothing."""
        return _channel(bus) if OutboxCapability.WAKE in self.capabilities else None

    def _sql(self, name: str) -> str:
        return statement(name, self.options.table)


def _channel(bus: str) -> str:
    """Return where commits of a bus are notified: names are short there."""
    return f"pilotis_outbox_{blake2b(bus.encode(), digest_size=12).hexdigest()}"


def _rows(found: Sequence[Sequence[Any]]) -> list[ClaimedRow]:
    return [ClaimedRow(**dict(zip(_CLAIMED, row, strict=True))) for row in found]


def _set_aside(found: Sequence[Any]) -> SetAside:
    *others, written_at, set_aside_at = found
    return SetAside(
        **dict(zip(_ASIDE, others, strict=True)),
        written_at=written_at.replace(tzinfo=UTC),
        set_aside_at=set_aside_at.replace(tzinfo=UTC),
    )


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
