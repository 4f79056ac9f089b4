"""Conformance of locking: leases, their renewal, their loss."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pilotis.bridge import drive
from pilotis.errors import LockLostError, LockNotAcquiredError
from pilotis.providers import LockingCapability, LockingProvider

from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import Colour, soon
from pilotis_testing.locking_base import LONG, PATIENCE, TTL, LockingTests, in_queue, is_free, lacks

EXPIRY, OWNERS = LockingCapability.EXPIRY, LockingCapability.OWNERS


class LeaseTests(LockingTests):
    """How long a lease lasts, and what its holder learns when it is over."""

    async def test_a_lease_ends_after_its_ttl(
        self, locking: Any, provider: LockingProvider, clock: ManualClock
    ) -> None:
        """What is acquired is not renewed: it is held for the ttl, and then it is free for others."""
        if lacks(provider, EXPIRY):
            return
        lease = await locking.acquire("a", ttl=TTL)
        clock.advance(TTL * 0.8)
        assert not lease.lost
        assert not await is_free(locking, "a")
        clock.advance(TTL * 0.4)
        assert lease.lost
        assert await is_free(locking, "a")
        with pytest.raises(LockLostError, match="a"):
            lease.check()
        assert await lease.release() is False

    async def test_a_hold_is_renewed(self, locking: Any, provider: LockingProvider, clock: ManualClock) -> None:
        """A block may last many times the ttl, and excludes others until its end."""
        async with locking.hold("a", "b", ttl=TTL) as lease:
            for _ in range(12):
                await _renewal(clock, lease, TTL / 2.9)
                assert not await is_free(locking, "b")
            assert not lease.lost
        assert await is_free(locking, "a", "b")

    async def test_extend(self, locking: Any, provider: LockingProvider, clock: ManualClock) -> None:
        """An extended lease lasts the new ttl from now, and a short extension takes nothing away."""
        if lacks(provider, EXPIRY):
            return
        lease = await locking.acquire("a", ttl=TTL)
        await lease.extend(3 * TTL)
        await lease.extend(TTL / 2)
        clock.advance(2 * TTL)
        lease.check()
        assert not await is_free(locking, "a")
        clock.advance(2 * TTL)
        assert lease.lost
        assert await is_free(locking, "a")
        with pytest.raises(LockLostError):
            await lease.extend(TTL)
        assert await is_free(locking, "a")

    async def test_renewing_never_revives(self, locking: Any, provider: LockingProvider, clock: ManualClock) -> None:
        """A lease that ran out stays lost, whether or not somebody else has its keys now."""
        if lacks(provider, EXPIRY):
            return
        lapsed = await locking.acquire(["a", "b"], ttl=TTL)
        clock.advance(TTL * 1.5)
        assert await provider.renew([lapsed.grant]) == [False]
        assert await is_free(locking, "a", "b")
        await locking.acquire("a", ttl=TTL)
        assert await provider.renew([lapsed.grant]) == [False]
        clock.advance(TTL * 1.5)
        assert await is_free(locking, "a", "b")

    async def test_renewing_tells_of_each(self, locking: Any, provider: LockingProvider) -> None:
        """Many grants are renewed by one call, and its answers have the order of the grants."""
        leases = [await locking.acquire(f"key:{number}", ttl=LONG) for number in range(5)]
        await leases[1].release()
        await leases[4].release()
        await locking.acquire("key:4")
        grants = [lease.grant for lease in leases]
        assert await provider.renew(grants) == [True, False, True, True, False]
        assert await provider.renew([]) == []

    async def test_a_lease_is_lost_before_the_backend_lets_go(
        self, locking: Any, provider: LockingProvider, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A holder that cannot renew learns it while nobody else can have the lock, and leaving the block raises."""
        if lacks(provider, EXPIRY):
            return

        async def broken(grants: object) -> list[bool]:
            raise ConnectionResetError("the network is down")

        monkeypatch.setattr(provider, "renew", broken)
        with pytest.raises(LockLostError, match="a"):
            async with locking.hold("a", ttl=TTL) as lease:
                await in_queue(clock, 1)
                clock.advance(TTL * 0.9)
                assert not lease.lost
                await in_queue(clock, 1)
                clock.advance(TTL * 0.09)
                await soon(lease.lost.is_set)
                assert not await is_free(locking, "a")
        assert await is_free(locking, "a")

    async def test_leaving_a_block_tells_that_the_lock_was_taken_away(
        self, locking: Any, provider: LockingProvider
    ) -> None:
        """A block whose lock was released by its owner's name raises at its end, though its body succeeded."""
        if lacks(provider, OWNERS):
            return
        with pytest.raises(LockLostError):
            async with locking.hold("a", owner="job-7"):
                await locking.release_all("job-7")
        assert await is_free(locking, "a")

    async def test_an_error_of_the_block_is_not_hidden(self, locking: Any, provider: LockingProvider) -> None:
        """The body's own error goes on, with a note when the lock was lost as well, and the lock is free."""
        with pytest.raises(KeyError) as caught:
            async with locking.hold("a", "b") as lease:
                await provider.release(lease.grant)
                raise KeyError("mine")
        assert ["lost" in note for note in caught.value.__notes__] == [True]
        with pytest.raises(KeyError) as caught:
            async with locking.hold("a", "b"):
                raise KeyError("mine")
        assert not hasattr(caught.value, "__notes__")
        assert await is_free(locking, "a", "b")

    async def test_a_lock_released_early_is_no_loss(self, locking: Any) -> None:
        """A lease may be released inside its block; leaving then does nothing."""
        async with locking.hold("a") as lease:
            assert await lease.release() is True
            assert await is_free(locking, "a")
        assert not lease.lost

    async def test_execute(self, locking: Any) -> None:
        """The job runs while the lock is held, plain or async, and its result or error comes back."""

        def plain() -> bool:
            return drive(is_free(locking, "a"))

        async def asynchronous() -> str:
            return "asynchronous"

        async def failing() -> None:
            raise KeyError("mine")

        assert await locking.execute(["a", "b"], plain) is False
        assert await locking.execute("a", asynchronous) == "asynchronous"
        with pytest.raises(KeyError):
            await locking.execute("a", failing)
        assert await is_free(locking, "a", "b")

    async def test_execute_does_not_run_without_the_lock(self, locking: Any) -> None:
        """A job whose lock is not to be had in time does not run."""
        ran: list[str] = []
        await locking.acquire("a")
        with pytest.raises(LockNotAcquiredError):
            await locking.execute("a", lambda: ran.append("ran"), wait=0)
        assert ran == []

    async def test_execute_refuses_the_result_of_a_lost_lease(self, locking: Any, provider: LockingProvider) -> None:
        """A job that finished after its lock was taken away has no result."""
        if lacks(provider, OWNERS):
            return

        def job() -> int:
            return drive(locking.release_all("job-7"))

        with pytest.raises(LockLostError):
            await locking.execute("a", job, owner="job-7")
        assert await is_free(locking, "a")

    async def test_a_cancelled_block_lets_go(self, locking: Any, colour: Colour) -> None:
        """Cancelling a task inside its block frees the lock, even when it is cancelled again meanwhile."""
        if colour is Colour.BLOCKING:
            return
        inside = asyncio.Event()

        async def work() -> None:
            async with locking.hold("a", ttl=LONG):
                inside.set()
                await asyncio.sleep(PATIENCE)

        task = asyncio.ensure_future(work())
        await inside.wait()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await is_free(locking, "a")


async def _renewal(clock: ManualClock, lease: Any, seconds: float) -> None:
    """Let time pass, and wait until the lease was renewed."""
    await in_queue(clock, 1)
    deadline = lease.deadline
    clock.advance(seconds)
    await soon(lambda: lease.deadline > deadline)
