"""Ctrl-C, for tests."""

from __future__ import annotations

import contextlib
import gc
import signal
import threading
from collections.abc import Generator

import pytest

AGAIN = 0.02
LOST = 10.0
"""Seconds after which an interrupt that did not end the block was lost: Python drops what is raised in a finaliser."""


@contextlib.contextmanager
def interrupted(after: float = 0.05, again: float = AGAIN) -> Generator[None, None, None]:
    """Interrupt the block once, as Ctrl-C does, `after` seconds from now; fail if it ends before. Main thread only.

    A signal that arrives just before a thread begins to wait is noticed only when the wait is over, so it is sent
    every `again` seconds until the interrupt has been raised, and once more where it was lost. A wait in C code
    that begins anew at every signal needs more than a tenth of a second.
    """
    begun, raised, over = threading.Event(), threading.Event(), threading.Event()
    thread = threading.get_ident()

    def interrupt(*_: object) -> None:
        if not raised.is_set() and not over.is_set():
            raised.set()
            raise KeyboardInterrupt

    def send() -> None:
        pause = after
        begun.wait()
        while not over.wait(pause):
            if raised.is_set():
                if over.wait(LOST):
                    return
                raised.clear()
            signal.pthread_kill(thread, signal.SIGUSR1)
            pause = again

    before = signal.signal(signal.SIGUSR1, interrupt)
    sender = threading.Thread(target=send, daemon=True)
    gc.collect()  # what is raised in a finaliser of somebody's garbage is lost
    gc.disable()
    sender.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            begun.set()  # an interrupt before this line would be nobody's
            yield
            over.set()
    finally:
        over.set()
        gc.enable()
        sender.join()
        signal.signal(signal.SIGUSR1, before)
