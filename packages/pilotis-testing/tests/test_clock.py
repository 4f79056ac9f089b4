"""The controllable clock."""

from __future__ import annotations

import asyncio
import threading

import pytest
from pilotis.bridge import Latch, drive
from pilotis_testing import ManualClock
from pilotis_testing.clock import until


def test_it_stands_still_until_it_is_moved() -> None:
    """Both times move together; a jump changes the wall time alone."""
    clock = ManualClock(start=1000)
    assert (1000, 0) == (clock.time(), clock.monotonic())
    clock.advance(2.5)
    assert (1002.5, 2.5) == (clock.time(), clock.monotonic())
    clock.jump(-100)
    assert (902.5, 2.5) == (clock.time(), clock.monotonic())


def test_who_waits_wakes_when_its_time_has_come() -> None:
    """Threads and tasks, in the order of their times, each seeing the time it waited for."""
    clock = ManualClock()
    woken: list[tuple[str, bool]] = []

    def on_thread() -> None:
        drive(clock.pause(2))
        woken.append(("thread", clock.monotonic() >= 2))

    async def in_loop() -> None:
        await clock.pause(5)
        woken.append(("task", clock.monotonic() >= 5))

    threads = [threading.Thread(target=on_thread), threading.Thread(target=lambda: asyncio.run(in_loop()))]
    for thread in threads:
        thread.start()
    clock.wait_for_waiters(2)
    clock.advance(1)
    assert [] == woken
    clock.advance(1)
    until(lambda: [("thread", True)] == woken)
    clock.advance(3)
    for thread in threads:
        thread.join(5)
    assert [("thread", True), ("task", True)] == woken
    assert 0 == clock.waiting


def test_a_latch_ends_a_wait_before_its_time() -> None:
    """The wait tells whether the latch is set, and leaves no timer behind."""
    clock, latch = ManualClock(), Latch()
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(drive(clock.wait(latch, 10))))
    thread.start()
    clock.wait_for_waiters()
    latch.set()
    thread.join(5)
    assert ([True], 0) == (results, clock.waiting)
    assert drive(clock.wait(latch, 0))
    assert drive(clock.wait(latch, None))
    assert not drive(clock.wait(Latch(), 0))
    assert not drive(clock.wait(Latch(), -1))


def test_a_cancelled_wait_leaves_no_timer() -> None:
    """Cancelling is cleaning up."""
    clock = ManualClock()

    async def main() -> None:
        task = asyncio.ensure_future(clock.pause(10))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
    assert 0 == clock.waiting


def test_waiting_for_what_never_comes_fails_the_test() -> None:
    """`until` and `wait_for_waiters` do not hang."""
    with pytest.raises(AssertionError, match="did not come true"):
        until(lambda: False, 0.01)
