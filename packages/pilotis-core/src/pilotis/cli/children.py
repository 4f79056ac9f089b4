"""A process of a worker, as its parent sees it."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from pilotis.cli.living import BEAT

_PATIENCE = 3 * BEAT


class Child:
    """A process that was started with `python -m pilotis` and some arguments.

    It is a program of its own, never a fork: threads and connections do not live through a fork. It has a process group
    of its own, so that Ctrl+C in a terminal reaches the parent alone, which passes it on.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        mine, its = socket.socketpair()
        with its:
            command = [sys.executable, "-m", "pilotis", *arguments, "--lifeline", str(its.fileno())]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[its.fileno()], process_group=0
            )
        mine.setblocking(False)
        self._lifeline = mine
        self._beaten: float | None = None
        self.started = time.monotonic()
        self.told = False
        """Whether it was told to end."""

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    @property
    def worked(self) -> bool:
        """Whether it ever gave a sign of life: it does so once its modules are open."""
        self.listen()
        return self._beaten is not None

    def is_alive(self, now: float) -> bool:
        """Tell whether it gave a sign of life lately."""
        return self._beaten is not None and now - self._beaten < _PATIENCE

    def listen(self) -> None:
        """Take in its signs of life."""
        with contextlib.suppress(OSError):  # there are none, or it is closed
            if self._lifeline.recv(4096):
                self._beaten = time.monotonic()

    def code(self) -> int | None:
        """Return its exit code, below zero for the signal that killed it; None while it runs."""
        return self._process.poll()

    def end(self) -> None:
        """Tell it to finish. Doing so again does nothing: a second signal would end it at once."""
        if not self.told:
            self.told = True
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def close(self) -> None:
        """Let it go: if it still runs, it notices, and finishes."""
        self._lifeline.close()
