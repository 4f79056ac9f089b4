"""Events in the caller's transaction, through every kind of connection, to a bus in the same process."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import django  # pyright: ignore[reportMissingTypeStubs]
import psycopg
import pytest
import sqlalchemy
from django.conf import settings as django_settings  # pyright: ignore[reportMissingTypeStubs]
from django.db.utils import ConnectionHandler  # pyright: ignore[reportMissingTypeStubs]
from pilotis import (
    ConfigurationError,
    Event,
    InvalidInputError,
    NotFoundError,
    OperationError,
    Pilotis,
    UnsupportedError,
    UsageError,
    workflow,
)
from pilotis.bridge import Latch, drive, run_blocking
from pilotis.modules.event.relay import Relay
from pilotis.providers import OutgoingEvent
from pilotis_testing import Colour, ManualClock
from pilotis_testing.clock import until
from pilotis_testing.postgres import waiting_for
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

DEADLINE = 30.0


@workflow("double")
def double(number: int) -> int:
    return 2 * number


class Shop:
    """An app whose outbox is in a database, and what its handler was given."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.url = url
        outbox = {"url": url, **settings.pop("outbox", {})}
        self.app = Pilotis({"name": "shop", "event": {"provider": "local", "outbox": outbox, **settings}})
        self.got: list[Event[Any]] = []
        self.app.event.on("order.*", id="book")(self.book)
        self.app.event.outbox.migrate()
        self.app.event.outbox.close()
        self.app.event.outbox.renew()

    def book(self, event: Event[Any]) -> None:
        self.got.append(event)

    @property
    def data(self) -> list[Any]:
        return [event.data for event in self.got]

    def handled(self) -> list[Any]:
        """Return what was handled, once everything is."""
        assert self.app.event.drain(DEADLINE)
        return self.data


@contextlib.contextmanager
def opened(shop: Shop) -> Generator[Shop]:
    with shop.app:
        yield shop


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/shop.db"


