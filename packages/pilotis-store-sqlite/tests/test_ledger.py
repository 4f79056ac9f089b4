"""What is particular to the ledger in SQLite: its indexes, what it forgets, what it meets on a disk."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pilotis.errors import InvalidInputError
from pilotis.modules.notification.retention import FORGET_AT_ONCE, FORGET_EVERY
from pilotis.providers import Context, LedgerEntry, LedgerQuery, Notification, ledger_searches, new_id
from pilotis_store_sqlite import SqliteLedger, SqliteLedgerOptions
from pilotis_store_sqlite.database import sql
from pilotis_store_sqlite.ledger import only_asked
from pilotis_testing import Colour, ManualClock

DAY = 86_400.0


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/shop.db"


def ledger(url: str, clock: ManualClock, *, name: str = "shop", **options: Any) -> SqliteLedger:
    provider = SqliteLedger(SqliteLedgerOptions(url=url, **options))
    provider.context = Context(clock=clock, name=name)
    return provider


def entry(clock: ManualClock, key: str | None = None, *, leased_until: float | None = None) -> LedgerEntry:
    now = datetime.fromtimestamp(clock.time(), UTC)
    known = Notification(
        id=new_id(clock),
        channel="email",
        to="ada@example.com",
        status="sent",
        created_at=now,
        updated_at=now,
        idempotency_key=key,
    )
    return LedgerEntry(notification=known, message=b"{}", digest="d", leased_until=leased_until)


# Finding


@pytest.fixture
def tables() -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(sql("ledger_1"))
        yield connection


@pytest.mark.parametrize(
    ("asked", "indexes"),
    [
        ({}, ["created (service=?)"]),
        ({"since": datetime(2026, 1, 1, tzinfo=UTC)}, ["created (service=? AND created_at>?)"]),
        ({"to": "ada@example.com"}, ["recipient (service=? AND recipient=?)"]),
        ({"resource": ("order", "42")}, ["resource (service=? AND resource_id=? AND resource_kind=?)"]),
        ({"statuses": ("sent",)}, ["status (service=? AND status=?)"]),
        ({"statuses": ("unknown",)}, ["status (service=? AND status=?)", "leased (service=? AND leased_until<?)"]),
    ],
)
def test_every_search_has_an_index(tables: sqlite3.Connection, asked: dict[str, Any], indexes: list[str]) -> None:
    """However much there is, what is recovered once per lease costs no walk through all of it."""
    searches = [search | {"service": "shop"} for search in ledger_searches(LedgerQuery(now=1.0, **asked))]
    plans = [
        tables.execute(f"EXPLAIN QUERY PLAN {only_asked(sql('ledger_find'), search)}", search).fetchall()[0][3]
        for search in searches
    ]
    assert [f"SEARCH pilotis_ledger USING INDEX pilotis_ledger_{index}" for index in indexes] == plans


# Whose entries


async def test_services_in_one_file_do_not_meet(url: str, clock: ManualClock, colour: Colour) -> None:
    """Each has its own keys, its own ids, and finds its own."""
    shop, depot = ledger(url, clock), ledger(url, clock, name="depot")
    await shop.open()
    await depot.open()
    mine, theirs = entry(clock, "key"), entry(clock, "key")
    assert [mine] == await shop.record([mine])
    assert [theirs] == await depot.record([theirs])
    assert [None] == await depot.read([mine.id])
    assert [mine] == await shop.find(LedgerQuery(now=clock.time()))
    await shop.close()
    await depot.close()


# Retention


async def test_what_is_too_old_is_forgotten(url: str, clock: ManualClock, colour: Colour) -> None:
    """With its key, when something is recorded; what is being sent is not, however old."""
    provider = ledger(url, clock, retention=DAY)
    await provider.open()
    old, leased, left = (
        entry(clock, "key"),
        entry(clock, leased_until=clock.time() + 3 * DAY),
        entry(clock, leased_until=clock.time() + DAY),
    )
    await provider.record([old, leased, left])
    clock.advance(DAY)
    young = entry(clock, "young")
    await provider.record([young])
    assert [old, leased, left] == await provider.read([old.id, leased.id, left.id])
    clock.advance(FORGET_EVERY)
    again = entry(clock, "key")
    assert [again] == await provider.record([again])
    assert [None, leased, None, young] == await provider.read([old.id, leased.id, left.id, young.id])
    await provider.close()


async def test_without_retention_nothing_is_forgotten(url: str, clock: ManualClock, colour: Colour) -> None:
    """None keeps them for good."""
    provider = ledger(url, clock, retention=None)
    await provider.open()
    old = entry(clock)
    await provider.record([old])
    clock.advance(10_000 * DAY)
    await provider.record([entry(clock)])
    assert [old] == await provider.read([old.id])
    await provider.close()


async def test_much_is_forgotten_bit_by_bit(url: str, clock: ManualClock, colour: Colour) -> None:
    """Each call deletes a bounded number, and the next one goes on."""
    provider = ledger(url, clock, retention=DAY)
    await provider.open()
    await provider.record([entry(clock) for _ in range(FORGET_AT_ONCE + 2)])
    clock.advance(2 * DAY)
    for left in (3, 2):
        await provider.record([entry(clock)])
        assert left == len(await provider.find(LedgerQuery(now=clock.time())))
    await provider.close()


async def test_opening_forgets_too(url: str, clock: ManualClock, colour: Colour) -> None:
    """So that programs that run shortly do their part."""
    provider = ledger(url, clock, retention=DAY)
    await provider.open()
    old = entry(clock)
    await provider.record([old])
    await provider.close()
    clock.advance(2 * DAY)
    provider = ledger(url, clock, retention=DAY)
    await provider.open()
    assert [None] == await provider.read([old.id])
    await provider.close()


# On a disk


async def test_it_outlives_its_process(url: str, clock: ManualClock, colour: Colour) -> None:
    """Another ledger on the file has every entry, byte by byte."""
    first, second = ledger(url, clock), ledger(url, clock)
    await first.open()
    mine = entry(clock, "key", leased_until=clock.time() + 0.1)
    await first.record([mine])
    await first.close()
    await second.open()
    assert [mine] == await second.read([mine.id])
    await second.close()


async def test_migrating_says_what_it_made(url: str, clock: ManualClock, colour: Colour) -> None:
    """Once."""
    provider = ledger(url, clock)
    [made] = await provider.migrate()
    assert made.startswith("made the table pilotis_ledger in ")
    assert [] == await provider.migrate()
    await provider.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "sqlite:///:memory:"}, "url: expected a file"),
        ({"url": "sqlite:///a.db", "retention": 0}, "retention: expected from 1"),
        ({"url": "sqlite:///a.db", "timeout": -1}, "timeout: expected from"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    """When they are made, naming the option."""
    with pytest.raises(InvalidInputError, match=message):
        SqliteLedgerOptions(**options)
