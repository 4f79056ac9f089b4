"""An app for processes that are ill-treated: its handlers write down what they do, and do what events say.

`CHAOS_FOLDER` names a folder with `settings.json`, where the journal is too. Run as a program it is a worker, in the
colour of its argument.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

import msgspec
from pilotis import Backoff, Event, Pilotis
from pilotis_testing.chaos import Journal

FOLDER = Path(os.environ["CHAOS_FOLDER"])
SOON = 0.01
UNSETTLED = 0.05
"""For how many seconds what is done is not settled, so that kills find some of it."""

app = Pilotis(json.loads((FOLDER / "settings.json").read_text()))
journal = Journal(FOLDER / "journal")


class Task(msgspec.Struct):
    """What a handler is to do."""

    key: str = ""
    number: int = 0
    fails: int = 0
    """How many attempts fail."""
    dies: bool = False
    """Whether the first run ends the process."""
    gate: str | None = None
    """A file that is waited for before the run goes on."""
    seconds: float = 0
    """How long it takes."""


def is_first(id: str) -> bool:
    """Tell whether nobody has asked this before, in whatever process."""
    try:
        os.close(os.open(FOLDER / f"first-{id}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def is_open(gate: str | None) -> bool:
    return gate is None or (FOLDER / gate).exists()


# Three subscriptions of one event


@app.event.on("load", id="steady")
async def steady(event: Event[int]) -> None:
    journal.note("done", "steady", event.id, event.attempt)
    await asyncio.sleep(UNSETTLED)


@app.event.on("load", id="shaky", attempts=50, backoff=Backoff.fixed(0.01))
def shaky(event: Event[int]) -> None:
    if (event.data + event.attempt) % 8 == 0:
        raise ConnectionError("the network is down")
    journal.note("done", "shaky", event.id, event.attempt)
    time.sleep(UNSETTLED)


@app.event.on("load", id="hopeless")
def hopeless(event: Event[int]) -> None:
    if event.data % 10 == 0:
        raise ValueError("never")
    journal.note("done", "hopeless", event.id, event.attempt)


# What takes long, dies, or must stay in order


@app.event.on("task", id="plain")
def plain(event: Event[Task]) -> None:
    journal.note("began", "plain", event.id, event.attempt)
    while not is_open(event.data.gate):
        time.sleep(SOON)
    time.sleep(event.data.seconds)
    journal.note("done", "plain", event.id, event.attempt)


@app.event.on("task", id="awaited")
async def awaited(event: Event[Task]) -> None:
    journal.note("began", "awaited", event.id, event.attempt)
    while not is_open(event.data.gate):
        await asyncio.sleep(SOON)
    await asyncio.sleep(event.data.seconds)
    journal.note("done", "awaited", event.id, event.attempt)


@app.event.on("wedge", id="wedge")
async def wedge(event: Event[Task]) -> None:
    """Block the event loop that it runs on, the first time."""
    journal.note("began", "wedge", event.id, event.attempt)
    if is_first(event.id):
        while not is_open(event.data.gate):
            time.sleep(SOON)
    journal.note("done", "wedge", event.id, event.attempt)


@app.event.on("poison", id="poison")
def poison(event: Event[None]) -> None:
    journal.note("began", "poison", event.id, event.attempt)
    os.abort()


@app.event.on("ordered", id="ordered", attempts=3, backoff=Backoff.fixed(0.05))
def ordered(event: Event[Task]) -> None:
    task = event.data
    journal.note("began", "ordered", event.id, event.attempt, [task.key, task.number])
    if task.dies and is_first(event.id):
        os.kill(os.getpid(), signal.SIGKILL)
    while not is_open(task.gate):
        time.sleep(SOON)
    failed = event.attempt <= task.fails
    journal.note("failed" if failed else "done", "ordered", event.id, event.attempt, [task.key, task.number])
    if failed:
        raise ValueError("not yet")


@app.event.on("timed", id="timed", concurrency=1)
def timed(event: Event[int]) -> None:
    journal.note("done", "timed", event.id, event.attempt)


# What processes do


def keep_time() -> None:
    """Work, and emit periodic events."""

    @app.event.on("tick", id="periodic")
    async def tick(event: Event[str]) -> None:
        journal.note("done", "periodic", event.id, event.attempt, event.data)

    app.event.every(1, "tick", "every")
    app.event.cron("* * * * * *", "tick", "cron")
    app.run_worker()


def stage() -> None:
    """Emit in two groups, release one, and wait to be killed with the other."""
    with app.copy(role="emit") as emitting:
        emitting.event.emit("task", {}, id="released-0", group="released")
        emitting.event.release_group("released")
        emitting.event.emit("task", {}, id="staged-0", group="of the dead")
        journal.note("staged", "group", "staged-0", 0)
        signal.pause()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    match sys.argv[1]:
        case "stage":
            stage()
        case "periodic":
            keep_time()
        case "async":
            asyncio.run(app.arun_worker())
        case _:
            app.run_worker()