@pytest.fixture
def shop(sqlite_url: str) -> Iterator[Shop]:
    """A shop with SQLite."""
    with opened(Shop(sqlite_url)) as shop:
        yield shop


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to that SQLite."""
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        yield connection


# Kinds of connections


@contextlib.contextmanager
def by_sqlite3(url: str) -> Generator[Any]:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
        yield connection


@contextlib.contextmanager
def by_sqlite3_that_begins(url: str) -> Generator[Any]:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
        connection.execute("BEGIN")
        with connection:
            yield connection


@contextlib.contextmanager
def by_psycopg(url: str) -> Generator[Any]:
    with psycopg.connect(url) as connection:
        yield connection


def no_rows(_: object) -> Any:
    raise AssertionError("nothing of what the caller's rows are made with is used")


@contextlib.contextmanager
def by_psycopg_of_a_kind_of_its_own(url: str) -> Generator[Any]:
    with psycopg.connect(url, cursor_factory=psycopg.RawCursor, row_factory=no_rows) as connection:
        yield connection


@contextlib.contextmanager
def by_psycopg_that_begins(url: str) -> Generator[Any]:
    with psycopg.connect(url, autocommit=True) as connection, connection.transaction():
        yield connection


@contextlib.contextmanager
def engine_of(url: str, **options: Any) -> Generator[sqlalchemy.Engine]:
    engine = sqlalchemy.create_engine(dialect(url), **options)
    try:
        yield engine
    finally:
        engine.dispose()


@contextlib.contextmanager
def by_alchemy(url: str) -> Generator[Any]:
    with engine_of(url) as engine, engine.begin() as connection:
        yield connection


@contextlib.contextmanager
def by_session(url: str) -> Generator[Any]:
    with engine_of(url) as engine, Session(engine) as session, session.begin():
        yield session


@contextlib.contextmanager
def by_scoped_session(url: str) -> Generator[Any]:
    with engine_of(url) as engine:
        session = scoped_session(sessionmaker(engine))
        try:
            with session.begin():
                yield session
        finally:
            session.remove()


@contextlib.contextmanager
def by_django(url: str) -> Generator[Any]:
    unchecked: Any = django_settings
    if not unchecked.configured:
        unchecked.configure()
        django.setup()
    handler: Any = ConnectionHandler({"default": place_for_django(url)})
    connection = handler["default"]
    try:
        connection.set_autocommit(False)
        yield connection
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    finally:
        connection.close()


def place_for_django(url: str) -> dict[str, Any]:
    if url.startswith("sqlite"):
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": url.removeprefix("sqlite:///")}
    place = conninfo_to_dict(url)
    named = {"NAME": "dbname", "HOST": "host", "PORT": "port", "USER": "user"}
    return {"ENGINE": "django.db.backends.postgresql", **{ours: place.get(theirs) for ours, theirs in named.items()}}


def plain_connection(url: str) -> Any:
    return sqlite3.connect(url.removeprefix("sqlite:///")) if url.startswith("sqlite") else psycopg.connect(url)


def dialect(url: str) -> str:
    return url.replace("postgresql:", "postgresql+psycopg:")


Kind = Callable[[str], contextlib.AbstractContextManager[Any]]

BLOCKING: list[tuple[str, Kind]] = [
    *(("sqlite_url", kind) for kind in (by_sqlite3, by_sqlite3_that_begins)),
    *(("postgres_url", kind) for kind in (by_psycopg, by_psycopg_of_a_kind_of_its_own, by_psycopg_that_begins)),
    *((url, kind) for url in ("sqlite_url", "postgres_url") for kind in (by_alchemy, by_session, by_scoped_session)),
]


@pytest.mark.parametrize(("database", "begin"), BLOCKING, ids=lambda it: getattr(it, "__name__", it))
def test_a_blocking_connection(request: pytest.FixtureRequest, database: str, begin: Kind, colour: Colour) -> None:
    """What is committed through it is handled, once and in order; what is rolled back is not. In both colours."""
    check_kind(request.getfixturevalue(database), begin, colour)


@pytest.mark.parametrize(("database", "begin"), BLOCKING, ids=lambda it: getattr(it, "__name__", it))
def test_transactions_with_one_key_come_one_after_the_other(
    request: pytest.FixtureRequest, database: str, begin: Kind
) -> None:
    """Through any connection: what the second emits comes after all that the first does until its commit."""
    with opened(Shop(request.getfixturevalue(database))) as shop:
        begun = threading.Event()

        def emit_after() -> None:
            with begin(shop.url) as connection, shop.app.event.transaction(connection):
                begun.set()
                shop.app.event.emit("order.placed", 3, key="k")

        second = threading.Thread(target=emit_after)
        with begin(shop.url) as connection, shop.app.event.transaction(connection):
            shop.app.event.emit("order.placed", 1, key="k")
            second.start()
            assert begun.wait(DEADLINE)
            if database == "postgres_url":
                waiting_for(shop.url, 1)
            shop.app.event.emit("order.placed", 2, key="k")
        second.join(DEADLINE)
        assert [1, 2, 3] == shop.handled()


@pytest.mark.parametrize("begin", [by_psycopg, by_alchemy, by_session], ids=lambda it: it.__name__)
def test_what_commits_late_is_handed_over(postgres_url: str, begin: Kind) -> None:
    """After what was written later and committed before it."""
    with opened(Shop(postgres_url)) as shop:
        with begin(shop.url) as late, shop.app.event.transaction(late):
            shop.app.event.emit("order.placed", 1)
            with begin(shop.url) as early, shop.app.event.transaction(early):
                shop.app.event.emit("order.placed", 2)
            assert [2] == shop.handled()
        assert [2, 1] == shop.handled()


@pytest.mark.parametrize("database", ["sqlite_url", "postgres_url"])
def test_what_a_savepoint_of_a_session_takes_back_is_not_sent(request: pytest.FixtureRequest, database: str) -> None:
    """What one keeps is, and what comes around them."""
    with opened(Shop(request.getfixturevalue(database))) as shop:
        emit = shop.app.event.emit
        with by_session(shop.url) as session, shop.app.event.transaction(session):
            emit("order.placed", 1, key="k")
            with contextlib.suppress(ZeroDivisionError), session.begin_nested():
                emit("order.placed", 2, key="k")
                raise ZeroDivisionError
            with session.begin_nested():
                emit("order.placed", 3, key="k")
            emit("order.placed", 4, key="k")
        assert [1, 3, 4] == shop.handled()


@pytest.mark.parametrize("database", ["sqlite_url", "postgres_url"])
def test_what_comes_after_a_commit_inside_the_block_is_of_the_next_transaction(
    request: pytest.FixtureRequest, database: str
) -> None:
    """Which is rolled back alone."""
    url = request.getfixturevalue(database)
    with opened(Shop(url)) as shop, closing(plain_connection(url)) as connection:
        with shop.app.event.transaction(connection):
            shop.app.event.emit("order.placed", 1, key="k")
            connection.commit()
            shop.app.event.emit("order.placed", 2, key="k")
        connection.rollback()
        assert [1] == shop.handled()


@pytest.mark.parametrize("database", ["sqlite_url", "postgres_url"])
def test_a_connection_that_is_closed_is_told(request: pytest.FixtureRequest, database: str) -> None:
    """By an error of ours; what it had not committed is not sent."""
    url = request.getfixturevalue(database)
    with opened(Shop(url)) as shop:
        connection = plain_connection(url)
        with shop.app.event.transaction(connection):
            shop.app.event.emit("order.placed", 1)
            connection.close()
            with pytest.raises(OperationError, match="closed"):
                shop.app.event.emit("order.placed", 2)
        assert [] == shop.handled()


@pytest.mark.parametrize("database", ["sqlite_url", "postgres_url"])
def test_an_event_may_be_as_large_as_any(request: pytest.FixtureRequest, database: str) -> None:
    """Up to `event.max_bytes`; beyond that it is refused before anything is written."""
    url = request.getfixturevalue(database)
    with opened(Shop(url, max_bytes=9_000_000)) as shop, closing(plain_connection(url)) as connection:
        with shop.app.event.transaction(connection):
            shop.app.event.emit("order.placed", "x" * 8_000_000, key="k")
            with pytest.raises(InvalidInputError, match=r"event\.max_bytes"):
                shop.app.event.emit("order.placed", "x" * 9_000_000, key="k")
            shop.app.event.emit("order.placed", "after", key="k")
        connection.commit()
        assert [8_000_000, 5] == [len(data) for data in shop.handled()]


@pytest.mark.parametrize("database", ["sqlite_url", "postgres_url"])
def test_a_connection_of_django(request: pytest.FixtureRequest, database: str) -> None:
    """The same, without an event loop: Django refuses to work on a thread that has one."""
    check_kind(request.getfixturevalue(database), by_django, Colour.BLOCKING)


def test_what_a_savepoint_takes_back_is_not_sent(postgres_url: str) -> None:
    """The rest of the caller's transaction is."""
    with opened(Shop(postgres_url)) as shop:
        with psycopg.connect(postgres_url) as connection, shop.app.event.transaction(connection):
            shop.app.event.emit("order.placed", 1, key="k")
            with contextlib.suppress(ZeroDivisionError), connection.transaction():
                shop.app.event.emit("order.placed", 2, key="k")
                raise ZeroDivisionError
            shop.app.event.emit("order.placed", 3, key="k")
        assert [1, 3] == shop.handled()


