"""How much of a long queue in PostgreSQL is read for a claim: the planner has no figures about the table."""

from __future__ import annotations

import pytest
from pilotis.bridge import drive
from pilotis_store_postgres import PostgresOutbox, PostgresOutboxOptions
from pilotis_testing.clock import until
from pilotis_testing.outbox import BUS, KINDS, Taker
from pilotis_testing.postgres import tell

LIMIT = 100
MANY = 20_000
FEW = 4_000
"""Rows that may be read for a claim: a window, what is locked, and what is removed."""
LATER = "now() + interval '1 hour'"
_READ = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'pilotis_outbox'"


class Queue:
    """The table of an outbox, of which nobody makes statistics."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._outbox = PostgresOutbox(PostgresOutboxOptions(url=url))
        drive(self._outbox.migrate())
        tell(url, "ALTER TABLE pilotis_outbox SET (autovacuum_enabled = false)")

    def fill(self, key: str, count: int, due_at: str = "now()", bus: str = BUS, kind: str = "event") -> None:
        """Add rows. `key` and `due_at` are SQL, in which `number` counts them."""
        tell(
            self._url,
            "INSERT INTO pilotis_outbox (bus, kind, id, name, key, body, due_at) "
            f"SELECT '{bus}', '{kind}', number::text, 'order.placed', {key}, '{{}}', {due_at} "
            f"FROM generate_series(1, {count}) AS number",
        )

    def analyse(self) -> None:
        """Have the server make statistics, now and no more."""
        tell(self._url, "ANALYZE pilotis_outbox")

    def give_away(self) -> None:
        """Make all rows those of another bus."""
        tell(self._url, "UPDATE pilotis_outbox SET bus = 'other'")
        tell(self._url, "SELECT pg_stat_reset()")

    def claim(self) -> list[str | None]:
        """Return the keys of what is claimed."""
        taker = Taker()
        drive(self._outbox.relay(BUS, KINDS, LIMIT, taker))
        return [row.key for row in taker.rows]

    def read(self) -> int:
        """Return how many rows the server has read by now. It tells once nobody is connected any more."""
        drive(self._outbox.close())
        until(lambda: tell(self._url, _READ) > [(0,)])
        [(rows,)] = tell(self._url, _READ)
        return rows


@pytest.fixture
def queue(postgres_url: str) -> Queue:
    return Queue(postgres_url)


@pytest.mark.parametrize("key", ["NULL", "'k'", "(number % 100)::text", "number::text"])
def test_of_a_long_queue_little_is_read(queue: Queue, key: str) -> None:
    """Whatever its keys are."""
    queue.fill(key, MANY)
    assert LIMIT == len(queue.claim())
    assert queue.read() < FEW


@pytest.mark.parametrize(
    ("key", "free"), [("'k'", "NULL"), ("'k'", "'l'"), ("NULL", "NULL"), ("NULL", "'l'")], ids=lambda it: it
)
def test_what_cannot_be_claimed_is_passed_by(queue: Queue, key: str, free: str) -> None:
    """Rows behind the first of their key, which is not due; without keys, rows that are not due themselves."""
    queue.fill(key, 1, LATER)
    queue.fill(key, MANY, "now()" if key != "NULL" else LATER)
    queue.fill(free, LIMIT)
    assert LIMIT == len(queue.claim())
    assert [] == queue.claim()
    assert queue.read() < FEW


def test_rows_of_others_are_passed_by(queue: Queue) -> None:
    """Of another bus, and of another kind, though the figures that there are say that all are of this one."""
    queue.fill("'k'", 2 * MANY)
    queue.analyse()
    queue.give_away()
    queue.fill("NULL", MANY, kind="unknown")
    queue.fill("'k'", LIMIT)
    assert LIMIT == len(queue.claim())
    assert queue.read() < FEW


def test_keyed_rows_are_found_though_others_come_all_the_time(queue: Queue) -> None:
    """Those without a key, which are found at once, while the first keyed ones cannot be claimed."""
    queue.fill("'k'", 1, LATER)
    queue.fill("'k'", 20 * LIMIT)
    queue.fill("'l'", LIMIT)
    queue.fill("NULL", LIMIT // 2)
    assert {None, "l"} == set(queue.claim())


def test_what_follows_is_taken_along_up_to_what_is_not_due(queue: Queue) -> None:
    """Of a key that is found behind others."""
    queue.fill("'k'", 1, LATER)
    queue.fill("'k'", 20 * LIMIT)
    queue.fill("'l'", 3)
    queue.fill("'l'", 1, LATER)
    queue.fill("'l'", 3)
    assert ["l"] * 3 == queue.claim()
    assert [] == queue.claim()
