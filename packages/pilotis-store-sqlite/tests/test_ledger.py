"""What is particular to the ledger in SQLite: its indexes and its options."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pilotis.errors import InvalidInputError
from pilotis.providers import LedgerQuery, ledger_searches
from pilotis_store_sqlite import SqliteLedgerOptions
from pilotis_store_sqlite.database import sql
from pilotis_store_sqlite.ledger import only_asked


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
