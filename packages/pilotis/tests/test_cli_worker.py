"""`pilotis worker`, as processes: how it ends, and how it is watched over."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from pilotis_testing.clock import until

pytestmark = pytest.mark.slow

PATIENCE = 30.0

TICKING = """
import os
from pathlib import Path
from pilotis import Event, Pilotis

VERSION = 1
app = Pilotis({"name": "shop", "event": "local", "workflow": "memory"})

@app.event.on("tick", id="ticker")
def tick(event: Event[int]) -> None:
    Path(f"tick.{VERSION}.{os.getpid()}").touch()

app.event.every(0.05, "tick", 1)
"""

SLOW = """
import time
from pathlib import Path
from pilotis import Event, Pilotis

app = Pilotis({"name": "shop", "event": {"provider": "local", "grace": 3600}, "workflow": "memory"})

@app.event.on("order.placed", id="pack")
def pack(event: Event[int]) -> None:
    Path("begun").touch()
    while not Path("gate").exists():
        time.sleep(0.01)
    Path("packed").touch()

app.event.emit("order.placed", 7)
"""

Start = Callable[..., "Running"]


class Running:
    """A worker, and its log."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.log = directory / "log"
        command = [sys.executable, "-m", "pilotis", "worker", *arguments]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=directory, stderr=log, process_group=0)

    def logs(self, text: str) -> bool:
        """Tell whether the log has some text."""
        return text in self.log.read_text()

    def pids(self, message: str) -> list[int]:
        """Return the processes that logged a message, in order."""
        return [int(pid) for pid in re.findall(rf'pid=(\d+) msg="{message}"', self.log.read_text())]

    def send(self, number: int) -> None:
        """Send a signal to the process that was started, and to no child of it."""
        self.process.send_signal(number)

    def ends(self) -> int:
        """Wait for its end, and return the exit code."""
        return self.process.wait(PATIENCE)

    def clean_up(self) -> None:
        """End what is left of it, children too."""
        self.process.kill()
        self.process.wait()
        for pid in re.findall(r"child=(\d+)", self.log.read_text()):
            until(lambda pid=int(pid): not _runs(pid), PATIENCE)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def start(elsewhere: Path) -> Iterator[Start]:
    """Return what starts a worker of an app that is written down for it."""
    running: list[Running] = []

    def begin(code: str, *arguments: str) -> Running:
        (elsewhere / "work.py").write_text(code)
        running.append(Running(elsewhere, "work:app", *arguments))
        return running[-1]

    yield begin
    for one in running:
        one.clean_up()


def ticked(directory: Path, version: int = 1) -> set[int]:
    """Return the processes whose handlers ran."""
    return {int(file.name.rpartition(".")[2]) for file in directory.glob(f"tick.{version}.*")}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_handler_is_finished_before_the_end(start: Start, elsewhere: Path, number: int) -> None:
    """A signal in its midst is no reason to break off; the log tells the story with counts."""
    worker = start(SLOW, "--log-format", "json")
    until(lambda: (elsewhere / "begun").exists() and worker.logs("worker started"), PATIENCE)
    worker.send(number)
    until(lambda: worker.logs("worker stopping"), PATIENCE)
    assert worker.process.poll() is None
    (elsewhere / "gate").touch()
    assert worker.ends() == 0
    assert (elsewhere / "packed").exists()
    started, stopping, stopped = map(msgspec.json.decode, worker.log.read_text().splitlines())
    assert (started["msg"], started["app"], started["subscriptions"]) == ("worker started", "shop", 1)
    assert (stopping["msg"], stopping["at_hand"]) == ("worker stopping", 1)
    assert (stopped["msg"], stopped["done"], stopped["dead"]) == ("worker stopped", 1, 0)
    assert stopped["level"] == "info"


