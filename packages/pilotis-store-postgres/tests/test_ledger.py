"""What is particular to the ledger in PostgreSQL: its table and indexes, and who is in whose way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from msgspec.structs import replace
from pilotis.bridge import blocking
from pilotis.errors import ConfigurationError, ConnectionFailedError, InvalidInputError
from pilotis.providers import Context, LedgerEntry, LedgerQuery, ledger_searches
from pilotis_store_postgres import PostgresLedger, PostgresLedgerOptions
from pilotis_store_postgres.statements import statement
from pilotis_testing import Colour, ManualClock
from pilotis_testing.chaos import AnswerCutter
from pilotis_testing.colours import together
from pilotis_testing.ledger import new_entry
from pilotis_testing.postgres import PgBouncer, PostgresServer
from pilotis_testing.servers import free_port

Make = Callable[..., PostgresLedger]


@pytest.fixture
def make(postgres_url: str, clock: ManualClock) -> Iterator[Make]:
    made: list[PostgresLedger] = []

    def ledger(*, name: str = "shop", **options: Any) -> PostgresLedger:
        given: dict[str, Any] = {"url": postgres_url} | options
        provider = PostgresLedger(PostgresLedgerOptions(**given))
        provider.context = Context(clock=clock, name=name)
        made.append(provider)
        return provider

    yield ledger
    for provider in made:
        blocking(PostgresLedger.close)(provider)


# The table


async def test_a_table_may_be_in_a_schema(make: Make, clock: ManualClock, colour: Colour) -> None:
    """Under any name."""
    provider = make(table="mail.notes")
    await provider.postgres.execute("CREATE SCHEMA mail")
    await provider.open()
    mine = new_entry(clock)
    await provider.record([mine])
    assert [mine] == await provider.read([mine.id])
    assert [(1,)] == await provider.postgres.execute("SELECT count(*) FROM mail.notes")
    await provider.close()


async def test_a_role_that_may_not_make_the_table_is_told(make: Make, clock: ManualClock, colour: Colour) -> None:
    """With the command that makes it; once it is there, the role needs no more than to read and write."""
    owner = make()
    await owner.postgres.script(ROLE)
    clerk = make(user="clerk")
    with pytest.raises(ConfigurationError, match=r"notification\.ledger\.table: .*`pilotis notifications migrate`"):
        await clerk.open()
    await owner.migrate()
    await owner.postgres.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON pilotis_ledger TO clerk")
    await clerk.open()
    mine = new_entry(clock)
    assert [mine] == await clerk.record([mine])
    await clerk.close()
    await owner.close()


ROLE = """
DO $$ BEGIN CREATE ROLE clerk LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
REVOKE CREATE ON SCHEMA public FROM public;
GRANT USAGE ON SCHEMA public TO clerk;
"""


@pytest.mark.parametrize(
    ("asked", "indexes"),
    [
        ({}, ["created"]),
        ({"since": datetime(2026, 1, 1, tzinfo=UTC)}, ["created"]),
        ({"to": "ada@example.com"}, ["recipient"]),
        ({"resource": ("order", "42")}, ["resource"]),
        ({"statuses": ("sent",)}, ["status"]),
        ({"statuses": ("unknown",)}, ["status", "leased"]),
    ],
)
async def test_every_search_has_an_index(
    make: Make, clock: ManualClock, asked: dict[str, Any], indexes: list[str]
) -> None:
    """However much there is, what is recovered once per lease costs no walk through all of it."""
    provider = make()
    await provider.open()
    values = [
        {"status": status, "lease": None if number % 1000 else 1.0}
        for number, status in enumerate(["sent", "failed", "skipped", "simulated"] * 500)
    ]
    await provider.postgres.batch((FILL, {"number": number} | value) for number, value in enumerate(values))
    await provider.postgres.execute("ANALYZE pilotis_ledger")
    for search, index in zip(ledger_searches(LedgerQuery(now=2.0, limit=10, **asked)), indexes, strict=True):
        explain = f"EXPLAIN {statement('ledger_find', 'pilotis_ledger')}"
        plan = "\n".join(row[0] for row in await provider.postgres.execute(explain, search | {"service": "shop"}))
        assert f"pilotis_ledger_{index}" in plan, plan
        assert "Seq Scan" not in plan
    await provider.close()


FILL = """
INSERT INTO pilotis_ledger VALUES (
    'shop', %(number)s::text, NULL, %(status)s, %(number)s::text, 'email', 'order', %(number)s::text,
    %(number)s, '{}', '', 'd', 1, %(lease)s, 0
)
"""


# Who is in whose way


async def test_batches_in_opposite_orders_do_not_block_one_another(
    make: Make, clock: ManualClock, colour: Colour
) -> None:
    """Neither those that record the same keys, nor those that change the same entries."""
    provider = make()
    await provider.open()
    keys = [f"key {number}" for number in range(50)]
    batches = [[new_entry(clock, key) for key in order] for order in (keys, keys[::-1]) * 4]
    held = await together(*[_recorder(provider, batch) for batch in batches])
    winners = {known.notification.idempotency_key: known for known in held[0]}
    assert all(winners[known.notification.idempotency_key] == known for batch in held for known in batch)
    changes = [replace(known, version=2) for known in winners.values()]
    done = await together(*[_replacer(provider, order) for order in (changes, changes[::-1]) * 4])
    assert [len(keys)] == [sum(map(sum, done))]
    await provider.close()


def _recorder(provider: PostgresLedger, entries: list[LedgerEntry]) -> Any:
    return lambda: provider.record(entries)


def _replacer(provider: PostgresLedger, entries: list[LedgerEntry]) -> Any:
    return lambda: provider.replace(entries)


# Trouble


async def test_a_restart_is_survived(
    own_postgres: PostgresServer, make: Make, clock: ManualClock, colour: Colour
) -> None:
    """What was recorded is there, and the next verb finds a connection."""
    provider = make(url=own_postgres.url)
    await provider.open()
    mine = new_entry(clock, "key")
    await provider.record([mine])
    own_postgres.restart()
    assert [mine] == await provider.record([new_entry(clock, "key")])
    await provider.close()


async def test_a_lost_answer_is_told_as_one(
    make: Make, own_postgres: PostgresServer, clock: ManualClock, colour: Colour
) -> None:
    """What it was about may be done: whoever comes again under the same key finds it."""
    server = urlsplit(own_postgres.url)
    with AnswerCutter(server.port or 5432) as cutter:
        user = server.netloc.rpartition("@")[0]
        provider = make(url=server._replace(netloc=f"{user}@127.0.0.1:{cutter.port}").geturl())
        await provider.open()
        mine = new_entry(clock, "key")
        cutter.cut_next()
        with pytest.raises(psycopg.OperationalError) as raised:
            await provider.record([mine])
        assert ("unknown", ConnectionFailedError) == (provider.outcome(raised.value), provider.classify(raised.value))
        assert [mine] == await provider.record([new_entry(clock, "key")])
        await provider.close()


async def test_a_pooler_is_no_obstacle(make: Make, pgbouncer: PgBouncer, clock: ManualClock) -> None:
    """One that lends its connections for a transaction: nothing is kept in a session."""
    provider = make(url=pgbouncer.url)
    await provider.open()
    mine, other = new_entry(clock, "key"), new_entry(clock, "key")
    assert [mine, mine] == await provider.record([mine, other])
    changed = replace(mine, version=2)
    assert [True] == await provider.replace([changed])
    assert [changed] == await provider.read([mine.id])
    assert [changed] == await provider.find(LedgerQuery(now=clock.time()))
    await provider.close()


async def test_nobody_is_there(make: Make, colour: Colour) -> None:
    """An unreachable server is told at the start, by its kind."""
    provider = make(url=f"postgresql://127.0.0.1:{free_port()}/shop", reconnects=0)
    with pytest.raises(Exception, match="refused") as raised:
        await provider.open()
    assert provider.classify(raised.value) is ConnectionFailedError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "mysql://localhost/shop"}, "url: expected postgresql://"),
        ({"table": "notes; DROP TABLE notes"}, "table: expected the name of a table"),
        ({"retention": 0}, "retention: expected from 1"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    """When they are made, naming the option."""
    with pytest.raises(InvalidInputError, match=message):
        PostgresLedgerOptions(**options)
