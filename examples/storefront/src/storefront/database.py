"""What the processes of the shop share: the database that `STOREFRONT_DATABASE` names, a file or a PostgreSQL.

Without one, one process's memory.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import threading
from collections.abc import Generator, Mapping, Sequence
from typing import Any

VARIABLE = "STOREFRONT_DATABASE"
PATIENCE = 30.0
"""Seconds that a process waits for the others to have written."""

TABLES = """
CREATE TABLE IF NOT EXISTS today (price_list TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS product (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    price TEXT NOT NULL,
    stock INTEGER NOT NULL,
    lowest INTEGER NOT NULL,
    restocked INTEGER NOT NULL DEFAULT 0,
    reorder_level INTEGER NOT NULL,
    discontinued INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS customer (id TEXT PRIMARY KEY, company TEXT NOT NULL, contact TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS taken (
    number INTEGER PRIMARY KEY,
    units INTEGER NOT NULL,
    is_back INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS payment (
    id TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    amount TEXT NOT NULL,
    refunded INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS sale (number INTEGER PRIMARY KEY, total TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS account (customer TEXT PRIMARY KEY, points INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS handled (
    subscriber TEXT NOT NULL,
    event TEXT NOT NULL,
    process INTEGER NOT NULL,
    PRIMARY KEY (subscriber, event)
);
"""
NAMES = re.findall(r"EXISTS (\w+)", TABLES)

SCHEMA = """
SELECT pg_advisory_lock(hashtext('storefront'));
CREATE SCHEMA IF NOT EXISTS storefront;
SET search_path TO storefront, public;
"""
"""The tables have a schema of their own in a PostgreSQL, and processes make them one after the other."""


class Rows:
    """The tables inside a transaction. Statements are written as SQLite has them."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._is_sqlite = isinstance(connection, sqlite3.Connection)

    def execute(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> Any:
        """Run a statement, with `?` or `:name` for values. Returns the driver's cursor."""
        text = query if self._is_sqlite else re.sub(r":(\w+)", r"%(\1)s", query.replace("?", "%s"))
        return self.connection.execute(text, values)

    def transaction(self) -> contextlib.AbstractContextManager[object]:
        """Return a block. What is done in it is kept whole, or not at all if it raises."""
        if self._is_sqlite:
            self.connection.execute("BEGIN IMMEDIATE")
            return self.connection
        return self.connection.transaction()


class Database:
    """A connection that threads take in turns. It is made when it is first used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: Rows | None = None

    @contextlib.contextmanager
    def transaction(self) -> Generator[Rows]:
        """Lend the tables. What is done with them is kept whole, or not at all if the block raises."""
        with self.looking() as rows, rows.transaction():
            yield rows

    @contextlib.contextmanager
    def looking(self) -> Generator[Rows]:
        """Lend the tables, to read them."""
        with self._lock:
            if self._rows is None:
                self._rows = Rows(connect())
            yield self._rows

    def close(self) -> None:
        """Close the connection. The next use makes a new one, perhaps to another database."""
        with self._lock:
            if self._rows is not None:
                self._rows.connection.close()
            self._rows = None


def connect() -> Any:
    """Return a connection to a database that has all tables."""
    place = os.environ.get(VARIABLE, ":memory:")
    return to_postgres(place) if place.startswith("postgres") else to_sqlite(place)


def to_sqlite(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(TABLES)
    return connection


def to_postgres(url: str) -> Any:
    import psycopg

    connection = psycopg.connect(url, autocommit=True, prepare_threshold=None)
    connection.execute(f"{SCHEMA} {TABLES} SELECT pg_advisory_unlock(hashtext('storefront'))")  # pyright: ignore[reportArgumentType] - no value in it is anybody's
    return connection


database = Database()