def check_kind(url: str, begin: Kind, colour: Colour) -> None:
    with opened(Shop(url)) as shop:
        event = colour.voice(shop.app.event)

        async def emit(connection: Any, *numbers: int) -> list[str]:
            async with event.transaction(connection):
                return [await event.emit("order.placed", number, key="k") for number in numbers]

        with begin(shop.url) as connection:
            ids = colour.run(emit(connection, 1, 2))
            assert [] == shop.got
        with contextlib.suppress(ZeroDivisionError), begin(shop.url) as connection:
            colour.run(emit(connection, 3))
            raise ZeroDivisionError
        assert [1, 2] == shop.handled()
        assert ids == [it.id for it in shop.got]


@contextlib.asynccontextmanager
async def by_async_psycopg(url: str) -> AsyncGenerator[Any]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        yield connection


@contextlib.asynccontextmanager
async def by_async_psycopg_of_a_kind_of_its_own(url: str) -> AsyncGenerator[Any]:
    kind = psycopg.AsyncRawCursor
    async with await psycopg.AsyncConnection.connect(url, cursor_factory=kind, row_factory=no_rows) as connection:
        yield connection


@contextlib.asynccontextmanager
async def async_engine_of(url: str) -> AsyncGenerator[Any]:
    engine = create_async_engine(dialect(url))
    try:
        yield engine
    finally:
        await engine.dispose()


@contextlib.asynccontextmanager
async def by_async_alchemy(url: str) -> AsyncGenerator[Any]:
    async with async_engine_of(url) as engine, engine.begin() as connection:
        yield connection


