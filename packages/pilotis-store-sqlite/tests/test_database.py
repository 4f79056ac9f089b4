"""The file under the stores: opened by many, changed by one at a time, whole after any interruption."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pilotis.errors import (
    ConflictError,
    ConnectionFailedError,
    InvalidInputError,
    OperationTimeoutError,
    PermissionDeniedError,
)
from pilotis.providers import Latch
from pilotis_store_sqlite.database import Database, classify, migrate
from pilotis_store_sqlite.options import SqliteOptions, read_url
from pilotis_testing import Colour
from pilotis_testing.clock import until
from pilotis_testing.colours import together
from pilotis_testing.processes import started

FIRST = "CREATE TABLE notes (text TEXT);\nCREATE INDEX notes_text ON notes (text);\n"
SECOND = "ALTER TABLE notes ADD COLUMN\n  author TEXT DEFAULT 'semi;colon';\n"
PATIENCE = 30.0
FORKS = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    database = Database(path, PATIENCE)
    yield database
    Colour.BLOCKING.run(database.close())


def note(text: str) -> Callable[[sqlite3.Connection], None]:
    def write(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO notes (text) VALUES (?)", (text,))

    return write


def texts(connection: sqlite3.Connection) -> list[str]:
    return [row["text"] for row in connection.execute("SELECT text FROM notes ORDER BY text").fetchall()]


def _rows(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    return [tuple(row) for row in connection.execute("SELECT * FROM notes").fetchall()]


# Where it is


@pytest.mark.parametrize(
    ("url", "expected"), [("sqlite:////srv/a%20b.db", "/srv/a b.db"), ("sqlite:///d/shop.db", "d/shop.db")]
)
def test_a_url_names_a_file(url: str, expected: str) -> None:
    """Three strokes for a path in the working directory, four for an absolute one; escapes are undone."""
    assert Path.cwd() / expected == read_url(url)


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///", "sqlite://host/shop.db", "sqlite:///shop.db?mode=ro", "postgres:///shop", "shop.db"],
)
def test_a_url_that_names_no_file_is_refused(url: str) -> None:
    """The error shows how a URL looks."""
    with pytest.raises(InvalidInputError, match=r"url: expected sqlite:///folder/shop\.db"):
        SqliteOptions(url=url)


def test_a_database_in_memory_is_refused() -> None:
    """It would end with each connection."""
    with pytest.raises(InvalidInputError, match="in memory ends with its connection"):
        SqliteOptions(url="sqlite:///:memory:")


def test_a_timeout_is_above_zero() -> None:
    """Zero would fail whenever two meet."""
    with pytest.raises(InvalidInputError, match=r"timeout: expected from 0\.001"):
        SqliteOptions(url="sqlite:///shop.db", timeout=0)


# Tables


async def test_steps_are_applied_once_each(database: Database, path: Path, colour: Colour) -> None:
    """Opening again, and opening with a further step, applies what is new."""
    await database.open("notes", [FIRST])
    await database.change(note("kept"))
    await database.open("notes", [FIRST])
    await database.open("notes", [FIRST, SECOND])
    assert [("kept", "semi;colon")] == await database.run(_rows)
    await database.close()


async def test_a_newer_database_is_left_alone(database: Database, colour: Colour) -> None:
    """A program with fewer steps works on what a newer one made."""
    await database.open("notes", [FIRST, SECOND])
    assert await database.change(lambda connection: migrate(connection, "notes", [FIRST])) == 0
    assert await database.change(lambda connection: migrate(connection, "notes", [FIRST, SECOND])) == 0
    await database.close()


async def test_a_step_that_fails_leaves_nothing(database: Database, colour: Colour) -> None:
    """Neither its own first half nor the steps before it."""
    with pytest.raises(sqlite3.OperationalError):
        await database.open("notes", [FIRST, "CREATE TABLE more (a);\nCREATE NONSENSE;\n"])
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await database.run(texts)
    await database.close()


@FORKS
def test_many_processes_open_one_file(path: Path) -> None:
    """Ten make the same new file at once: all of them find their tables, and the file lets readers pass writers."""
    processes = [started(_open_and_note, path, f"{number}") for number in range(10)]
    for process in processes:
        process.join(PATIENCE)
    assert [0] * 10 == [process.exitcode for process in processes]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        assert [f"{number}" for number in range(10)] == texts(connection)
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def _open_and_note(path: Path, text: str) -> None:
    database = Database(path, PATIENCE)
    Colour.BLOCKING.run(database.open("notes", [FIRST]))
    Colour.BLOCKING.run(database.change(note(text)))
    Colour.BLOCKING.run(database.close())


# Work


async def test_changes_at_once_are_all_made(database: Database, colour: Colour) -> None:
    """They stand in line on a file that has one change at a time."""
    await database.open("notes", [FIRST])
    await together(*[_changer(database, f"{number}") for number in range(8)])
    assert [f"{number}" for number in range(8)] == await database.run(texts)
    await database.close()


def _changer(database: Database, text: str) -> Any:
    return lambda: database.change(note(text))


async def test_a_change_that_raises_is_undone(database: Database, colour: Colour) -> None:
    """And the next one finds its turn free."""
    await database.open("notes", [FIRST])

    def fail(connection: sqlite3.Connection) -> None:
        note("gone")(connection)
        raise KeyError

    with pytest.raises(KeyError):
        await database.change(fail)
    await database.change(note("kept"))
    assert ["kept"] == await database.run(texts)
    await database.close()


async def test_looking_does_not_wait_for_a_change(database: Database, colour: Colour) -> None:
    """It sees what was there before."""
    await database.open("notes", [FIRST])
    with _holding(database):
        assert [] == await database.run(texts)
    assert ["held"] == await database.run(texts)
    await database.close()


@contextlib.contextmanager
def _holding(database: Database) -> Generator[None]:
    """Have another thread of this process in the middle of a change."""
    begun, go_on = threading.Event(), threading.Event()

    def hold(connection: sqlite3.Connection) -> None:
        note("held")(connection)
        begun.set()
        assert go_on.wait(PATIENCE)

    holder = threading.Thread(target=lambda: Colour.BLOCKING.run(database.change(hold)))
    holder.start()
    assert begun.wait(PATIENCE)
    yield
    go_on.set()
    holder.join()


async def test_a_turn_that_does_not_come_is_a_time_out(path: Path, colour: Colour) -> None:
    """Whoever holds it: another process, or this one."""
    database = Database(path, 0.05)
    await database.open("notes", [FIRST])
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError) as raised:
            await database.change(note("late"))
        assert classify(raised.value) is OperationTimeoutError
    with _holding(database), pytest.raises(TimeoutError, match="is busy"):
        await database.change(note("late"))
    await database.change(note("kept"))
    assert ["held", "kept"] == await database.run(texts)
    await database.close()


def test_a_cancelled_change_is_made_whole(database: Database) -> None:
    """The thread that makes it goes on; what it used is there for the next one."""
    begun, go_on = threading.Event(), Latch()

    def slow(connection: sqlite3.Connection) -> None:
        note("slow")(connection)
        begun.set()
        Colour.BLOCKING.run(go_on.wait())

    async def run() -> None:
        await database.open("notes", [FIRST])
        task = asyncio.ensure_future(database.change(slow))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        await database.change(note("next"))

    asyncio.run(run())
    assert ["next", "slow"] == Colour.BLOCKING.run(database.run(texts))


@FORKS
def test_a_child_has_connections_of_its_own(database: Database) -> None:
    """It leaves those of its parent alone."""
    Colour.BLOCKING.run(database.open("notes", [FIRST]))
    child = started(_note_in_child, database, Colour.BLOCKING.run(database.run(id)))
    child.join(PATIENCE)
    assert child.exitcode == 0
    assert ["child"] == Colour.BLOCKING.run(database.run(texts))


def _note_in_child(database: Database, parents: int) -> None:
    assert parents != Colour.BLOCKING.run(database.run(id))
    Colour.BLOCKING.run(database.change(note("child")))
    Colour.BLOCKING.run(database.close())


@FORKS
def test_what_a_killed_process_changed_is_undone(database: Database, path: Path) -> None:
    """In the middle of a transaction: nobody sees its half, nobody waits for its turn."""
    Colour.BLOCKING.run(database.open("notes", [FIRST]))
    mark = path.with_name("mark")
    child = started(_note_and_hang, path, mark)
    until(mark.exists, PATIENCE)
    child.kill()
    child.join(PATIENCE)
    Colour.BLOCKING.run(database.change(note("kept")))
    assert ["kept"] == Colour.BLOCKING.run(database.run(texts))


def _note_and_hang(path: Path, mark: Path) -> None:
    def hang(connection: sqlite3.Connection) -> None:
        note("half")(connection)
        mark.touch()
        threading.Event().wait()

    Colour.BLOCKING.run(Database(path, PATIENCE).change(hang))


async def test_it_works_again_after_closing(database: Database, colour: Colour) -> None:
    """Closing twice is closing once, and leaves no file open."""
    await database.close()
    await database.open("notes", [FIRST])
    await database.close()
    await database.close()
    assert not _open_files(database.path)
    await database.open("notes", [FIRST])
    await database.change(note("again"))
    assert ["again"] == await database.run(texts)
    await database.close()


def _open_files(path: Path) -> list[str]:
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]  # noqa: PTH208
    return [os.readlink(link) for link in links if os.path.exists(link) and os.readlink(link).startswith(str(path))]  # noqa: PTH110, PTH115


async def test_a_file_that_was_replaced_is_worked_on_anew(database: Database, path: Path, colour: Colour) -> None:
    """By another one at its place, of which nothing is lost; where there is none, it is an error, and none is made."""
    await database.open("notes", [FIRST])
    await database.change(note("old"))
    other = Database(path.with_name("other.db"), PATIENCE)
    await other.open("notes", [FIRST])
    await other.change(note("new"))
    for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        file.unlink()
    with pytest.raises(sqlite3.OperationalError) as gone:
        await database.run(texts)
    assert (classify(gone.value), path.exists()) == (ConnectionFailedError, False)
    await other.close()
    other.path.rename(path)
    assert ["new"] == await database.run(texts)
    await database.change(note("newer"))
    assert ["new", "newer"] == await database.run(texts)
    await database.close()


# Errors


async def test_a_folder_that_is_not_there(tmp_path: Path, colour: Colour) -> None:
    """The file is made, folders are not."""
    database = Database(tmp_path / "nowhere" / "shop.db", PATIENCE)
    with pytest.raises(sqlite3.OperationalError) as raised:
        await database.open("notes", [FIRST])
    assert classify(raised.value) is ConnectionFailedError
    await database.close()


async def test_errors_are_told_by_their_code(database: Database, path: Path, colour: Colour) -> None:
    """A broken rule, a file that may only be read; what is not of SQLite is not known here."""
    await database.open("notes", [FIRST, "CREATE UNIQUE INDEX one ON notes (text);"])
    await database.change(note("a"))
    with pytest.raises(sqlite3.IntegrityError) as broken:
        await database.change(note("a"))
    assert classify(broken.value) is ConflictError
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    with contextlib.closing(reader), pytest.raises(sqlite3.OperationalError) as readonly:
        note("b")(reader)
    assert classify(readonly.value) is PermissionDeniedError
    assert classify(ValueError()) is None
    assert classify(sqlite3.ProgrammingError()) is None
    await database.close()
