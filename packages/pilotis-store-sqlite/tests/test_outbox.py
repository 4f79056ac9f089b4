"""What is particular to the outbox in SQLite: claims that are leases."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from pilotis.bridge import drive
from pilotis.providers import ClaimedRow, Context, Handed
from pilotis_store_sqlite import SqliteOutbox, SqliteOutboxOptions
from pilotis_testing import ManualClock
from pilotis_testing.clock import until
from pilotis_testing.outbox import BUS, KINDS, Taker, done, judging, relayed, row, write

DEADLINE = 30.0


class HaltingClock(ManualClock):
    """Holds up whoever looks at it at one time, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.halts_at = 0
        self.is_reached = threading.Event()
        self.go_on = threading.Event()

    def time(self) -> float:
        self.looks += 1
        if self.looks == self.halts_at:
            self.is_reached.set()
            self.go_on.wait(DEADLINE)
        return super().time()


@pytest.fixture
def clock() -> HaltingClock:
    return HaltingClock()


@pytest.fixture
def outbox(tmp_path: Path, clock: HaltingClock) -> Iterator[SqliteOutbox]:
    """An outbox that is open."""
    outbox = SqliteOutbox(SqliteOutboxOptions(url=f"sqlite:///{tmp_path}/shop.db"))
    context = outbox.context = Context(clock=clock)
    drive(outbox.open())
    yield outbox
    drive(outbox.close())
    context.runtime.stop()


def test_a_claim_that_is_cancelled_leaves_nothing_claimed(
    outbox: SqliteOutbox, clock: HaltingClock, tmp_path: Path
) -> None:
    """Although it is made after that: a thread was about it."""
    drive(write(outbox, lambda: sqlite3.connect(tmp_path / "shop.db"), row("1")))
    clock.halts_at = clock.looks + 3  # after looking for something to claim, and making a name for the claim
    taker = Taker()

    async def cancel() -> None:
        claiming = asyncio.ensure_future(outbox.relay(BUS, KINDS, 10, taker))
        while not clock.is_reached.is_set():
            await asyncio.sleep(0.001)
        claiming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await claiming

    asyncio.run(cancel())
    clock.go_on.set()
    until(lambda: [it.id for it in drive(relayed(outbox))] == ["1"])
    assert 0 == taker.calls


def test_a_lease_begins_when_the_rows_are_claimed(outbox: SqliteOutbox, clock: HaltingClock, tmp_path: Path) -> None:
    """However long that had to wait for the changes of others."""
    drive(write(outbox, lambda: sqlite3.connect(tmp_path / "shop.db"), row("1")))
    others: list[list[ClaimedRow]] = []

    async def slow(rows: Sequence[ClaimedRow]) -> list[Handed]:
        others.append(await relayed(outbox))
        return [done(it) for it in rows]

    with closing(sqlite3.connect(tmp_path / "shop.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        before = clock.looks
        claiming = threading.Thread(target=lambda: drive(outbox.relay(BUS, KINDS, 10, slow)))
        claiming.start()
        until(lambda: clock.looks > before)
        clock.advance(outbox.options.lease)
        other.rollback()
        claiming.join()
    assert [[]] == others


def test_what_was_written_is_due_though_the_clock_is_set_back(
    outbox: SqliteOutbox, clock: HaltingClock, tmp_path: Path
) -> None:
    """So is what is to be tried again."""
    drive(write(outbox, lambda: sqlite3.connect(tmp_path / "shop.db"), row("1"), row("2")))
    drive(relayed(outbox, judging({"1": ("aside", 0), "2": ("kept", 0)})))
    drive(outbox.retry(BUS, None))
    clock.jump(-3_600)
    assert ["1", "2"] == [it.id for it in drive(relayed(outbox))]
