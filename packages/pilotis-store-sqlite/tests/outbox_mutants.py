"""Outboxes that break one obligation each: the conformance suite must catch every one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from pilotis.providers import CallersConnection, ClaimedRow, Handed, HandOver, OutboxRow, OutboxStatus
from pilotis_store_sqlite import SqliteOutbox
from pilotis_store_sqlite.outbox import claimable
from pilotis_testing.outbox import OutboxConformance


class Suite(OutboxConformance):
    @pytest.fixture
    def connect(self, tmp_path: Path) -> Callable[[], sqlite3.Connection]:
        return lambda: sqlite3.connect(tmp_path / "shop.db")


class WritesOnItsOwn(SqliteOutbox):
    """Through a connection that is not the caller's."""

    async def write(self, connection: CallersConnection, bus: str, rows: Sequence[OutboxRow]) -> None:
        own = sqlite3.connect(self.address, isolation_level=None)
        own.execute("BEGIN")
        await super().write(_Through(own), bus, rows)
        own.execute("COMMIT")
        own.close()


class _Through:
    dialect = "sqlite"

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def execute(self, statement: str, values: Any) -> None:
        self._connection.execute(statement, values)


class LosesKeys(SqliteOutbox):
    async def write(self, connection: CallersConnection, bus: str, rows: Sequence[OutboxRow]) -> None:
        await super().write(connection, bus, [replace(row, key=None) for row in rows])


class LosesBodies(SqliteOutbox):
    async def write(self, connection: CallersConnection, bus: str, rows: Sequence[OutboxRow]) -> None:
        await super().write(connection, bus, [replace(row, body="{}") for row in rows])


class IgnoresTheLimit(SqliteOutbox):
    async def relay(self, bus: str, kinds: Collection[Any], limit: int, hand_over: HandOver) -> int:
        return await super().relay(bus, kinds, 1_000, hand_over)


class MixesBuses(SqliteOutbox):
    async def write(self, connection: CallersConnection, bus: str, rows: Sequence[OutboxRow]) -> None:
        await super().write(connection, "shop", rows)


class TakesAnyKind(SqliteOutbox):
    async def relay(self, bus: str, kinds: Collection[Any], limit: int, hand_over: HandOver) -> int:
        return await super().relay(bus, ("event", "run"), limit, hand_over)


class CallsForNothing(SqliteOutbox):
    async def relay(self, bus: str, kinds: Collection[Any], limit: int, hand_over: HandOver) -> int:
        claimed = await super().relay(bus, kinds, limit, hand_over)
        if not claimed:
            await hand_over([])
        return claimed


class HandsOverBackwards(SqliteOutbox):
    async def relay(self, bus: str, kinds: Collection[Any], limit: int, hand_over: HandOver) -> int:
        return await super().relay(bus, kinds, limit, lambda rows: hand_over(rows[::-1]))


class LooksWithoutClaiming(SqliteOutbox):
    """What one relay has in its hands another one has too."""

    async def _claim(self, claim: str, bus: str, kinds: Collection[Any], limit: int) -> list[ClaimedRow]:
        asked = self._asked(bus, kinds, limit)
        return await self._database.run(lambda connection: claimable(connection, asked))


class ClaimsOneOfAKey(SqliteOutbox):
    """The rest of the key waits for another claim."""

    async def relay(self, bus: str, kinds: Collection[Any], limit: int, hand_over: HandOver) -> int:
        async def heads(rows: Sequence[ClaimedRow]) -> Sequence[Handed]:
            taken = list({row.key or row.id: row for row in reversed(rows)}.values())
            return [*await hand_over(taken), *(Handed(row=row, verdict="kept") for row in rows if row not in taken)]

        return await super().relay(bus, kinds, limit, heads)


class _Judges(SqliteOutbox):
    def judged(self, handed: Handed) -> Handed:
        raise NotImplementedError

    def _settle(self, connection: sqlite3.Connection, claim: str, handed: Sequence[Handed]) -> None:
        super()._settle(connection, claim, [self.judged(it) for it in handed])


class RetriesAtOnce(_Judges):
    def judged(self, handed: Handed) -> Handed:
        return replace(handed, delay=0.0)


class CountsWhatIsKept(_Judges):
    def judged(self, handed: Handed) -> Handed:
        return replace(handed, verdict="retry") if handed.verdict == "kept" else handed


class CountsNoAttempts(_Judges):
    def judged(self, handed: Handed) -> Handed:
        return replace(handed, verdict="kept") if handed.verdict == "retry" else handed


class DropsWhatIsSetAside(_Judges):
    def judged(self, handed: Handed) -> Handed:
        return replace(handed, verdict="done") if handed.verdict == "aside" else handed


class SetsNothingAside(_Judges):
    def judged(self, handed: Handed) -> Handed:
        return replace(handed, verdict="retry", delay=60) if handed.verdict == "aside" else handed


class ForgetsErrors(_Judges):
    def judged(self, handed: Handed) -> Handed:
        return replace(handed, error="")


class RetriesEverything(SqliteOutbox):
    async def retry(self, bus: str, ids: Collection[str] | None) -> int:
        return await super().retry(bus, None)


class DiscardsEverything(SqliteOutbox):
    async def discard(self, bus: str, ids: Collection[str] | None) -> int:
        return await super().discard(bus, None)


class SwallowsErrors(SqliteOutbox):
    async def relay(self, bus: str, kinds: Collection[Any], limit: int, hand_over: HandOver) -> int:
        with suppress(ConnectionError):
            return await super().relay(bus, kinds, limit, hand_over)
        return 0


class KeepsWhatFailed(SqliteOutbox):
    """What a relay could not hand over stays in its hands."""

    async def relay(self, bus: str, kinds: Collection[Any], limit: int, hand_over: HandOver) -> int:
        errors: list[BaseException] = []

        async def caught(rows: Sequence[ClaimedRow]) -> Sequence[Handed]:
            try:
                return await hand_over(rows)
            except BaseException as error:
                errors.append(error)
                return []

        claimed = await super().relay(bus, kinds, limit, caught)
        if errors:
            raise errors[0]
        return claimed


class WaitsSinceEver(SqliteOutbox):
    async def status(self, bus: str) -> OutboxStatus:
        return replace(await super().status(bus), oldest=0.0)


class CountsWrong(SqliteOutbox):
    async def status(self, bus: str) -> OutboxStatus:
        return replace(await super().status(bus), retrying=0)


class AlwaysMakesSomething(SqliteOutbox):
    async def migrate(self) -> list[str]:
        await super().migrate()
        return ["made something"]
