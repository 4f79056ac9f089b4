"""How the candidates for events on Redis are run: each process by itself, in an environment of its own.

A candidate is a program beside `event_peers/tally.py`, which says what it understands. Peers in Python name what they
need in their first lines, and uv makes an environment of it: some of them contradict one another. The one on Node is
installed by npm into a temporary directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pilotis_testing.redis import empty

PROGRAMS = Path(__file__).parent / "event_peers"
LIMIT = 10.0
"""Seconds that a worker handles at most: the slow ones do not handle all of their backlog."""
START_LIMIT = 60.0
TAIL_CHARS = 2000

Process = subprocess.Popen[bytes]


class Candidate(NamedTuple):
    """A program to measure."""

    name: str
    command: list[str]
    backlog: int
    """How many events take it some seconds."""
    sends_many: bool = False
    repeats: bool = True
    """Whether it handles again what failed."""
    has_two_colours: bool = False


@dataclass(frozen=True)
class Seen:
    """What a worker saw, between the first event and the last."""

    count: int
    seconds: float
    delays: list[float]
    """From sending to the handler, each in seconds."""

    @property
    def rate(self) -> float:
        return self.count / self.seconds


class Bench(NamedTuple):
    """Where candidates run: on a Redis, with a directory for what they tell."""

    url: str
    directory: Path

    @property
    def _result(self) -> Path:
        return self.directory / "result.json"

    def clear(self) -> None:
        """Empty Redis, and forget what was seen."""
        empty(self.url)
        for left in self.directory.glob("result.*"):
            left.unlink()

    def send(self, candidate: Candidate, command: str, count: int) -> float:
        """Have it send events, and return how many a second it says it were."""
        with self._running(candidate, command, count) as process:
            if process.wait() != 0:
                raise RuntimeError(f"{candidate.name} cannot {command}: {self._words(command)}")
        return float((self._words(command).split() or ["0"])[-1])

    @contextmanager
    def working(self, candidate: Candidate, count: int, *, fails: bool = False) -> Generator[Process]:
        """Run a worker for the length of a block."""
        with self._running(candidate, "work", count, fails="yes" if fails else "no") as process:
            yield process

    def seen_by(self, worker: Process) -> Seen:
        """Wait until a worker has handled all, or its time is over."""
        deadline = time.monotonic() + START_LIMIT + LIMIT
        while not self._result.exists():
            if worker.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{worker.args} handles nothing: {self._words('work')}")
            time.sleep(0.05)
        return Seen(**json.loads(self._result.read_text()))

    @contextmanager
    def _running(self, candidate: Candidate, command: str, count: int, fails: str = "no") -> Generator[Process]:
        """Run a process with a group of its own: what it starts ends with it."""
        told = {"URL": self.url, "COUNT": count, "LIMIT": LIMIT, "RESULT": self._result, "FAILS": fails}
        variables = os.environ | {f"BENCH_{name}": str(value) for name, value in told.items()}
        with self._log(command).open("wb") as log:
            process = subprocess.Popen(
                [*candidate.command, command],
                cwd=PROGRAMS,
                env=variables,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _log(self, command: str) -> Path:
        return self.directory / f"{command}.log"

    def _words(self, command: str) -> str:
        return self._log(command).read_text(errors="replace")[-TAIL_CHARS:].strip()


# Who takes part


def ours_and_limit() -> list[Candidate]:
    """Return those that run in the environment of this process."""
    return [
        Candidate("pilotis", _here("on_pilotis.py"), 50_000, sends_many=True, has_two_colours=True),
        Candidate("bare", _here("on_bare.py"), 50_000, sends_many=True, repeats=False, has_two_colours=True),
    ]


def python_peers() -> list[Candidate]:
    return [
        Candidate("Celery", _isolated("on_celery.py"), 1_000),
        Candidate("dramatiq", _isolated("on_dramatiq.py"), 4_000),
        Candidate("RQ", _isolated("on_rq.py"), 400, sends_many=True),
        Candidate("huey", _isolated("on_huey.py"), 4_000),
        Candidate("arq", _isolated("on_arq.py"), 4_000),
        Candidate("taskiq", _isolated("on_taskiq.py"), 4_000),
        Candidate("streaQ", _isolated("on_streaq.py"), 1_000, sends_many=True),
        Candidate("FastStream", _isolated("on_faststream.py"), 4_000, sends_many=True, repeats=False),
        Candidate("FastStream list", _isolated("on_faststream_list.py"), 4_000, sends_many=True, repeats=False),
    ]


def node_peers(directory: Path) -> list[Candidate]:
    """Return those on Node, installed into a directory; none where there is no Node."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return []
    subprocess.run(
        ["npm", "install", "--silent", "--no-package-lock", "bullmq@>=6", "ioredis"], cwd=directory, check=True
    )
    program = str(shutil.copy(PROGRAMS / "on_bullmq.mjs", directory))
    return [Candidate("BullMQ", ["node", program], 20_000, sends_many=True)]


def versions(candidates: Iterable[Candidate], node_directory: Path) -> str:
    """Return what the peers are, as they were installed here."""
    found = [_python_version(candidate) for candidate in candidates if candidate.command[0] == "uv"]
    manifest = node_directory / "node_modules" / "bullmq" / "package.json"
    if manifest.exists():
        found.append(f"bullmq {json.loads(manifest.read_text())['version']}")
    return ", ".join(dict.fromkeys(found))


def _here(program: str) -> list[str]:
    return [sys.executable, program]


def _isolated(program: str) -> list[str]:
    return ["uv", "run", "--quiet", "--script", program]


def _python_version(candidate: Candidate) -> str:
    program = PROGRAMS / candidate.command[-1]
    [name] = re.findall(r'dependencies = \["([\w-]+)', program.read_text())
    tree = subprocess.run(
        ["uv", "tree", "--quiet", "--script", str(program), "--depth=1"], check=True, capture_output=True, text=True
    ).stdout
    [version] = re.findall(rf"^{name}(?:\[\w+\])? v(\S+)", tree, re.MULTILINE)
    return f"{name} {version}"
