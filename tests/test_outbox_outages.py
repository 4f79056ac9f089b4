"""What a relay of an outbox lives through: its database or its bus is locked, gone, broken, silent or restarted."""

from __future__ import annotations

import contextlib
import logging
import resource
import sqlite3
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pilotis import (
    ConfigurationError,
    ConnectionFailedError,
    Event,
    OperationError,
    OperationTimeoutError,
    PermissionDeniedError,
    Pilotis,
    StorageFullError,
)
from pilotis.modules.event import EventBus
from pilotis_testing import ManualClock
from pilotis_testing.chaos import eventually, team
from pilotis_testing.postgres import PostgresServer, tell
from pilotis_testing.servers import RedisServer

WAITS = "the relay of the outbox waits for what it needs"
GOES_ON = "the relay of the outbox goes on"
POLL = 3.0
SHORT = 1.0
"""Seconds after which what is silent is given up: long enough for a machine that does much else."""

Trouble = Callable[[], contextlib.AbstractContextManager[object]]


class Shop:
    """A process whose relay polls by a clock that moves when told to, and another one that emits in transactions."""

    def __init__(self, stack: ExitStack, outbox: dict[str, Any], **event: Any) -> None:
        self.clock = ManualClock()
        self.got: list[Any] = []
        self.url = outbox["url"]
        self._settings = {"provider": "local", "outbox": {"poll": POLL, **outbox}, **event}
        worker = self._app("all")
        worker.event.on("order.placed", id="book")(self._book)
        worker.event.outbox.migrate()
        self.worker: EventBus = stack.enter_context(worker).event
        self.emitter: EventBus = stack.enter_context(self._app("emit")).event
        eventually(lambda: self.clock.ending_in(POLL) >= 1)

    def _app(self, role: str) -> Pilotis:
        return Pilotis({"name": "shop", "role": role, "event": self._settings}, clock=self.clock)

    def _book(self, event: Event[Any]) -> None:
        self.got.append(event.data)

    def connect(self) -> Any:
        if self.url.startswith("sqlite"):
            return sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=SHORT)
        return psycopg.connect(self.url)

    def emit(self, *numbers: int) -> None:
        """Commit events of one key, each in a transaction of its own."""
        with closing(self.connect()) as connection:
            for number in numbers:
                with self.emitter.transaction(connection):
                    self.emitter.emit("order.placed", number, key="k")
                connection.commit()

    def troubles(self) -> list[tuple[str, datetime | None]]:
        """Return what is wrong, and since when. The outbox is asked unless the relay is known to be in trouble."""
        try:
            return [(it.what, it.since) for it in self.worker.findings()]
        except OperationError:
            return [("the outbox cannot be asked", None)]

    def live_through(self, trouble: Trouble, log: pytest.LogCaptureFixture) -> None:
        """Emit, have trouble for several polls, and see that it is told of once, and that everything is handled."""
        self.emit(1, 2)
        with trouble():
            self.clock.advance(POLL)
            began = datetime.fromtimestamp(self.clock.time(), UTC)
            eventually(lambda: self.troubles() == [(WAITS, began)])
            self._try_again()
            assert [] == self.got
        eventually(lambda: self.clock.advance(1) or self.got == [1, 2])
        eventually(lambda: self.troubles() == [])
        self.emit(3)
        eventually(lambda: self.clock.advance(1) or self.got == [1, 2, 3])
        check_told_once_each(log)

    def _try_again(self) -> None:
        before = self.clock.waiting
        for _ in range(2):
            self.clock.advance(1)
            eventually(lambda: self.clock.waiting >= before)


def told(log: pytest.LogCaptureFixture) -> list[str]:
    """Return what the log tells of outages, without their causes."""
    return [it.getMessage().partition(":")[0] for it in log.records if it.name == "pilotis.event.relay"]


