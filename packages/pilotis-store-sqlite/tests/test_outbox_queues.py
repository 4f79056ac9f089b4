"""How much work a claim from a long queue in SQLite is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pilotis.bridge import drive
from pilotis.providers import Context
from pilotis_store_sqlite import SqliteOutbox, SqliteOutboxOptions
from pilotis_store_sqlite.outbox import claimable
from pilotis_testing import ManualClock
from pilotis_testing.outbox import BUS, KINDS, Taker

LIMIT = 10
MANY = 20_000
FEW = 10
"""Thousands of steps of SQLite's machine that a claim may take: to read all rows would be hundreds."""


class Queue:
    """The table of an outbox."""

    def __init__(self, file: Path) -> None:
        self._outbox = SqliteOutbox(SqliteOutboxOptions(url=f"sqlite:///{file}"))
        self._outbox.context = Context(clock=ManualClock())
        self._now = self._outbox.context.clock.time()
        drive(self._outbox.open())
        self._connection = sqlite3.connect(file)
        self._connection.row_factory = sqlite3.Row

    def close(self) -> None:
        self._connection.close()
        drive(self._outbox.close())

    def fill(self, key: str, count: int, later: float = 0, bus: str = BUS) -> None:
        """Add rows that are due so many seconds later. `key` is SQL, in which `number` counts them."""
        with self._connection:
            self._connection.execute(
                "WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers LIMIT ?) "
                "INSERT INTO pilotis_outbox (bus, kind, id, name, key, body, written_at, due_at) "
                f"SELECT ?, 'event', number, 'order.placed', {key}, '{{}}', ?, ? FROM numbers",
                (count, bus, self._now, self._now + later),
            )

    def claim(self) -> list[str | None]:
        """Return the keys of what is claimed."""
        taker = Taker()
        drive(self._outbox.relay(BUS, KINDS, LIMIT, taker))
        return [row.key for row in taker.rows]

    def steps(self) -> int:
        """Return how many thousand steps it takes to find what can be claimed."""
        steps: list[int] = []
        self._connection.set_progress_handler(lambda: steps.append(1), 1_000)
        asked = {"bus": BUS, "kinds": '["event","run"]', "now": self._now, "limit": LIMIT, "window": 4 * LIMIT}
        claimable(self._connection, asked)
        return len(steps)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    with closing(Queue(tmp_path / "shop.db")) as queue:
        yield queue


@pytest.mark.parametrize("key", ["NULL", "'k'", "number % 100", "number"])
def test_of_a_long_queue_little_is_read(queue: Queue, key: str) -> None:
    """Whatever its keys are."""
    queue.fill(key, MANY)
    assert queue.steps() < FEW
    assert LIMIT == len(queue.claim())


@pytest.mark.parametrize(("key", "free"), [("'k'", "NULL"), ("'k'", "'l'"), ("NULL", "NULL"), ("NULL", "'l'")])
def test_what_cannot_be_claimed_is_passed_by(queue: Queue, key: str, free: str) -> None:
    """Rows behind the first of their key, which is not due; without keys, rows that are not due themselves."""
    queue.fill(key, 1, 3_600)
    queue.fill(key, MANY, 0 if key != "NULL" else 3_600)
    queue.fill(free, LIMIT)
    assert queue.steps() < FEW
    assert LIMIT == len(queue.claim())
    assert queue.steps() < FEW
    assert [] == queue.claim()


def test_rows_of_others_are_passed_by(queue: Queue) -> None:
    """Of another bus."""
    queue.fill("NULL", MANY, bus="other")
    queue.fill("'k'", MANY, bus="other")
    queue.fill("'k'", LIMIT)
    assert queue.steps() < FEW
    assert LIMIT == len(queue.claim())


def test_what_follows_is_taken_along_up_to_what_is_not_due(queue: Queue) -> None:
    """Of a key that is found behind others."""
    queue.fill("'k'", 1, 3_600)
    queue.fill("'k'", 20 * LIMIT)
    queue.fill("'l'", 3)
    queue.fill("'l'", 1, 3_600)
    queue.fill("'l'", 3)
    assert ["l"] * 3 == queue.claim()
    assert [] == queue.claim()