@contextlib.asynccontextmanager
async def by_async_session(url: str) -> AsyncGenerator[Any]:
    async with async_engine_of(url) as engine, AsyncSession(engine) as session, session.begin():
        yield session


@pytest.mark.parametrize(
    "begin",
    [by_async_psycopg, by_async_psycopg_of_a_kind_of_its_own, by_async_alchemy, by_async_session],
    ids=lambda it: getattr(it, "__name__", it),
)
async def test_an_async_connection(postgres_url: str, begin: Callable[[str], Any]) -> None:
    """The same, under its event loop."""
    shop = await run_blocking(Shop, postgres_url)
    async with shop.app as app:
        async with begin(shop.url) as connection, app.event.transaction(connection):
            await app.event.aemit("order.placed", 1, key="k")
            await app.event.aemit("order.placed", 2, key="k")
        with contextlib.suppress(ZeroDivisionError):
            async with begin(shop.url) as connection:
                async with app.event.transaction(connection):
                    await app.event.aemit("order.placed", 3)
                raise ZeroDivisionError
        assert await app.event.adrain(DEADLINE)
        assert [1, 2] == shop.data


@pytest.mark.parametrize(
    "begin", [by_async_psycopg, by_async_alchemy, by_async_session], ids=lambda it: getattr(it, "__name__", it)
)
async def test_async_transactions_with_one_key_come_one_after_the_other(
    postgres_url: str, begin: Callable[[str], Any]
) -> None:
    """The same, as tasks of one event loop: the second waits, and the loop goes on."""
    shop = await run_blocking(Shop, postgres_url)
    async with shop.app as app:

        async def emit_after() -> None:
            async with begin(shop.url) as connection, app.event.transaction(connection):
                await app.event.aemit("order.placed", 3, key="k")

        async with begin(shop.url) as connection, app.event.transaction(connection):
            await app.event.aemit("order.placed", 1, key="k")
            second = asyncio.create_task(emit_after())
            await run_blocking(waiting_for, postgres_url, 1)
            await app.event.aemit("order.placed", 2, key="k")
        await second
        assert await app.event.adrain(DEADLINE)
        assert [1, 2, 3] == shop.data


def test_an_async_connection_is_refused_without_its_loop(postgres_url: str) -> None:
    """Before anything is written, and the error says what to do."""
    with opened(Shop(postgres_url)) as shop:
        connection = asyncio.run(psycopg.AsyncConnection.connect(postgres_url))
        with shop.app.event.transaction(connection), pytest.raises(UsageError, match="await the async verb there"):
            shop.app.event.emit("order.placed", 1)
        asyncio.run(connection.close())


def commits_itself(url: str) -> Iterator[Any]:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as plain:
            yield plain
    else:
        with psycopg.connect(url, autocommit=True) as connection:
            yield connection
    with engine_of(url, isolation_level="AUTOCOMMIT") as engine, engine.connect() as connection:
        yield connection
    with engine_of(url) as engine:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            yield connection
        with Session(engine.execution_options(isolation_level="AUTOCOMMIT")) as session:
            yield session


@pytest.mark.parametrize("database", ["sqlite_url", "postgres_url"])
def test_a_connection_that_commits_by_itself_is_refused(request: pytest.FixtureRequest, database: str) -> None:
    """Where no transaction is under way: what is emitted could not be rolled back."""
    with opened(Shop(request.getfixturevalue(database))) as shop:
        for connection in commits_itself(shop.url):
            with shop.app.event.transaction(connection), pytest.raises(UsageError, match="begin one first"):
                shop.app.event.emit("order.placed", 1)
        assert 0 == shop.app.event.outbox.status().waiting


# Bad input


def test_what_is_no_connection_is_refused(shop: Shop) -> None:
    """At once, with what there could be."""
    with pytest.raises(InvalidInputError, match=r"connection: expected sqlite3.Connection, .*, got str"):
        shop.app.event.transaction("sqlite:///shop.db")


def test_another_kind_of_database_is_refused(postgres_url: str, connection: sqlite3.Connection) -> None:
    """The outbox is somewhere else."""
    with (
        opened(Shop(postgres_url)) as shop,
        pytest.raises(InvalidInputError, match="which is postgresql; got one to sqlite"),
    ):
        shop.app.event.transaction(connection)


