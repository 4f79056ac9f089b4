"""Processes that work, and are killed, stopped and replaced while it is written down what each of them does."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

FULL = os.environ.get("PILOTIS_CAMPAIGN") == "full"
"""Whether there is a whole campaign to be fought, for which `nox -s campaign` is."""
PATIENCE = 60.0
"""Seconds after which what a test waits for has failed to come, however slow the machine is."""

ASK_SECONDS = 0.05

Process = subprocess.Popen[bytes]


def size(small: int, full: int) -> int:
    """Return how much to do: a campaign's number, or one that every run can afford."""
    return full if FULL else small


def eventually(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Block the test until `condition()` holds; fail after `seconds`. It is asked seldom: others need the machine."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not come true within {seconds:g} s"
        time.sleep(ASK_SECONDS)


class Note(msgspec.Struct, frozen=True, array_like=True):
    """What a process says that it did."""

    pid: int
    at: float
    """Seconds since 1970."""
    what: str
    subscription: str
    id: str
    attempt: int
    data: Any = None


class Journal:
    """A file to which many processes append. Each note is written whole, and their order is that of time."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        self._offset = 0
        self._notes: list[Note] = []

    def note(self, what: str, subscription: str, id: str, attempt: int, data: Any = None) -> None:
        """Append what this process does."""
        note = Note(os.getpid(), time.time(), what, subscription, id, attempt, data)
        os.write(self._file, msgspec.json.encode(note) + b"\n")

    def read(self) -> list[Note]:
        """Return all that was noted so far. Only what is new is read."""
        size = os.fstat(self._file).st_size
        text = os.pread(self._file, size - self._offset, self._offset)
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        self._notes += map(_NOTES.decode, whole.splitlines())
        return self._notes

    def of(self, subscription: str, *whats: str) -> list[Note]:
        """Return the notes of one subscription, all or only some kinds of them."""
        return [it for it in self.read() if it.subscription == subscription and (not whats or it.what in whats)]

    def close(self) -> None:
        """Close the file. The processes go on writing theirs."""
        os.close(self._file)


_NOTES = msgspec.json.Decoder(Note)


class Team:
    """Processes that run the same command. What they print goes to one file."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self._command = list(command)
        self._log = log
        self._environment = {**os.environ, **environment}
        self.members: list[Process] = []
        """Those that run, as far as is known."""
        self.lost: list[Process] = []
        """Those that have ended."""

    @property
    def printed(self) -> str:
        """What all of them printed so far."""
        return self._log.read_text() if self._log.exists() else ""

    def start(self, *arguments: str) -> Process:
        """Start one more, with further arguments."""
        with self._log.open("ab") as log:
            command = [*self._command, *arguments]
            member = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)
        self.members.append(member)
        return member

    def kill(self, member: Process) -> None:
        """End one as `kill -9` does, also where it is stopped."""
        member.kill()
        member.wait()
        self._lose(member)

    def pause(self, member: Process) -> None:
        """Stop one, as SIGSTOP does."""
        member.send_signal(signal.SIGSTOP)

    def resume(self, member: Process) -> None:
        """Have one go on."""
        member.send_signal(signal.SIGCONT)

    def count_out(self) -> int:
        """Take note of those that have ended by themselves, and return how many that are."""
        ended = [member for member in self.members if member.poll() is not None]
        for member in ended:
            self._lose(member)
        return len(ended)

    def dismiss(self) -> None:
        """Kill all."""
        for member in list(self.members):
            self.kill(member)

    def _lose(self, member: Process) -> None:
        self.members.remove(member)
        self.lost.append(member)


@contextlib.contextmanager
def team(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Generator[Team]:
    """Lend a team for the length of a block. What it printed is shown where a test fails."""
    lent = Team(command, log, environment)
    try:
        yield lent
    finally:
        lent.dismiss()
        print(lent.printed[-20_000:])  # noqa: T201 - pytest keeps it, and shows it where a test failed


def extra_runs(notes: Sequence[Note]) -> list[Note]:
    """Return the runs after which others came for the same event and subscription: those in vain."""
    last: dict[tuple[str, str], Note] = {}
    extra: list[Note] = []
    for note in notes:
        place = (note.subscription, note.id)
        if place in last:
            extra.append(last[place])
        last[place] = note
    return extra


def overlaps(notes: Sequence[Note], lane_of: Callable[[Note], object]) -> list[tuple[Note, Note]]:
    """Return each run that began before the one before it in its lane had ended, with that one.

    A run of the same event over again is none: whoever ran it before is dead.
    """
    under_way: dict[object, Note] = {}
    found: list[tuple[Note, Note]] = []
    for note in notes:
        lane = lane_of(note)
        if note.what != "began":
            under_way.pop(lane, None)
            continue
        before = under_way.get(lane)
        if before is not None and before.id != note.id:
            found.append((before, note))
        under_way[lane] = note
    return found


class AnswerCutter:
    """Stands before a server on this machine, passes on what both sides say, and can hang up instead of an answer."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._is_to_cut = threading.Event()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._listener.getsockname()[1]

    def cut_next(self) -> None:
        """Have the next answer be lost, whoever it is for: the server has done by then what it answers."""
        self._is_to_cut.set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        hang_up(self._listener, *(end for pair in self._pairs for end in pair))

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                self._pairs.append((client, server))
                for source, target, may_cut in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pass_on, args=(source, target, may_cut), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, may_cut: bool) -> None:
        with contextlib.suppress(OSError):  # one of them hung up
            while said := source.recv(65_536):
                if may_cut and self._is_to_cut.is_set():
                    self._is_to_cut.clear()
                    break
                target.sendall(said)
        hang_up(source, target)


def hang_up(*ends: socket.socket) -> None:
    """Close sockets, and end the waits of others for them."""
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
