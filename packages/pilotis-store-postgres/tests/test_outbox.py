"""What is particular to the outbox in PostgreSQL: many writers at once, locks, notices, poolers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
from pilotis.bridge import drive
from pilotis.errors import ConfigurationError, InvalidInputError
from pilotis.modules.event.connections import as_callers
from pilotis.providers import ClaimedRow, Context, Handed, OutboxCapability, OutboxRow
from pilotis_store_postgres import PostgresOutbox, PostgresOutboxOptions
from pilotis_testing import Colour
from pilotis_testing.clock import until
from pilotis_testing.colours import soon, together
from pilotis_testing.outbox import BUS, KINDS, LONG, Taker, done, judging, relayed, row, write
from pilotis_testing.postgres import PgBouncer, PostgresServer, tell, waiting_for

Connection = psycopg.Connection[Any]


@pytest.fixture
def outbox(postgres_url: str) -> Iterator[PostgresOutbox]:
    """An outbox that is open."""
    outbox = PostgresOutbox(PostgresOutboxOptions(url=postgres_url))
    drive(outbox.migrate())
    drive(outbox.open())
    yield outbox
    drive(outbox.close())


def ids(rows: Sequence[ClaimedRow]) -> list[str]:
    return [row.id for row in rows]


def wrote(outbox: PostgresOutbox, connection: Connection, *rows: OutboxRow) -> None:
    drive(outbox.write(as_callers(connection), BUS, rows))


def test_what_commits_late_is_not_skipped(outbox: PostgresOutbox, postgres_url: str) -> None:
    """Its position is lower than that of rows which are gone by then."""
    with psycopg.connect(postgres_url) as late, psycopg.connect(postgres_url) as early:
        wrote(outbox, late, row("late"))
        wrote(outbox, early, row("early"))
        early.commit()
        assert ["early"] == ids(drive(relayed(outbox)))
        late.commit()
        assert ["late"] == ids(drive(relayed(outbox)))


def test_transactions_with_one_key_write_one_after_the_other(outbox: PostgresOutbox, postgres_url: str) -> None:
    """The second waits for the end of the first, so that positions are the order of commits. Other keys do not wait."""
    with psycopg.connect(postgres_url) as first, psycopg.connect(postgres_url) as second:
        wrote(outbox, first, row("1", "k"))
        wrote(outbox, second, row("free", "other"))
        writing = threading.Thread(target=lambda: (wrote(outbox, second, row("2", "k")), second.commit()))
        writing.start()
        waiting_for(postgres_url, 1)
        wrote(outbox, first, row("1b", "k"))
        first.commit()
        writing.join(30)
        assert ["1", "free", "1b", "2"] == ids(drive(relayed(outbox)))


def test_keys_are_locked_in_one_order(outbox: PostgresOutbox, postgres_url: str) -> None:
    """Two transactions that write the same keys the other way round do not wait for each other for ever."""
    keys = [f"{number}" for number in range(20)]
    errors: list[BaseException] = []

    def fill(order: list[str]) -> None:
        try:
            with psycopg.connect(postgres_url) as connection:
                for turn in range(10):
                    wrote(outbox, connection, *(row(f"{turn}", key) for key in order))
                    connection.commit()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=fill, args=(order,)) for order in (keys, keys[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [] == errors
    assert 400 == drive(outbox.status(BUS)).waiting


def test_rows_behind_a_long_queue_are_found(outbox: PostgresOutbox, postgres_url: str) -> None:
    """Of a key whose first row is not due, so that a claim has to look further than it does at first."""
    drive(write(outbox, lambda: psycopg.connect(postgres_url), *(row(f"{it}", "k") for it in range(50)), row("free")))
    judge = judging({"0": ("retry", LONG)})

    async def one(rows: Sequence[ClaimedRow]) -> list[Handed]:
        return [judge(it) for it in rows]

    assert 1 == drive(outbox.relay(BUS, KINDS, 1, one))
    taker = Taker()
    assert 1 == drive(outbox.relay(BUS, KINDS, 2, taker))
    assert ["free"] == taker.ids


def test_a_follower_that_is_not_due_holds_up_what_follows_it(outbox: PostgresOutbox, postgres_url: str) -> None:
    """The first of the key had been set aside, and is tried again."""
    drive(write(outbox, lambda: psycopg.connect(postgres_url), row("1", "k"), row("2", "k"), row("3", "k")))
    drive(relayed(outbox, judging({"1": ("aside", 0), "2": ("retry", LONG), "3": ("kept", 0)})))
    drive(outbox.retry(BUS, None))
    assert ["1"] == ids(drive(relayed(outbox)))
    assert [] == ids(drive(relayed(outbox)))


def test_a_follower_in_other_hands_holds_up_what_follows_it(outbox: PostgresOutbox, postgres_url: str) -> None:
    """The first of the key had been set aside, and is tried again while another relay has the second."""
    drive(write(outbox, lambda: psycopg.connect(postgres_url), row("1", "k"), row("2", "k"), row("3", "k")))
    drive(relayed(outbox, judging({"1": ("aside", 0), "2": ("kept", 0), "3": ("kept", 0)})))
    other = Taker()

    async def slow(rows: Sequence[ClaimedRow]) -> list[Handed]:
        assert ["2"] == ids(rows)
        await outbox.retry(BUS, None)
        await outbox.relay(BUS, KINDS, 10, other)
        return [done(it) for it in rows]

    drive(outbox.relay(BUS, KINDS, 1, slow))
    assert ["1"] == other.ids
    assert ["3"] == ids(drive(relayed(outbox)))


def test_what_a_dead_relay_had_is_free_at_once(own_postgres: PostgresServer) -> None:
    """Its connection ends, and its transaction with it."""
    first, second = (PostgresOutbox(PostgresOutboxOptions(url=own_postgres.url)) for _ in range(2))
    drive(first.migrate())
    drive(write(first, lambda: psycopg.connect(own_postgres.url), row("1")))
    ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE state = 'idle in transaction'"

    async def lose_the_connection(rows: Sequence[ClaimedRow]) -> list[Handed]:
        assert [] == ids(await relayed(second))
        assert [(1,)] == tell(own_postgres.url, ended)
        return [done(it) for it in rows]

    with pytest.raises(psycopg.OperationalError):
        drive(first.relay(BUS, KINDS, 10, lose_the_connection))
    until(lambda: ids(drive(relayed(second))) == ["1"])
    drive(first.close())
    drive(second.close())


def test_what_a_relay_has_that_was_stopped_is_free_after_its_lease(postgres_url: str) -> None:
    """The server ends its transaction, and it is told once it goes on."""
    stopped = PostgresOutbox(PostgresOutboxOptions(url=postgres_url, lease=0.2))
    other = PostgresOutbox(PostgresOutboxOptions(url=postgres_url))
    drive(stopped.migrate())
    drive(write(stopped, lambda: psycopg.connect(postgres_url), row("1", "k"), row("2", "k")))
    taken: list[str] = []

    async def stop(rows: Sequence[ClaimedRow]) -> list[Handed]:
        await soon(lambda: bool(taken.extend(ids(drive(relayed(other)))) or taken))
        return [done(it) for it in rows]

    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
        drive(stopped.relay(BUS, KINDS, 10, stop))
    assert ["1", "2"] == taken
    drive(stopped.close())
    drive(other.close())


async def test_relays_do_not_mind_what_isolation_the_database_prefers(postgres_url: str, colour: Colour) -> None:
    """Where it is stricter than theirs, who finds a row that another one removed would fail, and not pass on."""
    name = postgres_url.rpartition("/")[2]
    tell(postgres_url, f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    outbox = PostgresOutbox(PostgresOutboxOptions(url=postgres_url))
    await outbox.migrate()
    await write(outbox, lambda: psycopg.connect(postgres_url), *(row(f"{it}", f"{it % 3}") for it in range(200)))
    taker = Taker()

    async def work() -> None:
        while len(taker.ids) < 200:
            await outbox.relay(BUS, KINDS, 5, taker)

    await together(*[work for _ in range(4)])
    assert sorted(taker.ids) == sorted(f"{it}" for it in range(200))
    await outbox.close()


def test_a_missing_table_is_told_when_it_is_opened(postgres_url: str, colour: Colour) -> None:
    """With the command that makes it."""
    outbox = PostgresOutbox(PostgresOutboxOptions(url=postgres_url))

    async def check() -> None:
        with pytest.raises(
            ConfigurationError, match=r"event\.outbox: there is no table pilotis_outbox .*outbox migrate"
        ):
            await outbox.open()
        assert [f"made the table pilotis_outbox at {outbox.address}"] == await outbox.migrate()
        await outbox.open()
        await outbox.close()

    colour.run(check())


def test_the_table_can_be_in_a_schema(postgres_url: str) -> None:
    """With a name of one's own; what could not be one is refused."""
    tell(postgres_url, "CREATE SCHEMA ops")
    outbox = PostgresOutbox(PostgresOutboxOptions(url=postgres_url, table="ops.staged"))
    drive(outbox.migrate())
    drive(write(outbox, lambda: psycopg.connect(postgres_url), row("1", "k")))
    assert ["1"] == ids(drive(relayed(outbox)))
    drive(outbox.close())
    with pytest.raises(InvalidInputError, match="table: expected the name of a table"):
        PostgresOutboxOptions(table="no; DROP TABLE orders")


