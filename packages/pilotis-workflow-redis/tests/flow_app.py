"""An app for processes that are ill-treated: its workflows write down what they do.

`CHAOS_FOLDER` names a folder with `settings.json`, where the journal is too. Run as a program it is a worker, in the
colour of its argument.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from pathlib import Path

from pilotis import Backoff, PermanentError, Pilotis, step, workflow
from pilotis_testing.chaos import Journal

FOLDER = Path(os.environ["CHAOS_FOLDER"])
SOON = 0.01

app = Pilotis(json.loads((FOLDER / "settings.json").read_text()))
journal = Journal(FOLDER / "journal")


def note(what: str, step: str) -> None:
    """Write down what happens in a step."""
    run, _, _ = workflow.step_id().rpartition("/")
    journal.note(what, step, run, 0)


# Five steps, of which the last fails for good in every tenth run


@step
def reserve(number: int) -> int:
    note("done", "reserve")
    return number


@reserve.compensate
def put_back(number: int, reserved: int) -> None:
    note("undone", "reserve")


@step(attempts=50, backoff=Backoff.fixed(0.01))
async def charge(number: int) -> int:
    await asyncio.sleep(SOON)
    if os.urandom(1)[0] < 32:
        raise ConnectionError("the network is down")
    note("done", "charge")
    return number + 1


@charge.compensate
async def refund(number: int, charged: int) -> None:
    note("undone", "charge")


@step
def pack(number: int) -> int:
    time.sleep(SOON)
    note("done", "pack")
    return number + 2


@pack.compensate
def unpack(number: int, packed: int) -> None:
    note("undone", "pack")


@step
def label(number: int) -> int:
    note("done", "label")
    return number + 3


@label.compensate
def tear_off(number: int, labelled: int) -> None:
    note("undone", "label")


@step
async def ship(number: int) -> int:
    if number % 10 == 0:
        raise PermanentError("no courier")
    note("done", "ship")
    return number + 4


@workflow("load")
def load(number: int) -> list[int]:
    return [
        reserve(number),
        charge.call(number),
        *workflow.parallel(pack.bind(number), label.bind(number)),
        ship.call(number),
    ]


# What waits, hangs and kills


@step
def hold(gate: str) -> int:
    """Wait for a file, and tell who did."""
    note("began", "hold")
    while not (FOLDER / gate).exists():
        time.sleep(SOON)
    note("done", "hold")
    return os.getpid()


@workflow("gated")
def gated(gate: str) -> int:
    return hold(gate)


@step
def kill() -> None:
    note("began", "kill")
    os.abort()


@workflow("poison")
def poison() -> None:
    kill()


@workflow("collect")
def collect(count: int) -> list[int]:
    return [workflow.wait_for("number", type=int) for _ in range(count)]


@workflow("nap")
def nap(seconds: float) -> str:
    workflow.sleep(seconds)
    return "rested"


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    match sys.argv[1]:
        case "async":
            asyncio.run(app.arun_worker())
        case _:
            app.run_worker()
