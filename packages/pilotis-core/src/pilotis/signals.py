"""Signals that end a worker."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Generator

from pilotis.bridge import Latch

ENDING = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def ended_by_signals(latch: Latch) -> Generator[None, None, None]:
    """Have SIGTERM and SIGINT set the latch, where signals can be heard at all: on the main thread.

    Python runs a handler only when the main thread comes round to it, and a signal that arrives just before that
    thread waits for a lock is not seen until the wait ends. The wake-up descriptor is written at once, so a listener
    reads that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    handlers = {number: signal.signal(number, _heard) for number in ENDING}
    other = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(reader, latch, other), daemon=True, name="pilotis-signals").start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(other)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        writer.close()


def _heard(*_: object) -> None:
    """Take the place of the default, which would end the process at once."""


def _listen(reader: socket.socket, latch: Latch, other: int) -> None:
    """Read the numbers of signals until the writer is closed, and pass them on to whoever listened before."""
    with reader:
        while numbers := reader.recv(64):
            if not set(numbers).isdisjoint(ENDING):
                latch.set()
            if other != -1:
                with contextlib.suppress(OSError):
                    os.write(other, numbers)