def test_a_worker_waits_no_longer_than_it_was_told(start: Start, elsewhere: Path) -> None:
    """A handler that is not done by then is left behind."""
    worker = start(SLOW, "--grace", "0.1")
    until(lambda: (elsewhere / "begun").exists() and worker.logs("worker started"), PATIENCE)
    worker.send(signal.SIGTERM)
    assert worker.ends() == 0
    assert not (elsewhere / "packed").exists()
    assert worker.logs("events were left over")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(start: Start, elsewhere: Path, number: int) -> None:
    """Whatever still runs; the exit code is that of a process that the signal killed."""
    worker = start(SLOW)
    until(lambda: (elsewhere / "begun").exists() and worker.logs("worker started"), PATIENCE)
    worker.send(number)
    until(lambda: worker.logs("worker stopping"), PATIENCE)
    worker.send(number)
    assert worker.ends() == 128 + number
    assert worker.logs('msg="worker ended at once by a second signal"')


def test_a_child_that_dies_is_followed_by_another(start: Start, elsewhere: Path) -> None:
    """The others go on; the log says so; and all end with their parent."""
    worker = start(TICKING, "--processes", "2", "--health-file", "alive")
    until(lambda: len(ticked(elsewhere)) == 2, PATIENCE)
    until((elsewhere / "alive").exists, PATIENCE)
    os.kill(min(ticked(elsewhere)), signal.SIGKILL)
    until(lambda: len(ticked(elsewhere)) == 3, PATIENCE)
    assert worker.logs("process ended, another one follows")
    assert worker.logs("exit_code=-9")
    worker.send(signal.SIGTERM)
    assert worker.ends() == 0
    assert len(worker.pids("worker stopped")) == 2
    assert not (elsewhere / "alive").exists()


def test_a_second_signal_ends_the_children_too(start: Start, elsewhere: Path) -> None:
    """Nobody waits for their handlers."""
    worker = start(SLOW, "--processes", "2")
    until(lambda: len(worker.pids("worker started")) == 2, PATIENCE)
    until(lambda: (elsewhere / "begun").exists() and worker.logs("worker started"), PATIENCE)
    worker.send(signal.SIGTERM)
    until(lambda: len(worker.pids("worker stopping")) == 2, PATIENCE)
    worker.send(signal.SIGTERM)
    assert worker.ends() == 143
    until(lambda: not any(map(_runs, worker.pids("worker started"))), PATIENCE)


def test_children_finish_when_their_parent_is_killed(start: Start, elsewhere: Path) -> None:
    """Nobody would watch over them any more."""
    worker = start(TICKING, "--processes", "2")
    until(lambda: len(ticked(elsewhere)) == 2, PATIENCE)
    worker.process.kill()
    until(lambda: len(worker.pids("worker stopped")) == 2, PATIENCE)


def test_code_that_changes_is_loaded_afresh(start: Start, elsewhere: Path) -> None:
    """Also where it was broken in between."""
    worker = start(TICKING, "--reload")
    until(lambda: len(ticked(elsewhere)) == 1, PATIENCE)
    (elsewhere / "work.py").write_text("broken(")
    until(lambda: worker.logs("SyntaxError"), PATIENCE)
    (elsewhere / "work.py").write_text(TICKING.replace("VERSION = 1", "VERSION = 2"))
    until(lambda: len(ticked(elsewhere, 2)) == 1, PATIENCE)
    worker.send(signal.SIGINT)
    assert worker.ends() == 0


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("from pilotis import Pilotis\napp = Pilotis(role='emit')\n", 2),
        ("from pilotis import Pilotis\napp = Pilotis({'name': 'shop', 'cache': 'redis://127.0.0.1:1/0'})\n", 1),
    ],
)
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_worker_that_cannot_start_says_so_by_its_exit_code(
    start: Start, code: str, expected: int, processes: str
) -> None:
    """The same with one process and with several: nobody tries again and again."""
    worker = start(code, "--processes", processes)
    assert worker.ends() == expected
    assert worker.logs("pilotis: ")


def test_an_unknown_log_format_is_refused(start: Start) -> None:
    """With those that there are."""
    worker = start(TICKING, "--log-format", "xml")
    assert worker.ends() == 2
    assert worker.logs("--log-format: expected logfmt or json, got 'xml'")
