"""SqliteOutbox: the outbox of events in the application's own SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar

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
    finish,
    new_id,
)

from pilotis_store_sqlite.database import Database, classify, sql
from pilotis_store_sqlite.options import SqliteOptions, read_url

STEPS = ("outbox_1",)
WINDOW = 4
"""How many times the limit of a claim is looked at for rows to claim, before keys are gone through."""


class SqliteOutboxOptions(SqliteOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the outbox in SQLite. Durations are seconds."""

    lease: float = 15
    """When what a relay has claimed is free again, if it died: longer than handing over a batch may ever take."""

    def __post_init__(self) -> None:
        super().__post_init__()
        seconds(self.lease, "lease", minimum=0.01)


class SqliteOutbox(OutboxProvider):
    """Keeps rows in the table `pilotis_outbox` of a file, which any number of processes of one machine share.

    The table is made when the outbox is opened. Rows that a relay has in its hands are leased to it, and not locked:
    SQLite locks the whole file, and the application could change nothing meanwhile. No process hears of the commits of
    another one: its relay finds them when it polls.
    """

    Options = SqliteOutboxOptions
    options: SqliteOutboxOptions
    capabilities: ClassVar[OutboxCapability] = OutboxCapability.NONE
    shared = True
    dialect = "sqlite"

    def __init__(self, options: SqliteOutboxOptions) -> None:
        super().__init__(options)
        self._path = read_url(self.options.url)
        self._database = Database(self._path, self.options.timeout)

    @property
    def address(self) -> str:
        return str(self._path)

    async def migrate(self) -> list[str]:
        made = await self._database.open("outbox", [sql(step) for step in STEPS])
        return [f"made the table pilotis_outbox in {self._path}"] if made else []

    async def open(self) -> None:
        await self.migrate()

    async def ping(self) -> None:
        await self.status("")

    async def close(self) -> None:
        await self._database.close()

    def classify(self, error: Exception) -> type[OperationError] | None:
        native = driver_error(error)
        return classify(native) or super().classify(native)

    async def write(self, connection: CallersConnection, bus: str, rows: Sequence[OutboxRow]) -> None:
        values = {"bus": bus, "now": self.context.clock.time(), "rows": _json(rows)}
        try:
            await connection.execute(sql("outbox_write"), values)
        except Exception as error:
            if "no such table: pilotis_outbox" in str(driver_error(error)):
                raise ConfigurationError(
                    "expected the database of the connection given to event.transaction, which has no table "
                    f"pilotis_outbox; the outbox is in {self._path}",
                    path="event.outbox",
                ) from error
            raise

    # Relaying

    async def relay(self, bus: str, kinds: Collection[OutboxKind], limit: int, hand_over: HandOver) -> int:
        asked = self._asked(bus, kinds, 1)
        if not await self._database.run(lambda connection: claimable(connection, asked)):
            return 0  # to look disturbs nobody, to claim may have to wait
        claim = new_id(self.context.clock)
        rows = await self._claim(claim, bus, kinds, limit)
        try:
            handed: Sequence[Handed] = await hand_over(rows) if rows else []
            await self._database.change(lambda connection: self._settle(connection, claim, handed))
        except BaseException:
            await finish(self._database.change(lambda connection: _let_go(connection, claim, rows)))
            raise
        return len(rows)

    async def _claim(self, claim: str, bus: str, kinds: Collection[OutboxKind], limit: int) -> list[ClaimedRow]:
        def work(connection: sqlite3.Connection) -> list[ClaimedRow]:
            asked = self._asked(bus, kinds, limit)  # now that it is our turn, which may have taken its time
            until = asked["now"] + self.options.lease
            rows = claimable(connection, asked)
            connection.execute(sql("outbox_claim"), {"claim": claim, "until": until, "positions": _positions(rows)})
            return rows

        return await self._database.take(work, lambda connection, rows: _let_go(connection, claim, rows))

    def _asked(self, bus: str, kinds: Collection[OutboxKind], limit: int) -> dict[str, Any]:
        now = self.context.clock.time()
        return {"bus": bus, "kinds": _json(sorted(kinds)), "now": now, "limit": limit, "window": WINDOW * limit}

    def _settle(self, connection: sqlite3.Connection, claim: str, handed: Sequence[Handed]) -> None:
        now = self.context.clock.time()
        for it in handed:
            if it.verdict == "done":
                connection.execute(sql("outbox_done"), {"position": it.row.position})
            elif it.verdict != "kept":
                values = {"position": it.row.position, "claim": claim, "due_at": now + it.delay, "error": it.error}
                aside = now if it.verdict == "aside" else None
                connection.execute(sql("outbox_failed"), values | {"set_aside_at": aside})
        _let_go(connection, claim, [it.row for it in handed])

    # Looking after it

    async def status(self, bus: str) -> OutboxStatus:
        row = await self._database.run(
            lambda connection: connection.execute(sql("outbox_status"), {"bus": bus}).fetchone()
        )
        oldest = None if row["oldest"] is None else max(0.0, self.context.clock.time() - row["oldest"])
        return OutboxStatus(waiting=row["waiting"], oldest=oldest, retrying=row["retrying"], aside=row["aside"])

    async def aside(self, bus: str, limit: int) -> list[SetAside]:
        values = {"bus": bus, "limit": limit}
        rows = await self._database.run(lambda connection: connection.execute(sql("outbox_aside"), values).fetchall())
        return [_set_aside(row) for row in rows]

    async def retry(self, bus: str, ids: Collection[str] | None) -> int:
        return await self._change("outbox_retry", bus=bus, ids=_ids(ids))

    async def discard(self, bus: str, ids: Collection[str] | None) -> int:
        return await self._change("outbox_discard", bus=bus, ids=_ids(ids))

    async def _change(self, statement: str, **values: Any) -> int:
        return await self._database.change(lambda connection: connection.execute(sql(statement), values).rowcount)


def claimable(connection: sqlite3.Connection, asked: dict[str, Any]) -> list[ClaimedRow]:
    """Return the rows that a relay may claim: those among the first rows, else those that are found by their keys."""
    return _rows_of("outbox_window", connection, asked) or _rows_of("outbox_window_by_key", connection, asked)


def _rows_of(window: str, connection: sqlite3.Connection, asked: dict[str, Any]) -> list[ClaimedRow]:
    return [ClaimedRow(**dict(row)) for row in connection.execute(_claimable(window), asked)]


@cache
def _claimable(window: str) -> str:
    return sql("outbox_claimable").replace("WITH RECURSIVE {window}", f"WITH RECURSIVE {sql(window)}")


def _let_go(connection: sqlite3.Connection, claim: str, rows: Sequence[ClaimedRow]) -> None:
    connection.execute(sql("outbox_let_go"), {"claim": claim, "positions": _positions(rows)})


def _set_aside(row: sqlite3.Row) -> SetAside:
    fields: dict[str, Any] = dict(row)
    times: dict[str, Any] = {name: datetime.fromtimestamp(fields[name], UTC) for name in ("written_at", "set_aside_at")}
    return SetAside(**fields | times)


def _positions(rows: Sequence[ClaimedRow]) -> str:
    return _json([row.position for row in rows])


def _ids(ids: Collection[str] | None) -> str | None:
    return None if ids is None else _json(list(ids))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
