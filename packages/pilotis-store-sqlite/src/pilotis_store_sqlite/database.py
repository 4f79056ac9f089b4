"""One SQLite file: its connections, its tables, and who may change it when."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from pilotis.errors import (
    ConflictError,
    ConnectionFailedError,
    OperationError,
    OperationTimeoutError,
    PermissionDeniedError,
    StorageFullError,
)
from pilotis.providers import reset_after_fork, run_blocking, run_blocking_with_undo

R = TypeVar("R")
Work = Callable[[sqlite3.Connection], R]

RETRY_SECONDS = 0.02

_VERSIONS = """
CREATE TABLE IF NOT EXISTS pilotis_versions (part TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID
"""


@cache
def sql(name: str) -> str:
    """Return `sql/<name>.sql` of this package."""
    return files("pilotis_store_sqlite").joinpath("sql", f"{name}.sql").read_text("utf-8")


class _Connection(sqlite3.Connection):
    """One that remembers which file it opened: another one may stand at its path by now."""

    file: tuple[int, int] | None = None


class Database:
    """Works on a file with connections that are lent to one piece of work at a time, on any thread.

    Changes of this process stand in line for each other, so that only those of other processes are waited for by
    SQLite's own polling. A connection is not carried over a fork, and is made anew where another file stands at the
    path. Where there is none any more, it is an error: only opening makes one.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        """Work on `path`, and wait at most `timeout` seconds for other processes. No I/O."""
        self.path = path
        self._timeout = timeout
        self._is_open = False
        self._inherited: list[_Connection] = []
        self._free: list[_Connection] = []
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Keep the parent's connections unused: SQLite forbids even to close them here."""
        self._inherited += self._free
        self._free = []
        self._lock = threading.Lock()
        self._turn = threading.Lock()

    # Life cycle

    async def open(self, part: str, steps: Sequence[str]) -> int:
        """Make the file, if it is not there, and bring the tables of a part of it up to date. See `migrate`."""
        self._is_open = True
        await run_blocking(self._make_file)
        await self.run(lambda connection: _use_wal(connection, self._timeout))
        return await self.change(lambda connection: migrate(connection, part, steps))

    async def close(self) -> None:
        """Close what is free; what is in use is closed when it comes back. Opening makes it usable again."""
        with self._lock:
            self._is_open = False
            free, self._free = self._free, []
        for connection in free:
            await run_blocking(connection.close)

    # Work

    async def run(self, work: Work[R]) -> R:
        """Call `work(connection)` outside of any transaction: for looking. A cancelled caller leaves it to end."""
        return await run_blocking(self._run, work)

    async def change(self, work: Work[R]) -> R:
        """Call `work(connection)` in a transaction that is committed unless it raises.

        A cancelled caller leaves it to end. SQLite makes one change at a time: raises `sqlite3.OperationalError`
        (SQLITE_BUSY) if the turn does not come in time.
        """
        return await run_blocking(self._change, work)

    async def take(self, work: Work[R], give_back: Callable[[sqlite3.Connection, R], object]) -> R:
        """Change like `change`; what was taken for a caller who is gone by then is given back by another change."""
        return await run_blocking_with_undo(
            lambda: self._change(work),
            lambda taken: self._change(lambda connection: give_back(connection, taken)),
        )

    def _run(self, work: Work[R]) -> R:
        with self._lent() as connection:
            return work(connection)

    def _change(self, work: Work[R]) -> R:
        with self._lent() as connection, self._in_turn(), transaction(connection):
            return work(connection)

    @contextlib.contextmanager
    def _in_turn(self) -> Generator[None]:
        if not self._turn.acquire(timeout=self._timeout):
            raise TimeoutError(f"{self.path} is busy: another change of this process took over {self._timeout:g} s")
        try:
            yield
        finally:
            self._turn.release()

    @contextlib.contextmanager
    def _lent(self) -> Generator[_Connection]:
        connection = self._kept() or self._connect("rw")
        try:
            yield connection
        finally:
            self._take_back(connection)

    def _kept(self) -> _Connection | None:
        """Return a connection that nobody uses, to the file that is there now."""
        file = _file_at(self.path)
        while (connection := self._popped()) is not None and connection.file != file:
            connection.close()
        return connection

    def _popped(self) -> _Connection | None:
        with self._lock:
            return self._free.pop() if self._free else None

    def _take_back(self, connection: _Connection) -> None:
        with self._lock:
            keep = self._is_open
            if keep:
                self._free.append(connection)
        if not keep:
            connection.close()

    def _make_file(self) -> None:
        self._connect("rwc").close()

    def _connect(self, mode: str) -> _Connection:
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode={mode}",
            timeout=self._timeout,
            isolation_level=None,
            check_same_thread=False,
            factory=_Connection,
            uri=True,
        )
        connection.row_factory = sqlite3.Row
        connection.file = _file_at(self.path)
        return connection


def _file_at(path: Path) -> tuple[int, int] | None:
    """Tell a file from any other; None where there is none to be seen."""
    try:
        found = path.stat()
    except OSError:
        return None  # whoever opens it is told why
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """Commit what the block changes, or roll it back if it raises. The turn to change is taken at once."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


# Tables


def migrate(connection: sqlite3.Connection, part: str, steps: Sequence[str]) -> int:
    """Apply the steps that a part of the database has not had yet, and return how many. Runs inside a transaction.

    Each step is a script of statements. A database that had more steps than these is left alone: a newer version of
    the program made it, and keeps its tables usable for this one.
    """
    connection.execute(_VERSIONS)
    found = connection.execute("SELECT version FROM pilotis_versions WHERE part = ?", (part,)).fetchone()
    missing = steps[found["version"] if found else 0 :]
    for step in missing:
        _execute_script(connection, step)
    if missing:
        connection.execute("INSERT OR REPLACE INTO pilotis_versions VALUES (?, ?)", (part, len(steps)))
    return len(missing)


def _execute_script(connection: sqlite3.Connection, script: str) -> None:
    # Not `executescript`, which commits what was begun.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


def _use_wal(connection: sqlite3.Connection, timeout: float) -> None:
    """Have readers not wait for whoever changes something. The file remembers it.

    SQLite does not wait for its turn to change this, so we do. Where it cannot be (some network drives), the file
    stays as it is.
    """
    deadline = time.monotonic() + timeout
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = wal")
            return
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)


# Errors


def classify(error: Exception) -> type[OperationError] | None:
    """Tell which error of ours one of SQLite is, None for what is not one that we know."""
    return _ERRORS.get(_code(error)) if isinstance(error, sqlite3.Error) else None


def _is_busy(error: sqlite3.Error) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _code(error: sqlite3.Error) -> int:
    """Return the code without what its upper bits add."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


_ERRORS: dict[int, type[OperationError]] = {
    sqlite3.SQLITE_BUSY: OperationTimeoutError,
    sqlite3.SQLITE_LOCKED: OperationTimeoutError,
    sqlite3.SQLITE_CANTOPEN: ConnectionFailedError,
    sqlite3.SQLITE_IOERR: ConnectionFailedError,
    sqlite3.SQLITE_FULL: StorageFullError,
    sqlite3.SQLITE_READONLY: PermissionDeniedError,
    sqlite3.SQLITE_PERM: PermissionDeniedError,
    sqlite3.SQLITE_CONSTRAINT: ConflictError,
}
