"""`pilotis outbox` and `pilotis relay`, and who is woken by whom, with databases and a bus that are shared."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from pilotis import ConfigurationError, Event, Pilotis
from pilotis.bridge import Latch
from pilotis.cli.program import program
from pilotis_testing import Colour
from pilotis_testing.chaos import eventually
from pilotis_testing.clock import until
from typer.testing import CliRunner

NEVER = 1_000_000
"""Seconds: a poll that nobody waits for."""

Cli = Callable[..., Any]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Return what runs a command in this process, in an empty directory, and returns the document that it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, code: int = 0) -> Any:
        result = CliRunner().invoke(program, [*arguments, "--json"])
        assert code == result.exit_code, result.output
        return msgspec.json.decode(result.stdout) if not code else result.stderr

    return run


def configure(folder: Path, *lines: str) -> None:
    (folder / "pilotis.toml").write_text("\n".join(['name = "shop"', *lines]))


def test_the_outbox_is_looked_after_from_the_command_line(cli: Cli, tmp_path: Path) -> None:
    """Made, counted, listed, tried again and emptied."""
    configure(tmp_path, "[event]", 'unrouted = "error"', "[event.outbox]", 'url = "sqlite:///shop.db"', "attempts = 1")
    assert [f"made the table pilotis_outbox in {tmp_path}/shop.db"] == cli("outbox", "migrate")["made"]
    assert [] == cli("outbox", "migrate")["made"]
    with Pilotis.load() as app, closing(sqlite3.connect("shop.db")) as connection:
        with connection, app.event.transaction(connection):
            app.event.emit("nobody.listens", 1, id="poison")
            app.event.emit("nobody.listens", 2, id="other")
        until(lambda: app.event.outbox.status().aside == 2)
    assert {"waiting": 0, "oldest": None, "retrying": 0, "aside": 2} == cli("outbox", "status")
    listed = cli("outbox", "aside")
    assert ["poison", "other"] == [row["id"] for row in listed]
    assert ["poison"] == [row["id"] for row in cli("outbox", "aside", "--limit", "1")]
    assert {"retried": 1} == cli("outbox", "retry", "poison")
    assert (1, 1) == (cli("outbox", "status")["waiting"], cli("outbox", "status")["aside"])
    assert {"discarded": 1} == cli("outbox", "discard", "--all", "--yes")
    assert "say what" in cli("outbox", "discard", code=2)
    assert "say what" in cli("outbox", "retry", code=2)


def test_what_is_tried_again_from_the_command_line_is_handed_over_at_once(
    cli: Cli, tmp_path: Path, postgres_url: str
) -> None:
    """By the worker, which does not poll: it hears of it."""
    lines = ["[event]", 'provider = "local"', 'unrouted = "error"', "[event.outbox]", f'url = "{postgres_url}"']
    configure(tmp_path, *lines, "attempts = 1", f"poll = {NEVER}")
    cli("outbox", "migrate")
    got: list[int] = []
    with Pilotis.load() as worker:
        with psycopg.connect(postgres_url) as connection, worker.event.transaction(connection):
            worker.event.emit("nobody.listens", 1)
        until(lambda: worker.event.outbox.status().aside == 1)

        @worker.event.on("nobody.listens", id="now")
        def listen(event: Event[int]) -> None:
            got.append(event.data)

        assert {"retried": 1} == cli("outbox", "retry", "--all")
        until(lambda: got == [1])


def test_the_status_tells_since_when_nobody_relays(cli: Cli, tmp_path: Path) -> None:
    """Once the first row has waited for much longer than the poll: as something that is stuck."""
    configure(tmp_path, "[event]", 'provider = "local"', "[event.outbox]", 'url = "sqlite:///shop.db"')
    cli("outbox", "migrate")
    with Pilotis.load(role="emit") as app, closing(sqlite3.connect("shop.db")) as connection:
        with connection, app.event.transaction(connection):
            app.event.emit("order.placed", 1)
            connection.execute("UPDATE pilotis_outbox SET written_at = 1767225600")
        result = CliRunner().invoke(program, ["status", "--json"])
    [finding] = msgspec.json.decode(result.stdout)
    assert 2 == result.exit_code
    assert ("event", "stuck", "the outbox is not relayed") == (finding["module"], finding["severity"], finding["what"])
    assert "2026-01-01T00:00:00" == finding["since"][:19]


def test_without_an_outbox_its_commands_say_so(cli: Cli, tmp_path: Path) -> None:
    """With what to set."""
    configure(tmp_path)
    assert "set event.outbox" in cli("outbox", "status", code=1)
    assert "event.outbox: expected the URL" in CliRunner().invoke(program, ["relay"]).stderr


def test_a_separate_relay_does_not_feed_a_bus_that_nobody_hears(sqlite_app: Pilotis, colour: Colour) -> None:
    """Before anything is opened; nor does an app that would handle events itself."""
    relays = sqlite_app.copy(role="emit")
    with pytest.raises(ConfigurationError, match="event: provider 'local' keeps events in the process"):
        colour.run(colour.voice(relays).run_relay())
    with pytest.raises(ConfigurationError, match='role: a relay handles nothing: expected "emit", got "all"'):
        colour.run(colour.voice(sqlite_app).run_relay())


@pytest.fixture
def sqlite_app(tmp_path: Path) -> Pilotis:
    return Pilotis({"name": "shop", "event": {"provider": "local", "outbox": f"sqlite:///{tmp_path}/shop.db"}})


def shared(database: str, bus: str, role: str, **outbox: Any) -> Pilotis:
    """Return an app on a bus that is shared, with a handler that notes what it is given in `app.got`."""
    app: Any = Pilotis({"name": "shop", "role": role, "event": {"url": bus, "outbox": {"url": database, **outbox}}})
    app.got = []

    @app.event.on("order.placed", id="book")
    def book(event: Event[int]) -> None:
        app.got.append(event.data)

    return app


def emit(app: Pilotis, database: str, data: int) -> None:
    with psycopg.connect(database) as connection, app.event.transaction(connection):
        app.event.emit("order.placed", data)


def test_a_commit_wakes_the_relay_of_another_process(postgres_url: str, redis_url: str) -> None:
    """By a notice, for the poll is switched off in effect."""
    worker: Any = shared(postgres_url, redis_url, "work", poll=NEVER)
    worker.event.outbox.migrate()
    with worker, shared(postgres_url, redis_url, "emit", poll=NEVER) as app:
        for number in range(3):
            emit(app, postgres_url, number)
            until(lambda number=number: worker.got == [*range(number + 1)])


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_the_end_of_a_block_wakes_the_relay_of_its_own_process(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    """Where nothing is notified and nobody polls."""
    got: list[int] = []
    if kind == "sqlite":
        outbox: dict[str, Any] = {"url": f"sqlite:///{tmp_path}/shop.db"}
    else:
        outbox = {"url": request.getfixturevalue("postgres_url"), "notify": False}
    app = Pilotis({"name": "shop", "event": {"provider": "local", "outbox": {**outbox, "poll": NEVER}}})

    @app.event.on("order.placed")
    def book(event: Event[int]) -> None:
        got.append(event.data)

    app.event.outbox.migrate()
    with app:
        connect = sqlite3.connect if kind == "sqlite" else psycopg.connect
        place = outbox["url"].removeprefix("sqlite:///")
        with closing(connect(place)) as connection:
            for number in range(3):
                with app.event.transaction(connection):
                    app.event.emit("order.placed", number)
                connection.commit()
                until(lambda number=number: got == [*range(number + 1)])


def test_a_relay_of_its_own_hands_over_and_handles_nothing(postgres_url: str, redis_url: str, colour: Colour) -> None:
    """Until it is told to stop."""
    relay: Any = shared(postgres_url, redis_url, "emit")
    relay.event.outbox.migrate()
    stop, emitter = Latch(), shared(postgres_url, redis_url, "emit")
    worker: Any = shared(postgres_url, redis_url, "work")
    worker.event.outbox.migrate()
    job = worker.context.runtime.spawn(_run(relay, stop), "relay")
    with emitter:
        emit(emitter, postgres_url, 1)
        until(lambda: [lane.emitted for lane in emitter.event.lanes()] == [1])
    stop.set()
    colour.run(job.ended.wait())
    assert [] == relay.got
    with worker:
        until(lambda: worker.got == [1])


async def _run(app: Pilotis, stop: Latch) -> None:
    await app.arun_relay(stop=stop)


@pytest.mark.slow
def test_the_command_relays_until_it_is_told_to_stop(postgres_url: str, redis_url: str, tmp_path: Path) -> None:
    """It gives signs of life meanwhile, and ends gracefully at SIGTERM."""
    configure(
        tmp_path, "[event]", f'url = "{redis_url}"', "[event.outbox]", f'url = "{postgres_url}"', f"poll = {NEVER}"
    )
    app = shared(postgres_url, redis_url, "emit")
    app.event.outbox.migrate()
    command = [sys.executable, "-m", "pilotis", "relay", "--health-file", "alive"]
    with app, subprocess.Popen(command, cwd=tmp_path) as relay:
        eventually((tmp_path / "alive").exists)
        emit(app, postgres_url, 1)
        eventually(lambda: [lane.emitted for lane in app.event.lanes()] == [1])
        relay.send_signal(signal.SIGTERM)
        assert 0 == relay.wait(60)
    assert not (tmp_path / "alive").exists()
