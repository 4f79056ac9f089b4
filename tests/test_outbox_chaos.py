"""Relays that are killed and cut off while transactions commit, and the books that have to balance."""

from __future__ import annotations

import random
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pilotis import Event, OperationError, Pilotis
from pilotis_testing.chaos import FULL, Team, eventually, size, team
from pilotis_testing.postgres import PostgresServer
from pilotis_testing.servers import RedisServer

pytestmark = [pytest.mark.campaign, pytest.mark.slow, pytest.mark.timeout(3600 if FULL else 180)]

LONG = 1_800.0 if FULL else 120.0
WRITERS = 4
KEYS = 7

RELAY = """
import os, signal, sys
from pilotis import Pilotis, register
from pilotis_store_postgres import PostgresOutbox
from pilotis_store_sqlite import SqliteOutbox

database, bus, deaths = sys.argv[1:]
kind = SqliteOutbox if database.startswith("sqlite") else PostgresOutbox

class DiesBeforeItDeletes(kind):
    batches = 0

    async def relay(self, bus, kinds, limit, hand_over):
        async def hand_over_and_die(rows):
            handed = await hand_over(rows)
            self.batches += 1
            if self.batches > 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return handed
        return await super().relay(bus, kinds, limit, hand_over_and_die)

register("outbox", "dies", DiesBeforeItDeletes)
outbox = {"url": database, "batch": 20, "poll": 0.05}
if database.startswith("sqlite"):
    outbox["lease"] = 1

def app(**options):
    return Pilotis({"name": "shop", "role": "emit", "event": {"url": bus, "timeout": 1, "outbox": outbox | options}})

app().event.outbox  # imports here what each child would else
for _ in range(int(deaths)):
    child = os.fork()
    if not child:
        app(provider="dies").run_relay()
    if os.WTERMSIG(os.waitpid(child, 0)[1]) != signal.SIGKILL:
        sys.exit("it ended otherwise")
print("all have died", flush=True)
app().run_relay()
"""


class Books:
    """What was committed, and what was handled."""

    def __init__(self) -> None:
        self.committed: list[str] = []
        self.handled: list[str] = []
        self.keyed: list[str] = []
        """What pairs of events were committed with a key."""
        self._lock = threading.Lock()

    def commit(self, *ids: str, keyed: str | None = None) -> None:
        with self._lock:
            self.committed += ids
            self.keyed += [] if keyed is None else [keyed]

    def handle(self, event: Event[str]) -> None:
        with self._lock:
            self.handled.append(event.data)

    def balance(self) -> bool:
        return len(self.handled) >= len(self.committed)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def books() -> Books:
    return Books()


def consumer(stack: ExitStack, books: Books, bus: str) -> Pilotis:
    """An app that handles events, and knows of no outbox."""
    app = Pilotis({"name": "shop", "event": bus})
    app.event.on("order.placed", id="books")(books.handle)
    return stack.enter_context(app)


def emitter(stack: ExitStack, database: str, bus: str) -> Pilotis:
    """An app that emits in transactions, and relays nothing."""
    app = Pilotis({"name": "shop", "role": "emit", "event": {"url": bus, "outbox": database}})
    app.event.outbox.migrate()
    return stack.enter_context(app)


def relays(stack: ExitStack, folder: Path, database: str, bus: str) -> Team:
    script = folder / "relay.py"
    script.write_text(RELAY)
    return stack.enter_context(team([sys.executable, str(script), database, bus], folder / "log", {}))


def connector(database: str) -> Callable[[], Any]:
    if database.startswith("sqlite"):
        return lambda: sqlite3.connect(database.removeprefix("sqlite:///"), timeout=60)
    return lambda: psycopg.connect(database)


