"""Conformance of locking: what an operator sees and does, and locks inside the caller's transaction."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pilotis.errors import InvalidInputError, LockLostError, UnsupportedError
from pilotis.providers import LockingCapability, LockingProvider

from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import together
from pilotis_testing.locking_base import LONG, PATIENCE, TTL, LockingTests, in_queue, is_free, lacks

EXPIRY, FENCING, INSPECT = LockingCapability.EXPIRY, LockingCapability.FENCING, LockingCapability.INSPECT
LIST, BREAK, SHARED = LockingCapability.LIST, LockingCapability.BREAK, LockingCapability.SHARED
OWNERS, TRANSACTION = LockingCapability.OWNERS, LockingCapability.TRANSACTION


class OperatingTests(LockingTests):
    """Looking up, listing, breaking."""

    async def test_inspect_tells_who_holds(self, locking: Any, provider: LockingProvider, clock: ManualClock) -> None:
        """The owner, the token and how many wait are told, and the times where there are any; None when it is free."""
        if lacks(provider, INSPECT):
            with pytest.raises(UnsupportedError, match="INSPECT"):
                await locking.inspect("a")
            return
        assert await locking.inspect("a") is None
        lease = await locking.acquire(["a", "b"], owner="job-7", ttl=LONG)
        state = await locking.inspect("b")
        assert state is not None
        assert (state.key, state.owner, state.token, state.waiters) == ("b", "job-7", lease.token, 0)
        assert (state.holders, state.shared) == (1, False)
        now = datetime.fromtimestamp(clock.time(), UTC)
        if state.since is not None:
            assert abs((state.since - now).total_seconds()) < 5
        if state.expires is not None:
            assert abs((state.expires - now).total_seconds() - LONG) < 5
        await lease.release()
        assert await locking.inspect("b") is None

    async def test_inspect_counts_who_waits(self, locking: Any, provider: LockingProvider, clock: ManualClock) -> None:
        """Those in the key's queue are counted as long as they wait."""
        if lacks(provider, INSPECT):
            return
        lease = await locking.acquire("a", ttl=LONG)
        counted: list[int] = []

        async def wait() -> None:
            await (await locking.acquire("a", wait=PATIENCE)).release()

        async def look() -> None:
            await in_queue(clock, 3)
            counted.append((await locking.inspect("a")).waiters)
            await lease.release()

        await together(wait, wait, wait, look)
        assert counted == [3]
        assert await locking.inspect("a") is None

    async def test_inspect_forgets_what_ran_out(
        self, locking: Any, provider: LockingProvider, clock: ManualClock
    ) -> None:
        """A lease that is over is not told of."""
        if lacks(provider, INSPECT, EXPIRY):
            return
        await locking.acquire("a", ttl=TTL)
        clock.advance(TTL * 1.5)
        assert await locking.inspect("a") is None

    # Listing

    async def test_what_is_held_is_listed(self, locking: Any, provider: LockingProvider) -> None:
        """Keys that begin with the prefix, taken literally, sorted, with their holders; released ones are left out."""
        if lacks(provider, LIST):
            with pytest.raises(UnsupportedError, match="LIST"):
                await locking.held()
            return
        assert await locking.held() == []
        keys = ["order:2", "order:10", "order:*", "order", "stock:1", "\u00e4"]
        leases = {key: await locking.acquire(key, owner=f"owner of {key}", ttl=LONG) for key in keys}
        assert sorted(keys) == [state.key for state in await locking.held()]
        orders = await locking.held("order:")
        assert ["order:*", "order:10", "order:2"] == [state.key for state in orders]
        assert [leases[state.key].token for state in orders] == [state.token for state in orders]
        if not lacks(provider, OWNERS):
            assert [f"owner of {state.key}" for state in orders] == [state.owner for state in orders]
        assert ["order:*"] == [state.key for state in await locking.held("order:*")]
        await leases["order:10"].release()
        assert ["order:*", "order:2"] == [state.key for state in await locking.held("order:")]
        assert [] == await locking.held("nothing")

    async def test_a_list_is_limited(self, locking: Any, provider: LockingProvider) -> None:
        """The first ones by key are told, and those that nobody holds are not counted."""
        if lacks(provider, LIST):
            return
        keys = [f"key:{number:02}" for number in range(20)]
        leases = [await locking.acquire(key, ttl=LONG) for key in keys]
        assert keys[:7] == [state.key for state in await locking.held(limit=7)]
        for lease in leases[:5]:
            await lease.release()
        assert keys[5:8] == [state.key for state in await locking.held("key:", limit=3)]

    async def test_a_list_forgets_what_ran_out(
        self, locking: Any, provider: LockingProvider, clock: ManualClock
    ) -> None:
        """A lease that is over is not listed."""
        if lacks(provider, LIST, EXPIRY):
            return
        await locking.acquire("a", ttl=TTL)
        await locking.acquire("b", ttl=LONG)
        clock.advance(TTL * 1.5)
        assert ["b"] == [state.key for state in await locking.held()]

    async def test_a_list_tells_of_sharers(self, locking: Any, provider: LockingProvider) -> None:
        """A shared key is listed once, with how many hold it."""
        if lacks(provider, LIST, SHARED):
            return
        for _ in range(3):
            await locking.acquire("a", shared=True, ttl=LONG)
        assert [("a", 3, True)] == [(state.key, state.holders, state.shared) for state in await locking.held()]

    # Breaking

    async def test_a_broken_lock_is_free(self, locking: Any, provider: LockingProvider) -> None:
        """The key is taken from its holder, whose lease is over: it is neither renewed nor released."""
        if lacks(provider, BREAK):
            with pytest.raises(UnsupportedError, match="BREAK"):
                await locking.break_lock("a")
            return
        assert await locking.break_lock("a") == 0
        lease = await locking.acquire("a", ttl=LONG)
        assert await locking.break_lock("a") == 1
        assert await locking.break_lock("a") == 0
        assert await provider.renew([lease.grant]) == [False]
        new = await locking.acquire("a", ttl=LONG)
        assert await lease.release() is False
        assert not await is_free(locking, "a")
        if not lacks(provider, FENCING):
            assert new.token > lease.token

    async def test_leaving_a_block_tells_that_its_lock_was_broken(
        self, locking: Any, provider: LockingProvider
    ) -> None:
        """A block whose lock was broken raises at its end, though its body succeeded."""
        if lacks(provider, BREAK):
            return
        with pytest.raises(LockLostError):
            async with locking.hold("a"):
                await locking.break_lock("a")
        assert await is_free(locking, "a")

    async def test_breaking_leaves_other_keys(self, locking: Any, provider: LockingProvider) -> None:
        """Of several keys of a lease one is broken, and the others stay until it is released; it is not renewed."""
        if lacks(provider, BREAK):
            return
        lease = await locking.acquire(["a", "b", "c"], ttl=LONG)
        await locking.acquire("d", ttl=LONG)
        assert await locking.break_lock("b") == 1
        assert [False, True, False, False] == [await is_free(locking, key) for key in "abcd"]
        assert await provider.renew([lease.grant]) == [False]
        assert await lease.release() is False
        assert [True, True, True, False] == [await is_free(locking, key) for key in "abcd"]

    async def test_breaking_wakes_who_waits(self, locking: Any, provider: LockingProvider, clock: ManualClock) -> None:
        """Whoever waits for the key gets it, with no time passing."""
        if lacks(provider, BREAK):
            return
        await locking.acquire("a", ttl=LONG)
        broken: list[int] = []

        async def wait() -> None:
            await (await locking.acquire("a", wait=PATIENCE)).release()

        async def break_it() -> None:
            await in_queue(clock, 1)
            broken.append(await locking.break_lock("a"))

        await together(wait, break_it)
        assert broken == [1]

    async def test_a_shared_lock_is_taken_from_all(self, locking: Any, provider: LockingProvider) -> None:
        """Breaking it tells from how many it was taken."""
        if lacks(provider, BREAK, SHARED):
            return
        leases = [await locking.acquire("a", shared=True, ttl=LONG) for _ in range(3)]
        assert await locking.break_lock("a") == 3
        assert await provider.renew([lease.grant for lease in leases]) == [False, False, False]
        assert await is_free(locking, "a")

    # The caller's transaction

    async def test_a_transaction_needs_the_capability(self, locking: Any, provider: LockingProvider) -> None:
        """A provider without TRANSACTION refuses a connection; one with it refuses a ttl beside the connection."""
        if lacks(provider, TRANSACTION):
            with pytest.raises(UnsupportedError, match="TRANSACTION"):
                locking.hold("a", connection=object())
            with pytest.raises(UnsupportedError, match="TRANSACTION"):
                await locking.acquire("a", connection=object())
            return
        with pytest.raises(InvalidInputError, match=r"ttl: .* lasts until its end"):
            locking.hold("a", connection=object(), ttl=5)
        with pytest.raises(InvalidInputError, match="connection"):
            await locking.acquire("a", connection=object())