@pytest.mark.parametrize("database", ["sqlite_url", "postgres_url"])
def test_a_database_without_the_table_is_told(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> None:
    """It is another database than the outbox's: with its driver's error as the cause."""
    url = request.getfixturevalue(database)
    with opened(Shop(url)) as shop:
        other = f"sqlite:///{tmp_path}/other.db" if database == "sqlite_url" else url.rpartition("/")[0] + "/postgres"
        with (
            by_alchemy(other) as connection,
            shop.app.event.transaction(connection),
            pytest.raises(ConfigurationError, match=r"event\.outbox: .* has no table pilotis_outbox"),
        ):
            shop.app.event.emit("order.placed", 1)


def test_a_bus_without_an_outbox_says_so(connection: sqlite3.Connection) -> None:
    """With what to set."""
    with Pilotis() as app, pytest.raises(UnsupportedError, match=r"set event\.outbox"):
        app.event.transaction(connection)


def test_a_poll_without_a_pause_is_refused(sqlite_url: str) -> None:
    """It would ask the database all the time."""
    with pytest.raises(ConfigurationError, match=r"event\.outbox\.poll"):
        Pilotis({"event": {"outbox": {"url": sqlite_url, "poll": 0}}})


def test_a_group_by_its_id_is_refused(shop: Shop, connection: sqlite3.Connection) -> None:
    """It would be kept whatever becomes of the transaction. A block does what was meant."""
    event = shop.app.event
    with connection, event.transaction(connection):
        with pytest.raises(UsageError, match="released by the commit"):
            event.emit("order.placed", 0, group="g")
        with event.group() as group:
            event.emit("order.placed", 1)
            event.emit("order.placed", 2, group=group.id)
        with contextlib.suppress(ZeroDivisionError), event.group():
            event.emit("order.placed", 3)
            raise ZeroDivisionError
    assert [1, 2] == sorted(shop.handled())


def test_what_comes_after_the_block_is_refused(shop: Shop, connection: sqlite3.Connection) -> None:
    """A thread that was started inside and goes on would write into whatever comes next on the connection."""
    gate, caught = Latch(), list[BaseException]()

    async def late() -> None:
        await gate.wait()
        try:
            await shop.app.event.aemit("order.placed", 1)
        except UsageError as error:
            caught.append(error)

    async def main() -> None:
        with shop.app.event.transaction(connection):
            task = asyncio.create_task(late())
            await asyncio.sleep(0)
        gate.set()
        await task

    asyncio.run(main())
    assert ["the transaction's block has ended"] == [str(error).partition(",")[0] for error in caught]


def test_a_block_is_entered_once_at_a_time(shop: Shop, connection: sqlite3.Connection) -> None:
    """And may be entered again."""
    block = shop.app.event.transaction(connection)
    with block, pytest.raises(UsageError, match="entered already"):
        block.__enter__()
    with connection, block:
        shop.app.event.emit("order.placed", 1)
    assert [1] == shop.handled()


# What an event carries


def test_every_option_is_kept(sqlite_url: str, connection: sqlite3.Connection) -> None:
    """Id, metadata, attempts, dedupe; and `now=True` does not wait for the commit."""
    with opened(Shop(sqlite_url)) as shop:
        event = shop.app.event
        failed: list[int] = []

        @event.on("parcel.sent", id="fails")
        def fails(it: Event[int]) -> None:
            failed.append(it.attempt)
            raise RuntimeError("no")

        with connection, event.transaction(connection):
            assert "mine" == event.emit("order.placed", 1, id="mine", metadata={"who": "ada"})
            event.emit("order.placed", 2, dedupe="d", dedupe_ttl=60)
            event.emit("order.placed", 3, dedupe="d", dedupe_ttl=60)
            event.emit("parcel.sent", 0, attempts=2, backoff=0)
            event.emit("order.now", 4, now=True)
            until(lambda: shop.data == [4])
        assert [1, 2, 4] == sorted(shop.handled())
        [first] = [it for it in shop.got if it.data == 1]
        assert ("mine", {"who": "ada"}) == (first.id, first.metadata)
        assert [1, 2] == failed
        with connection, event.transaction(connection):
            event.emit("order.placed", 5, id="mine")
        assert [1, 2, 4] == sorted(shop.handled())


def test_a_delay_counts_from_the_emit(sqlite_url: str, tmp_path: Path) -> None:
    """What of it is over when the relay comes to it is not waited for again."""
    clock = ManualClock()
    shop = Shop(sqlite_url)
    with shop.app.override({}, clock=clock) as app:
        with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
            with app.event.transaction(connection):
                app.event.emit("order.placed", 1, delay=100)
            clock.advance(70)
            connection.commit()
        until(lambda: app.event.outbox.status().waiting == 0)
        until(lambda: [lane.delayed for lane in app.event.lanes()] == [1])
        assert 30 == pytest.approx(next(lane.next_due for lane in app.event.lanes()))
        clock.advance(30)
        until(lambda: shop.data == [1])


def test_a_workflow_starts_with_the_commit(shop: Shop, connection: sqlite3.Connection, colour: Colour) -> None:
    """Not before, and never after a rollback. With `now=True` it does not wait."""
    engine = shop.app.workflow

    async def start() -> Any:
        voiced = colour.voice(shop.app.workflow)
        async with colour.voice(shop.app.event).transaction(connection):
            await voiced.start(double, 4, id="now", now=True)
            return await voiced.start(double, 3, id="later")

    with connection:
        assert "later" == colour.run(start()).id
        assert 8 == engine.get("now").result(DEADLINE)
        with pytest.raises(NotFoundError):
            engine.get("later")
    shop.handled()
    assert 6 == engine.get("later").result(DEADLINE)
    with contextlib.suppress(ZeroDivisionError), connection, shop.app.event.transaction(connection):
        engine.start(double, 3, id="never")
        raise ZeroDivisionError
    shop.handled()
    with pytest.raises(NotFoundError):
        engine.get("never")


def test_an_inner_transaction_is_its_own(shop: Shop, connection: sqlite3.Connection, tmp_path: Path) -> None:
    """What is around it comes back when it ends."""
    event = shop.app.event
    with connection, event.transaction(connection):
        event.emit("order.placed", 1)
        connection.commit()
        with closing(sqlite3.connect(tmp_path / "shop.db")) as other, event.transaction(other):
            event.emit("order.placed", 2)
            other.rollback()
        event.emit("order.placed", 3)
    assert [1, 3] == sorted(shop.handled())


# The relay


def test_what_cannot_be_handed_over_is_set_aside(
    sqlite_url: str, connection: sqlite3.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """After its attempts. It holds up its key until then, and nobody else; `retry` has it tried again."""
    settings = {"outbox": {"attempts": 2, "backoff": 0.01, "poll": 0.02}, "unrouted": "error"}
    with opened(Shop(sqlite_url, **settings)) as shop:
        event = shop.app.event
        with connection, event.transaction(connection):
            event.emit("nobody.listens", 0, id="poison", key="k")
            event.emit("order.placed", 1, key="k")
            event.emit("order.placed", 2)
        until(lambda: event.outbox.status().aside == 1)
        until(lambda: sorted(shop.data) == [1, 2])
        [aside] = event.outbox.aside()
        assert ("poison", "nobody.listens", "k", 2) == (aside.id, aside.name, aside.key, aside.attempts)
        assert "NotFoundError: nobody subscribes to nobody.listens" == aside.error
        assert ["the outbox has rows that were set aside"] == [it.what for it in event.findings()]
        event.on("nobody.listens", id="now")(shop.book)
        assert 1 == event.outbox.retry("poison")
        assert [0, 1, 2] == sorted(shop.handled())
        assert [] == event.findings()
    assert ["could not be handed over", "is set aside after 2 attempts"] == [
        next(words for words in ("could not be handed over", "is set aside after 2 attempts") if words in text)
        for name, _, text in caplog.record_tuples
        if name == "pilotis.event.relay"
    ]


def test_what_cannot_be_handed_over_holds_up_its_key(sqlite_url: str, connection: sqlite3.Connection) -> None:
    """While it waits for its next attempt; what came before it in the same batch is handed over, and what is free."""
    with opened(Shop(sqlite_url, outbox={"backoff": 1_000})) as shop:
        event = shop.app.event
        with connection, event.transaction(connection):
            event.emit("order.placed", 1, key="k")
            event.emit("order.placed", 0, id="from the future", key="k")
            event.emit("order.placed", 2, key="k")
            event.emit("order.placed", 3)
            connection.execute("UPDATE pilotis_outbox SET body = '{\"v\":9}' WHERE id = 'from the future'")
        until(lambda: event.outbox.status().retrying == 1)
        assert [1, 3] == sorted(shop.handled())
        assert 2 == event.outbox.status().waiting


def test_an_app_that_only_emits_relays_nothing(sqlite_url: str, connection: sqlite3.Connection) -> None:
    """Its rows wait for those who work, and are told of once they have waited for long."""
    clock = ManualClock()
    shop = Shop(sqlite_url)
    with shop.app.override({}, clock=clock, role="emit") as app:
        with connection, app.event.transaction(connection):
            app.event.emit("order.placed", 1)
        assert app.event.drain(0)
        clock.advance(100)
        assert ["the outbox is not relayed"] == [it.what for it in app.event.findings()]
    with opened(shop):
        assert [1] == shop.handled()


def test_the_poll_finds_what_no_one_told_of(sqlite_url: str, connection: sqlite3.Connection) -> None:
    """Rows of a process that is not this one, on SQLite, where nobody hears of its commits."""
    clock = ManualClock()
    shop = Shop(sqlite_url)
    with (
        shop.app.override({}, clock=clock) as app,
        Pilotis(
            {"name": "shop", "role": "emit", "event": {"provider": "local", "outbox": sqlite_url}}, clock=clock
        ) as other,
    ):
        with connection, other.event.transaction(connection):
            other.event.emit("order.placed", 1)
        assert 1 == app.event.outbox.status().waiting
        until(lambda: clock.advance(3) or shop.data == [1])


def test_instances_of_a_bus_have_rows_of_their_own(sqlite_url: str, connection: sqlite3.Connection) -> None:
    """Although they share the table."""
    bus = {"provider": "local", "outbox": sqlite_url}
    got: list[tuple[str, int]] = []
    with Pilotis({"name": "shop", "event": {**bus, "instances": {"audit": bus}}}) as app:
        audit: Any = app.module("event", "audit")

        @app.event.on("seen")
        def seen(event: Event[int]) -> None:
            got.append(("default", event.data))

        @audit.on("seen")
        def audited(event: Event[int]) -> None:
            got.append(("audit", event.data))

        with connection, app.event.transaction(connection):
            app.event.emit("seen", 1)
            audit.emit("seen", 2)
        app.event.drain(DEADLINE)
        audit.drain(DEADLINE)
    assert [("audit", 2), ("default", 1)] == sorted(got)


def test_a_check_looks_at_the_outbox_too(postgres_url: str) -> None:
    """A table that is not there is told with the command that makes it."""
    app = Pilotis({"name": "shop", "event": {"provider": "local", "outbox": postgres_url}})
    [check] = app.check()
    assert not check.ok
    assert "make it: pilotis outbox migrate" in check.detail
    app.close()


def test_an_error_with_what_is_no_character_is_kept(sqlite_url: str, connection: sqlite3.Connection) -> None:
    """Such as a path may have: no database takes it, and the row would be tried for ever."""

    async def send(events: Sequence[OutgoingEvent]) -> None:
        raise ValueError("no such file: \udc80")

    async def start(instance: str, run: object) -> None:
        raise AssertionError("there is none")

    shop = Shop(sqlite_url, outbox={"attempts": 1})
    with shop.app.override({}, role="emit") as app:
        with connection, app.event.transaction(connection):
            app.event.emit("order.placed", 1)
        relay = Relay(app.event.outbox, send, start)
        relay.begin(("event",))
        until(lambda: app.event.outbox.status().aside == 1)
        drive(relay.stop(DEADLINE))
        assert ["ValueError: no such file: ?"] == [it.error for it in app.event.outbox.aside()]


def test_who_waits_for_the_relay_does_not_wait_when_it_stops(postgres_url: str) -> None:
    """The database answers nothing, so nothing is handed over; whoever drains the bus is told when it is closed."""
    drained: list[bool] = []
    with psycopg.connect(postgres_url) as other:
        with opened(Shop(postgres_url, grace=0.1, outbox={"poll": 1_000})) as shop:
            shop.app.event.drain(DEADLINE)
            other.execute("LOCK TABLE pilotis_outbox IN ACCESS EXCLUSIVE MODE")
            waiting = threading.Thread(target=lambda: drained.append(shop.app.event.drain()), daemon=True)
            waiting.start()
            waiting_for(postgres_url, 1)
        waiting.join(DEADLINE)
    assert [False] == drained