class Writer(threading.Thread):
    """Makes transactions, and rolls back a fifth of them. Each key is written by all writers."""

    def __init__(self, number: int, app: Pilotis, books: Books, database: str, count: int) -> None:
        super().__init__(daemon=True)
        self._number = number
        self._app = app
        self._books = books
        self._connect = connector(database)
        self._count = count
        self.error: BaseException | None = None

    def run(self) -> None:
        dice = random.Random(self._number)
        try:
            with closing(self._connect()) as connection:
                for turn in range(self._count):
                    self._make(connection, f"{self._number}-{turn}", dice.randrange(KEYS + 2))
        except BaseException as error:
            self.error = error

    def _make(self, connection: Any, id: str, key: int) -> None:
        ids = [f"{id}-a", f"{id}-b"]
        with self._app.event.transaction(connection):
            for each in ids:
                self._app.event.emit("order.placed", each, key=f"{key}" if key < KEYS else None)
        if int(id.partition("-")[2]) % 5 == 4:
            connection.rollback()
        else:
            connection.commit()
            self._books.commit(*ids, keyed=id if key < KEYS else None)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of either kind."""
    return request.getfixturevalue("postgres_url") if request.param == "postgres" else f"sqlite:///{tmp_path}/shop.db"


def test_each_committed_event_is_handed_over_once(
    stack: ExitStack, books: Books, tmp_path: Path, redis_url: str, database: str
) -> None:
    """And none of the others, although relays are killed between the hand-over and the removal of their rows."""
    transactions, kills = size(400, 5_000), size(10, 20)
    consumer(stack, books, redis_url)
    app = emitter(stack, database, redis_url)
    crew = relays(stack, tmp_path, database, redis_url)
    writers = [Writer(number, app, books, database, transactions // WRITERS) for number in range(WRITERS)]
    crew.start(str(kills))
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(LONG)
        assert writer.error is None
    eventually(lambda: "all have died" in crew.printed, LONG)
    eventually(lambda: app.event.outbox.status().waiting == 0, LONG)
    eventually(books.balance, LONG)
    assert transactions * 2 * 4 // 5 == len(books.committed)
    assert sorted(books.committed) == sorted(books.handled)
    place = {id: number for number, id in enumerate(books.handled)}
    assert [] == [id for id in books.keyed if place[f"{id}-a"] > place[f"{id}-b"]]
    assert 0 == app.event.outbox.status().aside


def test_an_outage_of_the_bus_slows_the_relay_and_never_stops_it(
    stack: ExitStack, books: Books, tmp_path: Path, postgres_url: str, own_redis: RedisServer
) -> None:
    """What is committed meanwhile is handed over when it is back, and no attempt is counted."""
    bus = own_redis.url
    consumer(stack, books, bus)
    app = emitter(stack, postgres_url, bus)
    crew = relays(stack, tmp_path, postgres_url, bus)
    crew.start("0")
    write_one(app, books, postgres_url, "before")
    eventually(books.balance)
    own_redis.pause()
    write_one(app, books, postgres_url, "during")
    eventually(lambda: "the relay of the outbox waits for what it needs" in crew.printed)
    status = app.event.outbox.status()
    assert (1, 0, 0) == (status.waiting, status.retrying, status.aside)
    own_redis.resume()
    eventually(books.balance)
    assert ["before", "during"] == books.handled


def test_an_outage_of_the_database_slows_the_relay_and_never_stops_it(
    stack: ExitStack, books: Books, tmp_path: Path, redis_url: str, own_postgres: PostgresServer
) -> None:
    """It goes on when the database is back, and hears of commits again."""
    consumer(stack, books, redis_url)
    app = emitter(stack, own_postgres.url, redis_url)
    relays(stack, tmp_path, own_postgres.url, redis_url).start("0")
    write_one(app, books, own_postgres.url, "before")
    eventually(books.balance)
    own_postgres.kill()
    own_postgres.start()

    def is_back() -> bool:
        try:
            return app.event.outbox.status().waiting == 0
        except OperationError:
            return False

    eventually(is_back)
    write_one(app, books, own_postgres.url, "after")
    eventually(books.balance)
    assert ["before", "after"] == books.handled


def write_one(app: Pilotis, books: Books, database: str, id: str) -> None:
    with psycopg.connect(database) as connection, app.event.transaction(connection):
        app.event.emit("order.placed", id)
    books.commit(id)
