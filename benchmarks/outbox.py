"""Events in the caller's transaction: python benchmarks/outbox.py

For each database: how many rows of a backlog one relay hands over in a second to events on Redis, without keys, with a
hundred and with one; and at 100 transactions a second, of one event each, the time from right before the commit until
the handler in another process has it. Everything is on the disk: PostgreSQL and SQLite sync each commit, Redis keeps an
append-only file that it syncs every second.
"""

from __future__ import annotations

import json
import math
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
from harness import QUICK, heading, in_turns, machine, size, started, table
from pilotis import Event, Message, Pilotis
from pilotis_testing.postgres import running_postgres, tell
from pilotis_testing.servers import RedisServer

ROUNDS = size(3, 1)
BACKLOG = size(50_000, 1_000)
AT_ONCE = 500
TRANSACTIONS = size(2_000, 100)
PER_SECOND = 100
KEYS: dict[str, Callable[[int], str | None]] = {
    "no key": lambda _: None,
    "100 keys": lambda number: f"{number % 100}",
    "one key": lambda _: "one",
}
ON_DISK = ("-c", "fsync=on", "-c", "full_page_writes=on")
AOF = ("--appendonly", "yes", "--appendfsync", "everysec")


def settings(database: str, bus: str, role: str) -> dict[str, Any]:
    return {"name": "bench", "role": role, "event": {"url": bus, "outbox": database}}


def connect(database: str) -> Any:
    if database.startswith("sqlite"):
        connection = sqlite3.connect(database.removeprefix("sqlite:///"))
        connection.execute("PRAGMA synchronous = FULL")
        return connection
    return psycopg.connect(database)


@contextmanager
def emitting(database: str, bus: str) -> Generator[Pilotis]:
    """An app that only emits, to a lane that is there."""
    app = Pilotis(settings(database, bus, "emit"))
    app.event.on("bench.event", id="bench")(_nothing)
    app.event.outbox.migrate()
    with app:
        app.event.declare_all()
        yield app


def _nothing(event: Event[Any]) -> None: ...


def relayed(database: str, bus: str, key: Callable[[int], str | None]) -> float:
    """Return how many rows a second are handed over."""
    with emitting(database, bus) as app, closing(connect(database)) as connection:
        for start in range(0, BACKLOG, AT_ONCE):
            with app.event.transaction(connection):
                numbers = range(start, start + AT_ONCE)
                app.event.emit_many([Message("bench.event", {"id": it}, key=key(it)) for it in numbers])
            connection.commit()
        begun = time.perf_counter()
        app.event.begin_relay()
        while app.event.outbox.status().waiting:
            time.sleep(0.01)
        return BACKLOG / (time.perf_counter() - begun)


def latencies(database: str, bus: str) -> list[float]:
    """Return the seconds from right before each commit until the handler has the event, sorted."""
    with TemporaryDirectory() as folder, emitting(database, bus) as app, closing(connect(database)) as connection:
        seen = Path(folder) / "seen"
        worker = subprocess.Popen([sys.executable, __file__, "work", database, bus, str(seen)])
        try:
            _transact(app, connection, -1)
            _await_lines(seen, 1)
            begun = time.perf_counter()
            for number in range(TRANSACTIONS):
                _transact(app, connection, number)
                time.sleep(max(0.0, begun + (number + 1) / PER_SECOND - time.perf_counter()))
            _await_lines(seen, TRANSACTIONS + 1)
        finally:
            worker.terminate()
            worker.wait()
        delays = [json.loads(line) for line in seen.read_text().splitlines()]
        return sorted(delay for number, delay in delays if number >= 0)


def _transact(app: Pilotis, connection: Any, number: int) -> None:
    with app.event.transaction(connection):
        connection.execute("INSERT INTO orders DEFAULT VALUES")
        app.event.emit("bench.event", {"number": number, "at": time.time()})
    connection.commit()


def _await_lines(file: Path, count: int) -> None:
    while not file.exists() or len(file.read_text().splitlines()) < count:
        time.sleep(0.05)


def work(database: str, bus: str, seen: str) -> None:
    """Be the worker: note how old each event is when it is handled."""
    app = Pilotis(settings(database, bus, "work"))
    with Path(seen).open("a", buffering=1) as notes:

        @app.event.on("bench.event", id="bench")
        def note(event: Event[dict[str, Any]]) -> None:
            notes.write(json.dumps([event.data["number"], time.time() - event.data["at"]]) + "\n")

        app.run_worker()


@contextmanager
def databases() -> Generator[dict[str, Callable[[], str]]]:
    """Return what makes an empty database of each kind."""
    with running_postgres(*ON_DISK) as server, TemporaryDirectory() as folder:
        made = iter(range(1_000))

        def postgres() -> str:
            name = f"bench{next(made)}"
            tell(server.url, f"CREATE DATABASE {name}")
            return server.url_of(name)

        yield {"PostgreSQL": postgres, "SQLite": lambda: f"sqlite:///{folder}/bench{next(made)}.db"}


def fresh(make: Callable[[], str]) -> str:
    url = make()
    with closing(connect(url)) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER)")
        connection.commit()
    return url


def main() -> None:
    heading("Outbox")
    rates: dict[tuple[str, str], list[float]] = {}
    delays: dict[str, list[float]] = {}
    with databases() as kinds:
        for name, keys in in_turns([(name, keys) for name in kinds for keys in KEYS], ROUNDS):
            with started(RedisServer, *AOF) as redis:
                rates.setdefault((name, keys), []).append(relayed(fresh(kinds[name]), redis.url, KEYS[keys]))
        for name in in_turns(["PostgreSQL"], ROUNDS):  # on SQLite another process finds rows by its poll alone
            with started(RedisServer, *AOF) as redis:
                delays.setdefault(name, []).extend(latencies(fresh(kinds[name]), redis.url))
    print(f"{machine()}; {ROUNDS} rounds{', quick' if QUICK else ''}\n")
    table(
        ["rows relayed a second", *KEYS],
        [[name, *(f"{statistics.median(rates[name, keys]):,.0f}" for keys in KEYS)] for name in kinds],
    )
    print()
    table(
        [f"from commit to handler, at {PER_SECOND} transactions a second", "p50", "p99"],
        [
            [name, *(f"{_share(sorted(found), it) * 1e3:.1f} ms" for it in (0.5, 0.99))]
            for name, found in delays.items()
        ],
    )


def _share(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, math.floor(len(ordered) * share))]


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        work(*sys.argv[2:])
    else:
        main()
