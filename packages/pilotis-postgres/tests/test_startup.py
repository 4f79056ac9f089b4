"""What is found out before a server is relied on, and which options cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pilotis.errors import ConfigurationError, InvalidInputError
from pilotis.settings.secrets import Secret
from pilotis_postgres import Facts, Postgres, PostgresBacked, PostgresOptions
from pilotis_postgres.sql import check_name
from pilotis_postgres.startup import check
from pilotis_testing.colours import Colour
from pilotis_testing.postgres import PgBouncer, running_pgbouncer

Connect = Callable[..., Postgres]


async def test_a_server_is_spoken_to_directly(postgres: Postgres, colour: Colour) -> None:
    """Then it tells its version, and there is no pooler."""
    facts = await check(postgres)
    assert facts.version >= 130_000
    assert facts.pooler is None


async def test_a_pooler_is_found(connect: Connect, pgbouncer: PgBouncer, colour: Colour) -> None:
    """One that lends connections for a transaction."""
    assert (await check(connect(pgbouncer.url))).pooler == "transaction"


async def test_a_pooler_for_sessions_is_another(connect: Connect, postgres_url: str, colour: Colour) -> None:
    """Its clients have their connections to themselves."""
    with running_pgbouncer(postgres_url, "session") as pooler:
        assert (await check(connect(pooler.url))).pooler == "session"


async def test_an_old_server_is_refused(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which version is needed."""
    monkeypatch.setattr("pilotis_postgres.startup.OLDEST", 99)
    with pytest.raises(Exception, match="expected PostgreSQL 99 or newer"):
        await check(postgres)


def test_facts_can_be_compared() -> None:
    """They are plain values."""
    assert Facts(150_018, None) == Facts(150_018, None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "redis://localhost"}, "url: expected postgresql://"),
        ({"url": "postgresql://me:se%cret@localhost/db"}, "url: expected"),
        ({"url": "postgresql://me:secret@localhost/db?unheard_of=1"}, "url: expected"),
        ({"max_connections": 1}, "max_connections: expected 2 or more"),
        ({"connect_timeout": 1}, "connect_timeout: expected 2 or more"),
        ({"reconnects": -1}, "reconnects: expected 0 or more"),
        ({"timeout": 0}, "timeout"),
        ({"tls_ca": Path("/nowhere/ca.pem")}, "tls_ca: expected a file"),
    ],
)
def test_bad_options(options: dict[str, Any], words: str) -> None:
    """The error names the option and what was expected, and no password."""
    with pytest.raises(InvalidInputError, match=words) as caught:
        PostgresOptions(**options)
    assert "cret" not in str(caught.value)


def test_options_beside_the_url_count_more() -> None:
    """And nothing of them shows in a repr."""
    url = "postgresql://me:first@host/db?sslmode=disable"
    options = PostgresOptions(url=url, user="you", password=Secret("second"))
    parameters = options.parameters()
    assert ("you", "second") == (parameters["user"], parameters["password"])
    assert ("disable", "host") == (parameters["sslmode"], parameters["host"])
    assert "first" not in repr(options)
    assert options.shown == "postgresql://host:5432/db"
    assert PostgresOptions(url="postgresql://a,b:5433/db").shown == "postgresql://a:5432,b:5433/db"


@pytest.mark.parametrize("name", ["", "a b", 'a"b', "a.b.c", "1a", "a" * 49, "a;b", "é"])
def test_bad_table_names(name: str) -> None:
    """Whatever would need quotes is refused."""
    with pytest.raises(InvalidInputError, match="table: expected the name of a table"):
        check_name(name, "table")


def test_good_table_names() -> None:
    """With a schema or without."""
    assert check_name("ops.locks_2", "table") == "ops.locks_2"


def test_no_client_is_taken() -> None:
    """It would be lent to one caller at a time, and to threads or tasks alone."""
    with pytest.raises(ConfigurationError, match="takes no client"):
        PostgresBacked(client=object())
