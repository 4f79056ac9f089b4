"""Conformance of locking: who is granted what, and how it is given back."""

from __future__ import annotations

from typing import Any

import pytest
from pilotis.errors import LockNotAcquiredError, UnsupportedError
from pilotis.providers import LockingCapability, LockingProvider

from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import together
from pilotis_testing.locking_base import LONG, PATIENCE, TTL, LockingTests, in_queue, is_free, lacks

EXPIRY, FENCING, OWNERS = LockingCapability.EXPIRY, LockingCapability.FENCING, LockingCapability.OWNERS

ODD_KEYS = (
    "a",
    "A",
    "a:b",
    "a*",
    "*",
    "a b",
    "{a}",
    "\u00e4",
    "a\u0308",
    "\ud0a4",
    "\U0001f512",
    "%61",
    "a/../b",
    "x" * 1024,
)


class GrantTests(LockingTests):
    """Exclusion, several keys, tokens, owners."""

    async def test_a_held_key_is_refused_to_others(self, locking: Any) -> None:
        """While one owner holds a key, another that does not wait is refused, and may try again later."""
        await locking.acquire("order:1")
        with pytest.raises(LockNotAcquiredError, match="order:1") as caught:
            await locking.acquire("order:1")
        assert caught.value.retryable

    async def test_a_released_key_is_free(self, locking: Any) -> None:
        """Whoever comes after a release gets the key, and releasing tells that the lock was held."""
        lease = await locking.acquire("order:1")
        assert await lease.release() is True
        assert await is_free(locking, "order:1")

    async def test_releasing_twice_is_false(self, locking: Any, provider: LockingProvider) -> None:
        """A second release says False and does not touch who holds the key by then."""
        lease = await locking.acquire("order:1")
        await lease.release()
        await locking.acquire("order:1")
        assert await lease.release() is False
        assert await provider.release(lease.grant) is False
        assert not await is_free(locking, "order:1")

    async def test_several_keys_are_taken_all_or_none(self, locking: Any) -> None:
        """One key that is held refuses them all, and leaves the others free: those before it and those after it."""
        await locking.acquire("b")
        with pytest.raises(LockNotAcquiredError):
            await locking.acquire(["a", "b", "c"])
        assert [True, False, True] == [await is_free(locking, key) for key in "abc"]

    async def test_several_keys_are_released_together(self, locking: Any) -> None:
        """One release frees all keys of a lease."""
        lease = await locking.acquire(["a", "b", "c"])
        assert [False, False, False] == [await is_free(locking, key) for key in "abc"]
        assert await lease.release() is True
        assert await is_free(locking, "a", "b", "c")

    async def test_a_key_named_twice_counts_once(self, locking: Any) -> None:
        """Keys may repeat, and the lease has each once, sorted."""
        lease = await locking.acquire(["b", "a", "b"])
        assert lease.keys == ("a", "b")
        assert await lease.release() is True

    async def test_different_keys_are_different_locks(self, locking: Any) -> None:
        """Keys that look alike, look like patterns or are long never share a lock."""
        leases = [await locking.acquire(key) for key in ODD_KEYS]
        assert [(key,) for key in ODD_KEYS] == [lease.keys for lease in leases]
        assert [True] * len(ODD_KEYS) == [await lease.release() for lease in leases]

    async def test_many_keys_are_one_lock(self, locking: Any) -> None:
        """Hundreds of keys are taken and given back together."""
        keys = [f"stock:{number}" for number in range(300)]
        lease = await locking.acquire(keys)
        assert not await is_free(locking, "stock:299")
        assert await lease.release() is True
        assert await is_free(locking, *keys)

    async def test_tokens_grow_with_every_grant(self, locking: Any, provider: LockingProvider) -> None:
        """Each grant of a key has a higher token than all grants of that key before it, alone or with others."""
        if lacks(provider, FENCING):
            return
        tokens: list[int] = []
        for keys in ("a", ["a", "b"], "b", ["b", "c"], ["a", "c"]):
            lease = await locking.acquire(keys)
            tokens.append(lease.token)
            await lease.release()
        assert tokens == sorted(set(tokens))
        assert tokens[0] > 0

    async def test_tokens_grow_after_a_lease_ran_out(
        self, locking: Any, provider: LockingProvider, clock: ManualClock
    ) -> None:
        """A holder that was too slow has a lower token than its successor, even one of the same name."""
        if lacks(provider, FENCING, EXPIRY):
            return
        slow = await locking.acquire("a", owner="job", ttl=TTL)
        clock.advance(TTL * 1.5)
        assert (await locking.acquire("a", owner="job", ttl=TTL)).token > slow.token

    # Owners

    async def test_the_same_owner_may_acquire_again(self, locking: Any, provider: LockingProvider) -> None:
        """It is the same grant, with its token; nothing is counted, and one release frees."""
        if lacks(provider, OWNERS):
            return
        first = await locking.acquire("a", owner="job-7", ttl=LONG)
        again = await locking.acquire("a", owner="job-7", ttl=LONG)
        assert again.token == first.token
        assert await first.release() is True
        assert await again.release() is False
        assert await is_free(locking, "a")

    async def test_acquiring_again_extends(self, locking: Any, provider: LockingProvider, clock: ManualClock) -> None:
        """The ttl begins anew, and a short one does not cut off what is left of a long one."""
        if lacks(provider, OWNERS, EXPIRY):
            return
        for ttl in (TTL, 3 * TTL, TTL / 2):
            await locking.acquire("a", owner="job-7", ttl=ttl)
        clock.advance(2 * TTL)
        assert not await is_free(locking, "a")
        clock.advance(2 * TTL)
        assert await is_free(locking, "a")

    async def test_an_owner_may_take_more(self, locking: Any, provider: LockingProvider) -> None:
        """A lease on what the owner holds and more covers both; the earlier one ends with it."""
        if lacks(provider, OWNERS):
            return
        first = await locking.acquire("b", owner="job-7")
        both = await locking.acquire(["a", "b"], owner="job-7")
        assert both.token >= first.token
        assert await both.release() is True
        assert await first.release() is False
        assert await is_free(locking, "a", "b")

    async def test_part_of_a_lease_may_be_released(self, locking: Any, provider: LockingProvider) -> None:
        """A lease that lacks one of its keys is not renewed any more, and releasing it frees those that are left."""
        if lacks(provider, OWNERS):
            return
        lease = await locking.acquire(["a", "b", "c"], owner="job-7", ttl=LONG)
        assert await locking.release("b", owner="job-7") is True
        other = await locking.acquire("b", ttl=LONG)
        assert await provider.renew([lease.grant]) == [False]
        assert await lease.release() is False
        assert [True, False, True] == [await is_free(locking, key) for key in "abc"]
        assert await other.release() is True

    async def test_an_owner_keeps_what_it_has_while_it_waits_for_more(
        self, locking: Any, provider: LockingProvider, clock: ManualClock
    ) -> None:
        """Keys that an owner holds already are not given up for those that it waits for."""
        if lacks(provider, OWNERS):
            return
        first = await locking.acquire("a", owner="job-7", ttl=LONG)
        other = await locking.acquire("b", ttl=LONG)
        kept: list[bool] = []

        async def wait() -> None:
            both = await locking.acquire(["a", "b"], owner="job-7", wait=PATIENCE, ttl=LONG)
            kept.append(both.token >= first.token)
            assert await both.release() is True

        async def let_go() -> None:
            await in_queue(clock, 1)
            kept.extend(await provider.renew([first.grant]))
            await other.release()

        await together(wait, let_go)
        assert kept == [True, True]
        assert await is_free(locking, "a", "b")

    async def test_release_by_owner(self, locking: Any, provider: LockingProvider) -> None:
        """What the named owner holds is freed, nothing else, and the answer is whether it held it all."""
        if lacks(provider, OWNERS):
            return
        await locking.acquire(["a", "b"], owner="job-7")
        await locking.acquire("c", owner="job-8")
        assert await locking.release("a", owner="job-8") is False
        assert await locking.release("a", owner="job-7") is True
        assert await locking.release(["b", "c"], owner="job-7") is False
        assert [True, True, False] == [await is_free(locking, key) for key in "abc"]

    async def test_release_all_frees_one_owner_alone(self, locking: Any, provider: LockingProvider) -> None:
        """Every key of the owner is freed and counted, and what others hold stays."""
        if lacks(provider, OWNERS):
            return
        await locking.acquire(["a", "b"], owner="job-7")
        await locking.acquire("c", owner="job-7")
        await locking.acquire("d", owner="job-8")
        assert await locking.release_all("job-7") == 3
        assert await locking.release_all("job-7") == 0
        assert [True, True, True, False] == [await is_free(locking, key) for key in "abcd"]

    async def test_release_checks_the_token(self, locking: Any, provider: LockingProvider, clock: ManualClock) -> None:
        """A lease that ran out releases nothing, not even what its own owner took again since."""
        if lacks(provider, OWNERS, EXPIRY):
            return
        late = await locking.acquire("a", owner="job-7", ttl=TTL)
        clock.advance(TTL * 1.5)
        await locking.acquire("a", owner="job-7", ttl=LONG)
        assert await late.release() is False
        assert await provider.release(late.grant) is False
        assert not await is_free(locking, "a")

    async def test_owners_need_the_capability(self, locking: Any, provider: LockingProvider) -> None:
        """A provider without OWNERS refuses to release by name; one with it answers for a name it never saw."""
        if lacks(provider, OWNERS):
            with pytest.raises(UnsupportedError, match="OWNERS"):
                await locking.release("a", owner="nobody")
            with pytest.raises(UnsupportedError, match="OWNERS"):
                await locking.release_all("nobody")
        else:
            assert await locking.release("a", owner="nobody") is False
            assert await locking.release_all("nobody") == 0
