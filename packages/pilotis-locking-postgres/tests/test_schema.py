"""What the database must have, and how it comes there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from pilotis import Pilotis
from pilotis.bridge import drive
from pilotis.errors import ConfigurationError, InvalidInputError
from pilotis_locking_postgres import PostgresLocks, PostgresLocksOptions
from pilotis_testing.colours import Colour, together
from pilotis_testing.postgres import PgBouncer, tell

MakeApp = Callable[..., Pilotis]


def locks(url: str, **options: Any) -> PostgresLocks:
    return PostgresLocks(PostgresLocksOptions(url=url, **options))


@pytest.mark.parametrize("mode", ["transaction", "session", "table"])
async def test_a_database_without_it_says_what_to_do(postgres_url: str, mode: str, colour: Colour) -> None:
    """Before the first lock; and what it says helps, in any mode."""
    provider = locks(postgres_url, mode=mode)
    with pytest.raises(ConfigurationError, match="run `pilotis locks migrate` once"):
        await provider.open()
    assert (await provider.migrate())[0] == "made the sequence pilotis_locks_token"
    assert await provider.migrate() == []
    await provider.open()
    await provider.close()


async def test_a_table_may_have_a_schema_and_a_name(postgres_url: str, colour: Colour) -> None:
    """All that is made has that name."""
    tell(postgres_url, "CREATE SCHEMA ops")
    provider = locks(postgres_url, mode="table", table="ops.locks_of_the_shop")
    assert await provider.migrate() == [
        "made the sequence ops.locks_of_the_shop_token",
        "made the tables ops.locks_of_the_shop and ops.locks_of_the_shop_queue, and their functions",
    ]
    await provider.open()
    await provider.close()
    assert tell(postgres_url, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == [(0,)]


def test_several_may_make_it_at_once(postgres_url: str) -> None:
    """One of them makes it, and nobody fails."""
    made: list[list[str]] = []

    def make() -> None:
        provider = locks(postgres_url, mode="table")
        made.append(drive(provider.migrate(), "migrate"))
        drive(provider.close(), "close")

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, made)) == [0, 0, 0, 0, 0, 2]


def test_another_version_of_the_table_is_refused(postgres_url: str) -> None:
    """The error tells both."""
    provider = locks(postgres_url, mode="table")
    drive(provider.migrate(), "migrate")
    tell(postgres_url, "COMMENT ON TABLE pilotis_locks IS 'pilotis locks, version 0'")
    with pytest.raises(ConfigurationError, match=r"version 0.* not .*version 1"):
        drive(provider.open(), "open")
    drive(provider.close(), "close")


@pytest.mark.parametrize("how", ["CACHE 20", "INCREMENT -1", "CYCLE"])
def test_a_sequence_that_does_not_grow_with_time_is_refused(postgres_url: str, how: str) -> None:
    """Whoever makes it by hand learns what it must be, before a token is lower than an older one."""
    provider = locks(postgres_url)
    drive(provider.migrate(), "migrate")
    tell(postgres_url, f"ALTER SEQUENCE pilotis_locks_token {how} NO MINVALUE")
    with pytest.raises(ConfigurationError, match=r"do not grow with time.*run `ALTER SEQUENCE") as caught:
        drive(provider.open(), "open")
    tell(postgres_url, str(caught.value).split("`")[1])
    drive(provider.open(), "open")
    drive(provider.close(), "close")


def test_a_role_that_may_not_is_told(postgres_url: str) -> None:
    """What the database says, and not that all is well."""
    tell(postgres_url, "DO $$ BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    tell(postgres_url, "REVOKE CREATE ON SCHEMA public FROM public")
    provider = locks(postgres_url, user="reader")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        drive(provider.migrate(), "migrate")
    drive(provider.close(), "close")


def test_bad_options() -> None:
    """The error names the option and what was expected."""
    with pytest.raises(InvalidInputError, match="table: expected the name of a table"):
        PostgresLocksOptions(table="locks; DROP TABLE orders")
    with pytest.raises(InvalidInputError, match="namespace: expected 1 to 200 characters"):
        PostgresLocksOptions(namespace="two words")


# Poolers


async def test_a_session_is_refused_behind_a_pooler_for_transactions(
    pgbouncer: PgBouncer, migrated: None, colour: Colour
) -> None:
    """At start-up, with the reason and the ways out."""
    provider = locks(pgbouncer.url, mode="session")
    with pytest.raises(ConfigurationError, match=r"locking\.mode: a pooler .* for one transaction"):
        await provider.open()
    await provider.close()


@pytest.mark.parametrize("mode", ["transaction", "table"])
async def test_the_other_modes_work_behind_it(
    pgbouncer: PgBouncer, migrated: None, mode: str, make_app: MakeApp, colour: Colour
) -> None:
    """Locks exclude, wait, and are let go; in a table, whoever waits looks from time to time."""
    locking = colour.voice(make_app(pgbouncer.url, mode=mode).locking)
    served: list[int] = []

    async def come() -> None:
        async with locking.hold("order:1", "order:2", wait=20) as lease:
            served.append(lease.token)

    async with locking.hold("order:2") as lease:
        assert lease.token > 0
        assert await (await locking.acquire("order:3")).release() is True
    await together(*[come] * 3)
    assert served == sorted(set(served))
    assert tell(pgbouncer.url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
