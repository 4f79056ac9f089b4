"""Conformance of locking: waiting, fairness, cancellation, exclusion under load."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, ClassVar

import pytest
from pilotis.errors import LockNotAcquiredError
from pilotis.providers import LockingCapability, LockingProvider, pause

from pilotis_testing.chaos import size
from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import Colour, together
from pilotis_testing.interrupts import interrupted
from pilotis_testing.locking_base import LONG, PATIENCE, TTL, Action, LockingTests, bound, in_queue, is_free, lacks

EXPIRY, FAIR, SHARED = LockingCapability.EXPIRY, LockingCapability.FAIR, LockingCapability.SHARED
INSPECT, OWNERS = LockingCapability.INSPECT, LockingCapability.OWNERS

MOST_TURNS = 40
"""Of the event loop, after which a task that takes a lock and releases it is cancelled at the latest."""


class WaitingTests(LockingTests):
    """Who waits, for how long, and in which order."""

    races: ClassVar[int] = size(100, 1000)
    """How often a cancellation races a grant."""

    async def test_a_waiter_is_woken_by_a_release(self, locking: Any, clock: ManualClock) -> None:
        """Whoever waits gets the lock when it is released, with no time passing."""
        lease = await locking.acquire("a", ttl=LONG)

        async def let_go() -> None:
            await in_queue(clock, 1)
            await lease.release()

        async def wait() -> None:
            await (await locking.acquire("a", wait=PATIENCE)).release()

        await together(wait, let_go)
        assert await is_free(locking, "a")

    async def test_a_wait_ends_in_time(self, locking: Any, clock: ManualClock) -> None:
        """A wait that is over raises, and not before; no part of several keys stays locked or queued for."""
        await locking.acquire("b", ttl=LONG)
        refused: list[float] = []
        began = clock.monotonic()

        async def wait() -> None:
            with pytest.raises(LockNotAcquiredError):
                await locking.acquire(["a", "b", "c"], wait=TTL)
            refused.append(clock.monotonic() - began)

        async def pass_time() -> None:
            await in_queue(clock, 1)
            clock.advance(TTL / 2)
            assert refused == []
            clock.advance(TTL)

        await together(wait, pass_time)
        assert refused[0] >= TTL - 0.001
        assert [True, True] == [await is_free(locking, key) for key in "ac"]

    async def test_a_waiter_gets_what_ran_out(
        self, locking: Any, provider: LockingProvider, clock: ManualClock
    ) -> None:
        """A holder that never lets go keeps others waiting for its ttl, and no longer."""
        if lacks(provider, EXPIRY):
            return
        await locking.acquire("a", ttl=TTL)

        async def wait() -> None:
            await (await locking.acquire("a", wait=PATIENCE)).release()

        await together(wait, lambda: self._pass(clock, 1, TTL * 1.1))

    async def test_a_renewed_lease_keeps_waiters_waiting(
        self, locking: Any, provider: LockingProvider, clock: ManualClock
    ) -> None:
        """A waiter is not let in when the ttl that it found is over, if the lease was extended since."""
        if lacks(provider, EXPIRY):
            return
        lease = await locking.acquire("a", ttl=TTL)

        async def wait() -> None:
            with pytest.raises(LockNotAcquiredError):
                await locking.acquire("a", wait=2 * TTL)

        async def extend() -> None:
            await in_queue(clock, 1)
            await lease.extend(10 * TTL)
            clock.advance(TTL * 1.1)
            await in_queue(clock, 1)
            clock.advance(TTL * 1.1)

        await together(wait, extend)
        assert await lease.release() is True

    async def test_first_come_first_served(self, locking: Any, provider: LockingProvider, clock: ManualClock) -> None:
        """Waiters are served in the order in which they came."""
        if lacks(provider, FAIR):
            return
        lease = await locking.acquire("a", ttl=LONG)
        served: list[int] = []

        async def wait(number: int) -> None:
            await in_queue(clock, number)
            mine = await locking.acquire("a", wait=PATIENCE)
            served.append(number)
            await mine.release()

        async def let_go() -> None:
            await in_queue(clock, 6)
            await lease.release()

        await together(*(bound(wait, number) for number in range(6)), let_go)
        assert served == [0, 1, 2, 3, 4, 5]

    async def test_nobody_goes_before_a_waiter(
        self, locking: Any, provider: LockingProvider, clock: ManualClock
    ) -> None:
        """Who waits for several keys is not starved by those who come later for one of them."""
        if lacks(provider, FAIR):
            return
        first, second = await locking.acquire("a", ttl=LONG), await locking.acquire("b", ttl=LONG)
        served: list[str] = []

        async def wait(name: str, keys: list[str], after: int) -> None:
            await in_queue(clock, after)
            lease = await locking.acquire(keys, wait=PATIENCE)
            served.append(name)
            await lease.release()

        async def let_go() -> None:
            await in_queue(clock, 2)
            await first.release()
            await pause(0.01)
            await second.release()

        await together(bound(wait, "both", ["a", "b"], 0), bound(wait, "one", ["a"], 1), let_go)
        assert served == ["both", "one"]

    async def test_sharers_queue_behind_a_waiter(
        self, locking: Any, provider: LockingProvider, clock: ManualClock
    ) -> None:
        """Who wants a key alone is not starved by those who share it."""
        if lacks(provider, FAIR, SHARED):
            return
        sharer = await locking.acquire("a", shared=True, ttl=LONG)
        refused: list[str] = []

        async def alone() -> None:
            await (await locking.acquire("a", wait=PATIENCE)).release()

        async def share() -> None:
            await in_queue(clock, 1)
            try:
                await (await locking.acquire("a", shared=True)).release()
            except LockNotAcquiredError:
                refused.append("late sharer")
            await sharer.release()

        await together(alone, share)
        assert refused == ["late sharer"]
        assert await is_free(locking, "a")

    async def test_opposite_orders_do_not_deadlock(self, locking: Any) -> None:
        """Contenders that name the same keys in any order all come through."""
        orders = (["a", "b"], ["b", "a"], ["b", "c"], ["c", "a"], ["c", "b", "a"], ["a"])
        rounds: list[int] = []

        async def contend(keys: list[str]) -> None:
            for number in range(20):
                lease = await locking.acquire(keys, wait=PATIENCE, ttl=LONG)
                rounds.append(number)
                await lease.release()

        await together(*(bound(contend, keys) for keys in orders))
        assert len(rounds) == 20 * len(orders)
        assert await is_free(locking, "a", "b", "c")

    async def test_one_at_a_time(self, locking: Any) -> None:
        """Of many contenders for overlapping keys, never two are inside at once, and no step is lost."""
        inside: list[str] = []
        count = 0

        async def contend(number: int) -> None:
            nonlocal count
            for turn in range(15):
                async with locking.hold("counter", f"other:{(number + turn) % 3}", wait=PATIENCE):
                    inside.append("in")
                    before = count
                    await pause(0.0005)
                    count = before + 1
                    assert len(inside) == 1
                    inside.clear()

        await together(*(bound(contend, number) for number in range(8)))
        assert count == 8 * 15

    # Cancellation

    async def test_a_cancelled_waiter_leaves_nothing(
        self, locking: Any, provider: LockingProvider, clock: ManualClock
    ) -> None:
        """Its place in the queue is gone: the next one is served, and the keys it had in view are free."""
        lease = await locking.acquire("b", ttl=LONG)

        async def under_loop() -> None:
            waiter = asyncio.ensure_future(locking.acquire(["a", "b"], wait=PATIENCE))
            await in_queue(clock, 1)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter

        await self._interrupting(locking, under_loop)
        assert await is_free(locking, "a")
        if not lacks(provider, INSPECT):
            assert (await locking.inspect("b")).waiters == 0
        assert await lease.release() is True
        assert await is_free(locking, "a", "b")

    async def test_a_cancelled_wait_for_more_takes_nothing_away(
        self, locking: Any, provider: LockingProvider, clock: ManualClock
    ) -> None:
        """What the owner held before it waited for more is held still, and what it waited for is free."""
        if lacks(provider, OWNERS):
            return
        mine = await locking.acquire("a", owner="job-7", ttl=LONG)
        other = await locking.acquire("b", ttl=LONG)

        async def under_loop() -> None:
            waiter = asyncio.ensure_future(locking.acquire(["a", "b"], owner="job-7", wait=PATIENCE))
            await in_queue(clock, 1)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter

        await self._interrupting(locking, under_loop, owner="job-7")
        await other.release()
        assert [False, True] == [await is_free(locking, key) for key in "ab"]
        assert await mine.release() is True

    async def test_a_cancelled_acquire_leaves_no_lock(
        self, locking: Any, provider: LockingProvider, colour: Colour, clock: ManualClock
    ) -> None:
        """A cancellation that races the grant, many times, before it, after it and at once, leaves no orphan."""
        if colour is Colour.BLOCKING:
            return
        for number in range(self.races):
            lease = await locking.acquire("a")
            waiter = asyncio.ensure_future(locking.acquire("a", wait=PATIENCE))
            for _ in range(number % 3 + 1):
                await asyncio.sleep(0)
            await self._race(provider, lease, waiter, number // 3)
            assert await is_free(locking, "a"), f"an orphan after {number + 1} cancellations"
        assert clock.waiting == 0

    async def test_a_cancelled_block_leaves_no_lock(self, locking: Any, colour: Colour) -> None:
        """A task that is cancelled anywhere in taking, holding and releasing leaves nothing, however often."""
        if colour is Colour.BLOCKING:
            return

        async def hold() -> None:
            async with locking.hold("a", "b", wait=PATIENCE, ttl=LONG):
                await asyncio.sleep(0)

        async def take() -> None:
            await (await locking.acquire(["a", "b"], wait=PATIENCE, ttl=LONG)).release()

        for number in range(self.races):
            task = asyncio.ensure_future((hold, take)[number % 2]())
            for _ in range(number // 2 % MOST_TURNS):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert await is_free(locking, "a", "b"), f"an orphan after {number + 1} cancellations"

    async def _race(self, provider: LockingProvider, lease: Any, waiter: asyncio.Future[Any], number: int) -> None:
        """Cancel a waiter before the lock is released to it, in the same turn of the loop, or some turns later."""
        if number % 4 == 0:
            waiter.cancel()
        await provider.release(lease.grant)
        for _ in range(number % 4 - 1):
            await asyncio.sleep(0)
        waiter.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await waiter).release()

    async def _interrupting(self, locking: Any, under_loop: Action, owner: str | None = None) -> None:
        """Cancel a waiter under a loop; in blocking use, interrupt this thread while it waits for keys a and b."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            with interrupted():
                await locking.acquire(["a", "b"], owner=owner, wait=PATIENCE)
        else:
            await under_loop()

    async def _pass(self, clock: ManualClock, waiters: int, seconds: float) -> None:
        await in_queue(clock, waiters)
        clock.advance(seconds)
