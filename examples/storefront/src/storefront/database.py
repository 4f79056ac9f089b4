"""What the processes of the shop share: a file that `STOREFRONT_DATABASE` names. Without one, one process's memory."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Generator

VARIABLE = "STOREFRONT_DATABASE"
PATIENCE = 30.0
"""Seconds that a process waits for the others to have written."""

TABLES = """
CREATE TABLE IF NOT EXISTS product (
    id INTEGER PRIMARY KEY,
    stock INTEGER NOT NULL,
    lowest INTEGER NOT NULL,
    restocked INTEGER NOT NULL DEFAULT 0,
    reorder_level INTEGER NOT NULL,
    discontinued INTEGER NOT NULL
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


class Database:
    """A connection to SQLite that threads take in turns. It is made when it is first used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    @contextlib.contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """Lend the connection. What is done with it is kept whole, or not at all if the block raises."""
        with self._lock:
            if self._connection is None:
                self._connection = connect()
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:
                yield self._connection

    def close(self) -> None:
        """Close the connection. The next use makes a new one, perhaps to another file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None


def connect() -> sqlite3.Connection:
    """Return a connection to a database that has all tables."""
    path = os.environ.get(VARIABLE, ":memory:")
    connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(TABLES)
    return connection
