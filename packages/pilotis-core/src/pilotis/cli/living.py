"""Signs of life of a worker: to a health file, or to the parent process."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Generator
from pathlib import Path

from pilotis.app import Pilotis
from pilotis.bridge import Latch, drive, pause, run_blocking
from pilotis.errors import ConfigurationError
from pilotis.worker import consuming

BEAT = 5.0
"""Seconds between two signs of life."""

_OPENING = 0.05


@contextlib.contextmanager
def beating(app: Pilotis, *beats: Callable[[], object]) -> Generator[None, None, None]:
    """Call `beats` for as long as the app's background loop turns, beginning when the modules are open."""
    if not beats:
        yield
        return
    job = app.context.runtime.spawn(_beat_again_and_again(app, beats), "signs of life")
    try:
        yield
    finally:
        job.cancel()
        drive(job.ended.wait(BEAT))


async def _beat_again_and_again(app: Pilotis, beats: tuple[Callable[[], object], ...]) -> None:
    while not (app.context.opened and all(module.is_open for module in consuming(app))):
        await pause(_OPENING)
    while True:
        for beat in beats:
            await run_blocking(beat)
        await pause(BEAT)


@contextlib.contextmanager
def health_file(file: Path | None) -> Generator[list[Callable[[], object]], None, None]:
    """Lend what touches `file`, if there is one, and remove the file at the end, and what another worker left.

    Raises `ConfigurationError` if it could not be made.
    """
    if file is None:
        yield []
        return
    _remove(file)
    try:
        yield [file.touch]
    finally:
        _remove(file)


def _remove(file: Path) -> None:
    if not file.absolute().parent.is_dir():
        raise ConfigurationError(f"there is no directory {str(file.absolute().parent)!r}", path="--health-file")
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot write {str(file)!r}: {error.strerror}", path="--health-file") from error


class Lifeline:
    """The child's end of what ties it to its parent: signs of life one way, and the parent's end the other way."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._socket = socket.socket(fileno=descriptor)

    def beat(self) -> None:
        """Give a sign of life. A parent that is gone is noticed elsewhere."""
        with contextlib.suppress(OSError):
            self._socket.send(b".")

    def watch(self, gone: Latch) -> None:
        """Have `gone` set when the parent has ended."""
        threading.Thread(target=self._wait, args=(gone,), daemon=True, name="pilotis-lifeline").start()

    def _wait(self, gone: Latch) -> None:
        with contextlib.suppress(OSError):
            while self._socket.recv(64):
                pass
        gone.set()