def check_told_once_each(log: pytest.LogCaptureFixture) -> None:
    """However many attempts were in vain, the log has a line when an outage begins and one when it is over."""
    lines = told(log)
    assert [WAITS, GOES_ON] * max(1, len(lines) // 2) == lines


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pilotis.event.relay")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


# SQLite


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "shop.db"


@pytest.fixture
def shop(stack: ExitStack, file: Path) -> Shop:
    return Shop(stack, {"url": f"sqlite:///{file}", "timeout": SHORT})


@contextlib.contextmanager
def locked(file: Path) -> Generator[None]:
    """Have another one change something for longer than anybody waits."""
    with closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.rollback()


@contextlib.contextmanager
def gone(file: Path) -> Generator[None]:
    """Have the file and those beside it somewhere else."""
    elsewhere = file.with_name("elsewhere")
    elsewhere.mkdir()
    files = list(file.parent.glob("shop.db*"))
    for each in files:
        each.rename(elsewhere / each.name)
    yield
    for each in files:
        (elsewhere / each.name).rename(each)


@contextlib.contextmanager
def broken(file: Path) -> Generator[None]:
    """Have something in its place that is no database."""
    with gone(file):
        file.write_bytes(b"no database, whatever its name says\n" * 200)
        yield


@contextlib.contextmanager
def emptied(file: Path) -> Generator[None]:
    """Have a new database in its place: whoever connects to none makes one."""
    with gone(file):
        sqlite3.connect(file).close()
        yield


@pytest.mark.parametrize("trouble", [locked, gone, broken, emptied], ids=lambda it: it.__name__)
def test_a_relay_lives_through_trouble_with_its_file(
    shop: Shop, file: Path, trouble: Callable[[Path], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It tells of it once, in the log and as a finding, and then hands over everything, once and in order."""
    shop.live_through(lambda: trouble(file), caplog)


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (locked, OperationTimeoutError),
        (broken, OperationError),
        (emptied, ConfigurationError),
    ],
    ids=lambda it: it.__name__,
)
def test_who_emits_is_told_of_trouble_with_the_file(
    shop: Shop, file: Path, trouble: Callable[[Path], Any], error: type[Exception]
) -> None:
    """By an error of ours; what was emitted is not there afterwards."""
    with trouble(file), pytest.raises(error) as raised:
        shop.emit(1)
    assert error is raised.type
    shop.emit(2)
    eventually(lambda: shop.clock.advance(POLL) or shop.got == [2])


@pytest.mark.parametrize(
    ("limit", "error"),
    [("PRAGMA max_page_count = 1", StorageFullError), ("PRAGMA query_only = 1", PermissionDeniedError)],
)
def test_a_connection_that_may_not_grow_or_write_is_told(shop: Shop, limit: str, error: type[Exception]) -> None:
    """By an error of ours, and the caller's transaction goes on."""
    with closing(shop.connect()) as connection:
        connection.execute(limit)
        connection.execute("BEGIN")
        with shop.emitter.transaction(connection), pytest.raises(error):
            shop.emitter.emit("order.placed", "x" * 100_000)
        connection.rollback()
    assert 0 == shop.emitter.outbox.status().waiting


RELAY = """
import sys
from pilotis import Pilotis

database, bus = sys.argv[1:]
Pilotis({"name": "shop", "role": "emit", "event": {"url": bus, "outbox": {"url": database, "poll": 0.05}}}).run_relay()
"""


@pytest.mark.slow
def test_a_relay_lives_through_a_full_disk(stack: ExitStack, tmp_path: Path, file: Path, redis_url: str) -> None:
    """It can write nothing, removes nothing, and hands over everything once when there is space again."""
    shop = Shop(stack, {"url": f"sqlite:///{file}"}, provider="redis", url=redis_url)
    script = tmp_path / "relay.py"
    script.write_text(RELAY)
    crew = stack.enter_context(
        team([sys.executable, str(script), f"sqlite:///{file}", redis_url], tmp_path / "log", {})
    )
    relay = crew.start()
    shop.emit(1)
    eventually(lambda: shop.got == [1])
    resource.prlimit(relay.pid, resource.RLIMIT_FSIZE, (8_192, resource.RLIM_INFINITY))
    shop.emit(2, 3)
    eventually(lambda: WAITS in crew.printed)
    assert 2 == shop.emitter.outbox.status().waiting
    resource.prlimit(relay.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    eventually(lambda: shop.emitter.outbox.status().waiting == 0)
    eventually(lambda: shop.got == [1, 2, 3])


# PostgreSQL


@pytest.fixture
def served(stack: ExitStack, own_postgres: PostgresServer) -> Shop:
    """A shop whose PostgreSQL can be ill-treated, and notifies nobody of commits."""
    return Shop(stack, {"url": own_postgres.url, "timeout": SHORT, "reconnects": 0, "notify": False})


@contextlib.contextmanager
def paused(server: PostgresServer) -> Generator[None]:
    server.pause()
    yield
    server.resume()


@contextlib.contextmanager
def down(server: PostgresServer) -> Generator[None]:
    server.kill()
    yield
    server.start()


@pytest.mark.parametrize("trouble", [pytest.param(paused, marks=pytest.mark.slow), down], ids=lambda it: it.__name__)
def test_a_relay_lives_through_trouble_with_its_server(
    served: Shop,
    own_postgres: PostgresServer,
    trouble: Callable[[PostgresServer], Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One that answers nothing, and one that is not there: as with a file."""
    served.live_through(lambda: trouble(own_postgres), caplog)


def test_a_transaction_that_the_server_forgot_sends_nothing(served: Shop, own_postgres: PostgresServer) -> None:
    """Whether it ends before or after the emit. Who emits is told, and may do it all again."""
    for is_before in (True, False):
        with closing(served.connect()) as connection, served.emitter.transaction(connection):
            connection.execute("SELECT 1")
            if not is_before:
                served.emitter.emit("order.placed", 1, key="k")
            own_postgres.kill()
            own_postgres.start()
            with pytest.raises(ConnectionFailedError) as raised:
                served.emitter.emit("order.placed", 2, key="k")
            assert raised.value.outcome is None
    served.emit(3)
    eventually(lambda: served.clock.advance(1) or served.got == [3])


@pytest.mark.slow
def test_a_transaction_outlasts_a_server_that_was_silent(served: Shop, own_postgres: PostgresServer) -> None:
    """It waits as its own connection does, and what it commits then is handed over once."""
    with closing(served.connect()) as connection:
        connection.execute("SELECT 1")
        own_postgres.pause()

        def emit() -> None:
            with served.emitter.transaction(connection):
                served.emitter.emit("order.placed", 1)
            connection.commit()

        emitting = threading.Thread(target=emit)
        emitting.start()
        served.clock.advance(POLL)
        eventually(lambda: [what for what, _ in served.troubles()] == [WAITS])
        own_postgres.resume()
        emitting.join(30)
    eventually(lambda: served.clock.advance(1) or served.got == [1])


_LISTENING = "FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid()"


def test_a_watch_that_is_cut_is_begun_anew(stack: ExitStack, postgres_url: str) -> None:
    """Nobody polls, and what was committed meanwhile is found, as is what comes after."""
    shop = Shop(stack, {"url": postgres_url})
    for number in range(3):
        eventually(lambda: tell(postgres_url, f"SELECT count(*) {_LISTENING}") == [(1,)])
        shop.emit(number)
        eventually(lambda number=number: shop.got == [*range(number + 1)])
        tell(postgres_url, f"SELECT pg_terminate_backend(pid) {_LISTENING}")


def test_a_notice_that_is_lost_is_made_up_for_by_the_poll(stack: ExitStack, postgres_url: str) -> None:
    """As behind a pooler, or where whoever commits notifies nobody."""
    shop = Shop(stack, {"url": postgres_url, "notify": False})
    shop.emit(1)
    assert 1 == shop.emitter.outbox.status().waiting
    eventually(lambda: shop.clock.advance(POLL) or shop.got == [1])


def test_each_outage_of_the_watch_is_told(
    stack: ExitStack, own_postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """When it begins and when it is over, also the second one, with how long it took."""
    shop = Shop(stack, {"url": own_postgres.url, "reconnects": 0})
    name = "the watch for commits of the outbox"
    for count in (1, 2):
        own_postgres.kill()
        eventually(lambda: name in str(shop.troubles()))
        own_postgres.start()
        eventually(lambda: shop.clock.advance(1) or shop.troubles() == [])
        records = [it for it in caplog.records if name in it.getMessage()]
        assert [logging.WARNING, logging.INFO] * count == [it.levelno for it in records]
        assert "shop" == records[-1].__dict__["bus"]
        assert records[-1].__dict__["seconds"] > 0
    shop.emit(1)
    eventually(lambda: shop.got == [1])


# The bus


@pytest.mark.slow
def test_rows_wait_for_a_bus_that_is_silent(
    stack: ExitStack, tmp_path: Path, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """They are claimed in vain, with no attempt counted, and go on in the order of their key."""
    bus = {"provider": "redis", "url": own_redis.url, "timeout": SHORT}
    shop = Shop(stack, {"url": f"sqlite:///{tmp_path}/shop.db"}, **bus)
    own_redis.pause()
    shop.emit(*range(5))
    shop.clock.advance(POLL)
    eventually(lambda: WAITS in told(caplog))
    status = shop.emitter.outbox.status()
    assert (5, 0, 0) == (status.waiting, status.retrying, status.aside)
    own_redis.resume()
    eventually(lambda: shop.clock.advance(1) or shop.got == [*range(5)])
    check_told_once_each(caplog)
