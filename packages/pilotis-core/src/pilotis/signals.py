"""Signals that end a worker."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Generator

from pilotis.bridge import Latch


@contextlib.contextmanager
def ended_by_signals(latch: Latch) -> Generator[None, None, None]:
    """Have SIGTERM and SIGINT set the latch, where signals can be heard at all: on the main thread."""

    def hear(*_: object) -> None:
        # On a thread of its own: the main thread may be inside the latch, holding its lock.
        threading.Thread(target=latch.set, daemon=True, name="pilotis-signal").start()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, hear) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
