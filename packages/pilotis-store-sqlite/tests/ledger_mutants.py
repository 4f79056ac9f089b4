"""Ledgers in a database that break one obligation each: the conformance suite must catch every one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from pilotis.bridge import drive
from pilotis.providers import Clock, Context, Retention
from pilotis_store_sqlite import SqliteLedger, SqliteLedgerOptions
from pilotis_testing import ManualClock
from pilotis_testing.ledger import DAY, DurableLedgerConformance, MakeLedger


class Suite(DurableLedgerConformance):
    @pytest.fixture
    def ledger(self, provider: SqliteLedger, tmp_path: Path, clock: ManualClock) -> Iterator[MakeLedger]:
        with ExitStack() as stack:  # a test that fails closes nothing

            def make(*, name: str = "shop", **options: Any) -> SqliteLedger:
                made = type(provider)(SqliteLedgerOptions(url=f"sqlite:///{tmp_path}/shop.db", **options))
                made.context = Context(clock=clock, name=name)
                stack.callback(lambda: drive(made.close()))
                return made

            yield make


class LosesItsFile(SqliteLedger):
    """Each has one of its own."""

    _numbers = itertools.count()

    def __init__(self, options: SqliteLedgerOptions) -> None:
        super().__init__(replace(options, url=f"{options.url}{next(self._numbers)}"))


class MixesServices(SqliteLedger):
    """All are one."""

    async def open(self) -> None:
        self.context = Context(clock=self.context.clock, name="everybody")
        await super().open()


class AlwaysMakesSomething(SqliteLedger):
    """Also what is there."""

    async def migrate(self) -> list[str]:
        await super().migrate()
        return ["made the table pilotis_ledger once more"]


class ForgetsNothing(SqliteLedger):
    """However old."""

    async def _forget_sometimes(self) -> None:
        return


class _Whatever(Retention):
    def due(self, clock: Clock) -> dict[str, Any] | None:
        terms = super().due(clock)
        return None if terms is None else terms | {"now": clock.time() * 2}


class ForgetsWhatIsBeingSent(SqliteLedger):
    """As if every lease had ended."""

    def __init__(self, options: SqliteLedgerOptions) -> None:
        super().__init__(options)
        self._retention = _Whatever(options.retention)


class _Greedy(Retention):
    def due(self, clock: Clock) -> dict[str, Any] | None:
        terms = super().due(clock)
        return None if terms is None else terms | {"limit": 1_000_000}


class ForgetsAllAtOnce(SqliteLedger):
    """While somebody waits."""

    def __init__(self, options: SqliteLedgerOptions) -> None:
        super().__init__(options)
        self._retention = _Greedy(options.retention)


class OpensWithoutForgetting(SqliteLedger):
    """What is too old stays until something is recorded."""

    async def open(self) -> None:
        await self.migrate()


class ForgetsByDefault(SqliteLedger):
    """Also where it was told to keep everything."""

    def __init__(self, options: SqliteLedgerOptions) -> None:
        super().__init__(options)
        self._retention = Retention(options.retention or DAY)
