"""Conformance of locking: keys that several hold together, all of them or a bounded number."""

from __future__ import annotations

from typing import Any

import pytest
from pilotis.errors import LockNotAcquiredError, UnsupportedError
from pilotis.providers import LockingCapability, LockingProvider, pause

from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import together
from pilotis_testing.locking_base import LONG, PATIENCE, TTL, LockingTests, bound, in_queue, is_free, lacks

EXPIRY, FAIR, INSPECT = LockingCapability.EXPIRY, LockingCapability.FAIR, LockingCapability.INSPECT
FENCING, OWNERS = LockingCapability.FENCING, LockingCapability.OWNERS
SHARED, SEMAPHORE = LockingCapability.SHARED, LockingCapability.SEMAPHORE


class SharingTests(LockingTests):
    """Shared locks and semaphores."""

    async def test_sharers_exclude_the_others(self, locking: Any, provider: LockingProvider) -> None:
        """Who shares holds the key together, until the last of them has gone nobody has it alone."""
        if lacks(provider, SHARED):
            with pytest.raises(UnsupportedError, match="SHARED"):
                await locking.acquire("a", shared=True)
            return
        first, second = [await locking.acquire("a", shared=True) for _ in range(2)]
        await first.release()
        assert not await is_free(locking, "a")
        await second.release()
        alone = await locking.acquire("a")
        with pytest.raises(LockNotAcquiredError):
            await locking.acquire("a", shared=True)
        assert await alone.release() is True

    async def test_sharers_have_tokens_of_their_own(self, locking: Any, provider: LockingProvider) -> None:
        """A sharer's token is higher than all before it, and whoever has the key alone next has a higher one still."""
        if lacks(provider, SHARED, FENCING):
            return
        sharers = [await locking.acquire("a", shared=True) for _ in range(3)]
        tokens = [sharer.token for sharer in sharers]
        for sharer in sharers:
            await sharer.release()
        tokens.append((await locking.acquire("a")).token)
        assert tokens == sorted(set(tokens))

    async def test_a_waiter_is_let_in_after_the_last_sharer(
        self, locking: Any, provider: LockingProvider, clock: ManualClock
    ) -> None:
        """Whoever wants the key alone is woken by the last sharer, and sharers who wait come in together."""
        if lacks(provider, SHARED):
            return
        sharers = [await locking.acquire("a", shared=True, ttl=LONG) for _ in range(2)]
        inside: list[str] = []

        async def alone() -> None:
            lease = await locking.acquire("a", wait=PATIENCE)
            inside.append("alone")
            await lease.release()

        async def let_go() -> None:
            await in_queue(clock, 1)
            for sharer in sharers:
                assert inside == []
                await sharer.release()

        await together(alone, let_go)
        assert inside == ["alone"]

    async def test_inspect_tells_of_sharers(self, locking: Any, provider: LockingProvider) -> None:
        """How many hold the key together is told, with the one that came first."""
        if lacks(provider, SHARED, INSPECT):
            return
        first = await locking.acquire("a", shared=True, owner="first")
        await locking.acquire("a", shared=True, owner="second")
        state = await locking.inspect("a")
        assert state is not None
        assert ("first", first.token, 2, True) == (state.owner, state.token, state.holders, state.shared)

    # Semaphores

    async def test_a_semaphore_has_so_many_permits(self, locking: Any, provider: LockingProvider) -> None:
        """So many hold it together and the next one is refused, until one of them has gone."""
        if lacks(provider, SEMAPHORE):
            with pytest.raises(UnsupportedError, match="SEMAPHORE"):
                locking.semaphore("api", permits=3)
            with pytest.raises(UnsupportedError, match="SEMAPHORE"):
                await locking.acquire("api", permits=3)
            return
        semaphore = locking.semaphore("api", permits=3)
        leases = [await semaphore.acquire() for _ in range(3)]
        with pytest.raises(LockNotAcquiredError, match="api: no permit, all 3 are taken"):
            await semaphore.acquire()
        assert await leases[1].release() is True
        async with semaphore.hold(wait=0):
            with pytest.raises(LockNotAcquiredError):
                await semaphore.acquire()
        assert [True, False, True] == [await lease.release() for lease in leases]
        assert await is_free(locking, "api")

    async def test_one_permit_is_a_lock(self, locking: Any, provider: LockingProvider) -> None:
        """With one permit there is one holder, and another key is another semaphore."""
        if lacks(provider, SEMAPHORE):
            return
        await locking.semaphore("a", permits=1).acquire()
        with pytest.raises(LockNotAcquiredError):
            await locking.semaphore("a", permits=1).acquire()
        await locking.semaphore("b", permits=1).acquire()

    async def test_a_semaphore_excludes_who_wants_it_alone(self, locking: Any, provider: LockingProvider) -> None:
        """The key is not had alone while any permit is out, and there are no permits while it is held alone."""
        if lacks(provider, SEMAPHORE):
            return
        semaphore = locking.semaphore("api", permits=3)
        lease = await semaphore.acquire()
        assert not await is_free(locking, "api")
        await lease.release()
        await locking.acquire("api")
        with pytest.raises(LockNotAcquiredError):
            await semaphore.acquire()

    async def test_each_request_has_its_own_bound(self, locking: Any, provider: LockingProvider) -> None:
        """A request is granted while fewer than its own number hold the key, whatever numbers others named."""
        if lacks(provider, SEMAPHORE):
            return
        for _ in range(2):
            await locking.semaphore("api", permits=5).acquire()
        with pytest.raises(LockNotAcquiredError):
            await locking.semaphore("api", permits=2).acquire()
        await locking.semaphore("api", permits=3).acquire()

    async def test_an_owner_has_one_permit(self, locking: Any, provider: LockingProvider) -> None:
        """The same owner gets its permit again, even where all are taken, and one release gives it back."""
        if lacks(provider, SEMAPHORE, OWNERS):
            return
        semaphore = locking.semaphore("api", permits=2)
        first = await semaphore.acquire(owner="job-7")
        await semaphore.acquire(owner="job-8")
        again = await semaphore.acquire(owner="job-7")
        assert again.token == first.token
        assert await first.release() is True
        await semaphore.acquire(owner="job-9")

    async def test_an_owner_who_waits_for_more_has_one_permit(
        self, locking: Any, provider: LockingProvider, clock: ManualClock
    ) -> None:
        """What an owner has counts once, though it waits for it beside another key, too."""
        if lacks(provider, SEMAPHORE, OWNERS):
            return
        await locking.acquire("api", owner="job-7", permits=2, ttl=LONG)
        in_the_way = await locking.acquire("b", ttl=LONG)
        permits: list[Any] = []

        async def wait() -> None:
            await locking.acquire(["api", "b"], owner="job-7", permits=2, ttl=LONG, wait=PATIENCE)

        async def take_the_other() -> None:
            await in_queue(clock, 1)
            try:
                permits.append(await locking.acquire("api", owner="job-8", permits=2, ttl=LONG))
            finally:
                await in_the_way.release()

        await together(wait, take_the_other)
        assert [True] == [await permit.release() for permit in permits]
        assert await locking.release(["api", "b"], owner="job-7") is True

    async def test_a_permit_that_comes_back_wakes_one_waiter(
        self, locking: Any, provider: LockingProvider, clock: ManualClock
    ) -> None:
        """Each permit that is given back lets in one of those who wait, and never more are inside than there are."""
        if lacks(provider, SEMAPHORE):
            return
        semaphore = locking.semaphore("api", permits=2)
        leases = [await semaphore.acquire(ttl=LONG) for _ in range(2)]
        served: list[int] = []

        async def wait(number: int) -> None:
            await in_queue(clock, number)
            lease = await semaphore.acquire(wait=PATIENCE, ttl=LONG)
            served.append(number)
            assert await lease.release() is True

        async def let_go() -> None:
            await in_queue(clock, 4)
            assert await leases[0].release() is True

        await together(*(bound(wait, number) for number in range(4)), let_go)
        assert sorted(served) == [0, 1, 2, 3]
        if not lacks(provider, FAIR):
            assert served == [0, 1, 2, 3]
        assert await leases[1].release() is True
        assert await is_free(locking, "api")

    async def test_a_permit_that_ran_out_is_had_again(
        self, locking: Any, provider: LockingProvider, clock: ManualClock
    ) -> None:
        """A waiter gets the first permit whose lease is over, while the others last."""
        if lacks(provider, SEMAPHORE, EXPIRY):
            return
        semaphore = locking.semaphore("api", permits=2)
        lasting = await semaphore.acquire(ttl=LONG)
        await semaphore.acquire(ttl=TTL)

        async def wait() -> None:
            await (await semaphore.acquire(wait=PATIENCE)).release()

        async def pass_time() -> None:
            await in_queue(clock, 1)
            clock.advance(TTL * 1.1)

        await together(wait, pass_time)
        assert await lasting.release() is True

    async def test_never_more_than_the_permits(self, locking: Any, provider: LockingProvider) -> None:
        """Of many who come again and again, never more are inside at once than there are permits."""
        if lacks(provider, SEMAPHORE):
            return
        semaphore = locking.semaphore("api", permits=3)
        inside: list[int] = []
        most: list[int] = []

        async def come(number: int) -> None:
            for _ in range(8):
                async with semaphore.hold(wait=PATIENCE):
                    inside.append(number)
                    most.append(len(inside))
                    await pause(0.001)
                    inside.remove(number)

        await together(*(bound(come, number) for number in range(7)))
        assert len(most) == 7 * 8
        assert max(most) <= 3
