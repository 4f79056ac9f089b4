"""Signals end a worker, whatever the main thread is about to do."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time

import pytest
from pilotis.bridge import Latch, drive, run_blocking
from pilotis.signals import ended_by_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_never_missed(number: int) -> None:
    """Sent around the moment at which the main thread begins to wait: 200 times, and the handlers are as before."""
    before = signal.getsignal(number)
    for attempt in range(200):
        latch = Latch()
        with ended_by_signals(latch):
            killer = threading.Thread(target=kill_after, args=(number, attempt % 20 * 20e-6))
            killer.start()
            assert drive(latch.wait(5)), "the signal was missed"
        killer.join()
    assert before == signal.getsignal(number)
    assert -1 == signal.set_wakeup_fd(-1)


def kill_after(number: int, seconds: float) -> None:
    time.sleep(seconds)
    os.kill(os.getpid(), number)


async def test_it_works_under_a_loop_that_listens_too() -> None:
    """The loop's own handlers go on hearing their signals."""
    latch, heard = Latch(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, heard.set)
    try:
        with ended_by_signals(latch):
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.wait_for(heard.wait(), 5)
            assert not latch.is_set()
            os.kill(os.getpid(), signal.SIGTERM)
            assert await latch.wait(5)
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)


async def test_elsewhere_it_does_nothing() -> None:
    """Only the main thread may listen to signals."""

    def on_thread() -> None:
        with ended_by_signals(Latch()):
            pass

    before = signal.getsignal(signal.SIGTERM)
    await run_blocking(on_thread)
    assert before == signal.getsignal(signal.SIGTERM)


def test_nothing_is_left_open(no_leaks: None) -> None:
    """Neither the listener nor its sockets."""
    for _ in range(50):
        with ended_by_signals(Latch()):
            pass
    probe = socket.socket()
    assert probe.fileno() < 100
    probe.close()
