"""The servers that tests on PostgreSQL run against: started, ill-treated, emptied."""

from __future__ import annotations

import psycopg
import pytest
from pilotis_testing.postgres import PgBouncer, PostgresServer, tell, with_password


def test_a_database_is_empty_for_each_test(postgres_url: str) -> None:
    """Nothing is there, and a table can be made; the next test finds none."""
    count = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert tell(postgres_url, count) == [(0,)]
    tell(postgres_url, "CREATE TABLE left_behind (number int)")


test_a_database_is_empty_again = test_a_database_is_empty_for_each_test


def test_a_restarted_server_is_where_it_was(own_postgres: PostgresServer) -> None:
    """It has its data and its port; a connection to it has ended."""
    tell(own_postgres.url, "CREATE TABLE kept (number int)")
    port, connection = own_postgres.port, psycopg.connect(own_postgres.url)
    own_postgres.restart()
    assert own_postgres.port == port
    assert tell(own_postgres.url, "SELECT count(*) FROM kept") == [(0,)]
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()


def test_a_paused_server_says_nothing_until_it_is_resumed(own_postgres: PostgresServer) -> None:
    """A connection that is there already gets no answer meanwhile, and one afterwards."""
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        own_postgres.pause()
        connection.pgconn.send_query(b"SELECT 1")
        connection.pgconn.flush()
        assert connection.pgconn.is_busy()
        own_postgres.resume()
        assert connection.pgconn.get_result() is not None
        assert connection.pgconn.get_result() is None
    own_postgres.pause()  # and can be stopped in this state, too


def test_a_killed_server_can_be_started_again(own_postgres: PostgresServer) -> None:
    """As after a crash."""
    own_postgres.kill()
    with pytest.raises(psycopg.OperationalError):
        tell(own_postgres.url, "SELECT 1")
    own_postgres.start()
    assert tell(own_postgres.url, "SELECT 1") == [(1,)]


def test_a_password_is_asked_for(postgres_url: str) -> None:
    """Of the guarded role alone."""
    url = with_password(postgres_url, "open-sesame")
    assert tell(url, "SELECT current_user::text") == [("guarded",)]
    with pytest.raises(psycopg.OperationalError, match="password"):
        tell(url.replace("sesame", "barley"), "SELECT 1")


def test_a_pooler_lends_connections_for_a_transaction(pgbouncer: PgBouncer) -> None:
    """Two clients that are connected at the same time share one."""
    with (
        psycopg.connect(pgbouncer.url, autocommit=True) as one,
        psycopg.connect(pgbouncer.url, autocommit=True) as two,
    ):
        assert one.execute("SELECT pg_backend_pid()").fetchone() == two.execute("SELECT pg_backend_pid()").fetchone()