def test_a_transaction_notifies_once_at_most(outbox: PostgresOutbox, postgres_url: str) -> None:
    """However much it writes. One that is rolled back notifies nobody, and none does with `notify = false`."""
    silent = PostgresOutbox(PostgresOutboxOptions(url=postgres_url, notify=False))
    calls: list[int] = []
    context = outbox.context = Context()
    job = context.runtime.spawn(outbox.watch(BUS, lambda: calls.append(1)), "watch")
    until(lambda: len(calls) == 1)
    with psycopg.connect(postgres_url) as connection:
        for number in range(5):
            wrote(outbox, connection, row(f"{number}"))
        connection.rollback()
        wrote(silent, connection, row("5"))
        connection.commit()
        wrote(outbox, connection, row("6"), row("7"))
        wrote(outbox, connection, row("8"))
        connection.commit()
    until(lambda: len(calls) == 2)
    with psycopg.connect(postgres_url) as connection:
        wrote(outbox, connection, row("9"))
    until(lambda: len(calls) >= 3)
    assert 3 == len(calls)
    job.cancel()
    drive(job.ended.wait())
    context.runtime.stop()


def test_without_notify_nobody_is_promised_to_be_woken(postgres_url: str) -> None:
    """It says so before it is open."""
    outbox = PostgresOutbox(PostgresOutboxOptions(url=postgres_url, notify=False))
    assert OutboxCapability.NONE == outbox.capabilities


async def test_many_make_the_table_at_once(postgres_url: str, colour: Colour) -> None:
    """Also those that looked for it before: one makes it, and nobody fails."""
    outboxes = [PostgresOutbox(PostgresOutboxOptions(url=postgres_url)) for _ in range(8)]
    for outbox in outboxes:
        with pytest.raises(ConfigurationError):
            await outbox.open()
    made = await together(*[outbox.migrate for outbox in outboxes])
    assert 1 == len([names for names in made if names])
    for outbox in outboxes:
        await outbox.close()


def test_behind_a_pooler_it_works_and_promises_less(pgbouncer: PgBouncer, colour: Colour) -> None:
    """Its connections are lent for a transaction, so nothing is ever notified."""
    outbox = PostgresOutbox(PostgresOutboxOptions(url=pgbouncer.url))

    async def work() -> None:
        await outbox.migrate()
        assert OutboxCapability.WAKE in outbox.capabilities
        await outbox.open()
        assert OutboxCapability.NONE == outbox.capabilities
        await write(outbox, lambda: psycopg.connect(pgbouncer.url, prepare_threshold=None), row("1", "k"), row("2"))
        assert ["1", "2"] == ids(await relayed(outbox))
        await outbox.close()

    colour.run(work())
