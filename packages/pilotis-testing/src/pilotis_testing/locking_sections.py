"""A process that goes through critical sections until it is ended, and the counter that those guard.

    python -m pilotis_testing.locking_sections FOLDER COLOUR

The folder has `settings.json` for an app. What is read and written stands in `counter`, and what the processes saw of
it in `journal`.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import random
import struct
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from pilotis import Pilotis
from pilotis.errors import OperationError

from pilotis_testing.chaos import Journal, Note

KEY = "counter"
WAIT_SECONDS = 5.0
INSIDE_SECONDS = 0.002
"""How long a section may take between its reading and its writing."""
SOON = 0.05

Kind = Literal["start", "read", "write", "refused"]
_KINDS: tuple[Kind, ...] = ("start", "read", "write", "refused")
_RECORD = struct.Struct("<qqqq")


class Record(NamedTuple):
    """What happened to the counter: by whom, with which token, and which value it has since."""

    kind: Kind
    pid: int
    token: int
    value: int


class FencedCounter:
    """A counter in a file, shared by processes. It refuses whoever has a lower token than somebody it has seen.

    All that happens to it is appended, so the file tells it in the order in which it happened.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)

    def read(self, token: int) -> int | None:
        """Return the value, and refuse lower tokens from now on. None where this one is refused."""
        with self._locked() as last:
            return None if self._is_refused(token, last) else self._append("read", token, last.value)

    def write(self, token: int, value: int) -> bool:
        """Set the value, and tell whether the token allowed it."""
        with self._locked() as last:
            if self._is_refused(token, last):
                return False
            self._append("write", token, value)
            return True

    def last(self) -> Record:
        """Return what happened last, those who were refused left out."""
        return self._newest()

    def records(self) -> list[Record]:
        """Return all that happened."""
        raw = os.pread(self._file, os.fstat(self._file).st_size, 0)
        whole = raw[: len(raw) // _RECORD.size * _RECORD.size]
        return [Record(_KINDS[kind], *rest) for kind, *rest in _RECORD.iter_unpack(whole)]

    def is_at_hand(self) -> bool:
        """Tell whether nobody is just reading or writing: somebody who is stopped meanwhile keeps others out."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return True

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _is_refused(self, token: int, last: Record) -> bool:
        if token >= last.token:
            return False
        self._append("refused", token, last.value)
        return True

    def _append(self, kind: Kind, token: int, value: int) -> int:
        os.write(self._file, _RECORD.pack(_KINDS.index(kind), os.getpid(), token, value))
        return value

    @contextmanager
    def _locked(self) -> Generator[Record]:
        """Keep other processes out, and find out what happened last. The lock ends with the process."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield self._newest()
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _newest(self) -> Record:
        end = os.fstat(self._file).st_size
        while end:
            end -= _RECORD.size
            kind, *rest = _RECORD.unpack(os.pread(self._file, _RECORD.size, end))
            if _KINDS[kind] != "refused":
                return Record(_KINDS[kind], *rest)
        return _START


_START = Record("start", 0, 0, 0)


class Worker:
    """Goes through sections, and writes down each that it got into."""

    def __init__(self, folder: Path) -> None:
        self._app = Pilotis(json.loads((folder / "settings.json").read_text()))
        self._counter = FencedCounter(folder / "counter")
        self._journal = Journal(folder / "journal")
        self._sections = 0

    def run(self) -> None:
        """Go through one section after the other, until the process is ended."""
        while True:
            try:
                with self._app.locking.hold(KEY, wait=WAIT_SECONDS) as lease:
                    value = self._begin(lease.token)
                    time.sleep(_moment())
                    self._end(lease.token, value)
            except OperationError as error:
                self._note_error(error)
                time.sleep(SOON)

    async def arun(self) -> None:
        """Do the same under an event loop."""
        while True:
            try:
                async with self._app.locking.hold(KEY, wait=WAIT_SECONDS) as lease:
                    value = self._begin(lease.token)
                    await asyncio.sleep(_moment())
                    self._end(lease.token, value)
            except OperationError as error:
                self._note_error(error)
                await asyncio.sleep(SOON)

    def _begin(self, token: int) -> int | None:
        self._sections += 1
        began = time.monotonic()
        value = self._counter.read(token)
        self._note("began", token, value, began)
        return value

    def _end(self, token: int, value: int | None) -> None:
        is_written = value is not None and self._counter.write(token, value + 1)
        self._note("done" if is_written else "refused", token, value, time.monotonic())

    def _note(self, what: str, token: int, value: int | None, at: float) -> None:
        self._journal.note(what, KEY, f"{os.getpid()}-{self._sections}", token, [value, at])

    def _note_error(self, error: OperationError) -> None:
        self._journal.note(type(error).__name__, KEY, f"{os.getpid()}", 0, str(error))


def _moment() -> float:
    return random.random() * INSIDE_SECONDS


def note_fields(note: Note) -> tuple[int | None, float]:
    """Return the value and the time of what a worker noted."""
    value, at = note.data
    return value, at


if __name__ == "__main__":
    worker = Worker(Path(sys.argv[1]))
    if sys.argv[2] == "async":
        asyncio.run(worker.arun())
    else:
        worker.run()
