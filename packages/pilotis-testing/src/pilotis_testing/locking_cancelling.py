"""Conformance of locking: whoever is cancelled or interrupted, wherever that is, leaves no lock and no permit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from functools import partial
from typing import Any, ClassVar

import pytest
from pilotis.bridge import Latch, drive, pause, running_loop
from pilotis.providers import LockingCapability, LockingProvider

from pilotis_testing.clock import ManualClock
from pilotis_testing.interrupts import interrupted
from pilotis_testing.locking_base import LONG, PATIENCE, LockingTests, in_queue, is_free, lacks
from pilotis_testing.moments import WAITS_OF_THE_BRIDGE, Moments, struck_at

INSPECT, SEMAPHORE = LockingCapability.INSPECT, LockingCapability.SEMAPHORE

MOMENT = 1e-6
"""Seconds: long enough to be a wait."""
MOST_TURNS = 40
"""Of the loop on which a candidate lives, after which it is stopped at the latest."""

Work = Callable[[Any], Coroutine[Any, Any, object]]
Deed = Callable[[], Coroutine[Any, Any, object]]


# What is done with keys a and b, or permits of a, by a locking that is spoken to in either colour


async def take(locking: Any) -> None:
    """Acquire and release."""
    lease = await locking.acquire(["a", "b"], ttl=LONG, wait=PATIENCE)
    try:
        await pause(MOMENT)
    finally:
        await lease.release()


async def hold(locking: Any) -> None:
    """Go through a block."""
    async with locking.hold("a", "b", ttl=LONG, wait=PATIENCE):
        await pause(MOMENT)


async def execute(locking: Any) -> None:
    """Have an async job run. In blocking use it does so on another thread, and may be over before it is waited for."""
    await pause(MOMENT)
    await locking.execute(["a", "b"], partial(pause, MOMENT), ttl=LONG, wait=PATIENCE)


async def execute_plainly(locking: Any) -> None:
    """Have a plain job run."""
    await locking.execute(["a", "b"], lambda: drive(pause(MOMENT)), ttl=LONG, wait=PATIENCE)


async def take_permit(locking: Any) -> None:
    """Acquire a permit and release it."""
    lease = await locking.semaphore("a", permits=2).acquire(ttl=LONG, wait=PATIENCE)
    try:
        await pause(MOMENT)
    finally:
        await lease.release()


async def hold_permit(locking: Any) -> None:
    """Go through a block with a permit."""
    async with locking.semaphore("a", permits=2).hold(ttl=LONG, wait=PATIENCE):
        await pause(MOMENT)


LOCKS: tuple[Work, ...] = (take, hold, execute, execute_plainly)
PERMITS: tuple[Work, ...] = (take_permit, hold_permit)
WORKS = (*LOCKS, *PERMITS)


class Stand:
    """Somebody who stands for leader of a, and what was heard of it."""

    def __init__(self, locking: Any) -> None:
        self.told: list[str] = []
        self.leader = locking.lead("a", on_elected=self._begin, on_revoked=lambda: self.told.append("revoked"))

    def _begin(self, lease: object) -> None:
        self.told.append("elected")

    async def lead(self) -> None:
        """Lead for a moment, if it comes to that."""
        async with self.leader:
            await pause(MOMENT)

    async def is_over(self) -> bool:
        """Stop for good, and tell whether it was revoked if it was elected."""
        await self.leader.stop()
        return self.told in ([], ["elected", "revoked"])


async def turns(count: int) -> None:
    """Let the loop go on for some turns."""
    for _ in range(count):
        await asyncio.sleep(0)


def interrupt() -> None:
    """Be interrupted, as a plain job is by Ctrl-C."""
    raise KeyboardInterrupt


async def strike(is_time: Deed, work: Deed) -> None:
    """Begin some work, and cancel it under a loop when it is time; interrupt this thread in blocking use."""
    if running_loop() is None:
        with interrupted():
            await work()
        return
    task = asyncio.ensure_future(work())
    await is_time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def strike_waiter(clock: ManualClock, work: Deed) -> None:
    """Begin some work that waits, and strike it when it does."""
    await strike(lambda: in_queue(clock, 1), work)


class CancellingTests(LockingTests):
    """Cancelled under a loop, interrupted as by Ctrl-C in blocking use."""

    waits: ClassVar[Collection[str]] = WAITS_OF_THE_BRIDGE
    """The names of functions in which a blocking call may stand for long: those of the backend's client, too."""

    @pytest.mark.parametrize("work", LOCKS, ids=lambda work: work.__name__)
    async def test_no_lock_is_left_at_any_wait(self, locking: Any, work: Work) -> None:
        """Whoever takes locks, holds them and lets go leaves none, wherever it is struck."""
        await self._strike(locking, work)

    @pytest.mark.parametrize("work", PERMITS, ids=lambda work: work.__name__)
    async def test_no_permit_is_left_at_any_wait(self, locking: Any, provider: LockingProvider, work: Work) -> None:
        """Whoever takes a permit, holds it and gives it back leaves none, wherever it is struck."""
        if not lacks(provider, SEMAPHORE):
            await self._strike(locking, work)

    async def test_no_office_is_left_at_any_wait(self, locking: Any) -> None:
        """Whoever is struck while it stops to lead leaves the office in order all the same."""
        moments = Moments()
        for moment in moments:
            stand = Stand(locking)
            moments.note(await struck_at(moment, stand.lead(), self.waits))
            assert await stand.is_over(), f"struck at wait {moment}: {stand.told}"
            assert await is_free(locking, "a")

    async def test_a_candidate_who_stops_at_any_moment_leaves_nothing(self, locking: Any) -> None:
        """Before it queues, while it is elected and when it leads."""
        for number in range(MOST_TURNS):
            stand = Stand(locking)
            await locking.context.runtime.run(turns(number))
            assert await stand.is_over(), f"stopped after {number} turns: {stand.told}"
            assert await is_free(locking, "a")

    async def test_a_cancelled_wait_for_a_permit_leaves_none(
        self, locking: Any, provider: LockingProvider, clock: ManualClock
    ) -> None:
        """Its place in the queue is gone, and the permit that comes back is had by whoever is next."""
        if lacks(provider, SEMAPHORE):
            return
        semaphore = locking.semaphore("a", permits=1)
        lease = await semaphore.acquire(ttl=LONG)
        await strike_waiter(clock, lambda: semaphore.acquire(ttl=LONG, wait=PATIENCE))
        if not lacks(provider, INSPECT):
            assert (await locking.inspect("a")).waiters == 0
        assert await lease.release() is True
        await (await semaphore.acquire(ttl=LONG)).release()
        assert await is_free(locking, "a")

    async def test_a_cancelled_execute_does_not_run_its_job(self, locking: Any, clock: ManualClock) -> None:
        """Whoever is struck while it waits for the lock leaves no place in the queue, and no job."""
        ran: list[str] = []
        lease = await locking.acquire("b", ttl=LONG)
        await strike_waiter(clock, lambda: locking.execute(["a", "b"], lambda: ran.append("ran"), wait=PATIENCE))
        assert await lease.release() is True
        assert await is_free(locking, "a", "b")
        assert ran == []

    async def test_a_cancelled_job_lets_go(self, locking: Any) -> None:
        """Whoever is struck while its job runs leaves no lock."""
        inside = Latch()

        async def job() -> None:
            inside.set()
            await Latch().wait()

        if running_loop() is None:
            with pytest.raises(KeyboardInterrupt):
                await locking.execute("a", interrupt, ttl=LONG)
        else:
            await strike(inside.wait, lambda: locking.execute("a", job, ttl=LONG))
        assert await is_free(locking, "a")

    async def _strike(self, locking: Any, work: Work) -> None:
        moments = Moments()
        for moment in moments:
            moments.note(await struck_at(moment, work(locking), self.waits))
            assert await is_free(locking, "a", "b"), f"an orphan after it was struck at wait {moment}"
