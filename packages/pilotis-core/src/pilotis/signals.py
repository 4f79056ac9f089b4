"""Signals that end a worker."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Generator

from pilotis.bridge import Latch

logger = logging.getLogger("pilotis.worker")

ENDING = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def ended_by_signals(latch: Latch) -> Generator[None, None, None]:
    """Have SIGTERM and SIGINT set the latch, where signals can be heard at all: on the main thread.

    A second one ends the process at once, with 128 and its number as the exit code.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with heard(*ENDING) as reader:
        threading.Thread(target=_listen, args=(reader, latch), daemon=True, name="pilotis-signals").start()
        yield


@contextlib.contextmanager
def heard(*numbers: int) -> Generator[Hearing, None, None]:
    """Lend what tells of signals, in place of what they would do otherwise. On the main thread only.

    Python runs a handler only when the main thread comes round to it, and a signal that arrives just before that
    thread waits for a lock is not seen until the wait ends. The wake-up descriptor is written at once, so whoever
    listens reads that.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    handlers = {number: signal.signal(number, _take_place) for number in numbers}
    other = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield Hearing(reader, other)
    finally:
        signal.set_wakeup_fd(other)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        writer.close()


class Hearing:
    """Where signals are read. Whoever listened before is told as well."""

    def __init__(self, reader: socket.socket, other: int) -> None:
        self.reader = reader
        self._other = other

    def read(self) -> bytes:
        """Wait for signals, and return their numbers; none at the end."""
        numbers = self.reader.recv(64)
        if numbers and self._other != -1:
            with contextlib.suppress(OSError):
                os.write(self._other, numbers)
        return numbers


def _take_place(*_: object) -> None:
    """Take the place of the default, which would end the process at once."""


def _listen(hearing: Hearing, latch: Latch) -> None:
    """Read the numbers of signals until nobody sends any more."""
    told = False
    with hearing.reader:
        while numbers := hearing.read():
            for number in filter(ENDING.__contains__, numbers):
                if told:
                    end_at_once(number)
                told = True
                latch.set()


def end_at_once(number: int) -> None:
    """End the process without waiting for anybody, as an unhandled signal would."""
    logger.warning("worker ended at once by a second signal", extra={"signal": signal.Signals(number).name})
    os._exit(128 + number)
