"""Conformance of locking: leaders, elected and revoked."""

from __future__ import annotations

from typing import Any

from pilotis.providers import LockingProvider

from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import soon
from pilotis_testing.locking_base import TTL, LockingTests, in_queue, is_free


class LeadingTests(LockingTests):
    """Who leads, and what it is told."""

    async def test_there_is_one_leader_at_a_time(self, locking: Any, clock: ManualClock) -> None:
        """The first candidate leads until it is stopped and its work has ended, and then the next one does."""
        told: list[str] = []
        first = _stand(locking, told, "first")
        await soon(lambda: told == ["first elected"])
        second = _stand(locking, told, "second")
        await in_queue(clock, 2)
        assert [True, False] == [first.leading, second.leading]
        assert not await is_free(locking, "scheduler")
        await first.stop()
        await soon(lambda: second.leading)
        assert not first.leading
        await soon(lambda: len(told) == 3)
        await second.stop()
        await second.stop()
        assert ["first elected", "first revoked", "second elected", "second revoked"] == told
        assert await is_free(locking, "scheduler")

    async def test_a_candidate_who_stops_leaves_nothing(self, locking: Any, clock: ManualClock) -> None:
        """Whoever was never elected hears nothing, and stands in nobody's way."""
        told: list[str] = []
        lease = await locking.acquire("scheduler")
        candidate = _stand(locking, told, "candidate")
        await in_queue(clock, 1)
        await candidate.stop()
        assert await lease.release() is True
        assert await is_free(locking, "scheduler")
        assert told == []

    async def test_a_leader_who_lost_stands_again(
        self, locking: Any, provider: LockingProvider, clock: ManualClock
    ) -> None:
        """A leader whose lock was taken away is told, and elected anew with a new lease."""
        told: list[str] = []
        leases: list[Any] = []

        def begin(lease: object) -> None:
            leases.append(lease)
            told.append("elected")

        async with locking.lead("scheduler", on_elected=begin, on_revoked=lambda: told.append("revoked"), ttl=TTL):
            await soon(lambda: told == ["elected"])
            await provider.release(leases[0].grant)
            await in_queue(clock, 1)
            clock.advance(TTL / 2.9)
            await soon(lambda: told == ["elected", "revoked", "elected"])
            assert leases[0].lost
            assert leases[1].held
        assert told == ["elected", "revoked", "elected", "revoked"]
        assert await is_free(locking, "scheduler")

    async def test_closing_ends_leadership(self, locking: Any) -> None:
        """A leader is revoked while its module closes, and its lock is given back."""
        told: list[str] = []
        leader = _stand(locking, told, "leader")
        await soon(lambda: told == ["leader elected"])
        await locking.close()
        assert told == ["leader elected", "leader revoked"]
        assert not leader.leading


def _stand(locking: Any, told: list[str], who: str) -> Any:
    def begin(lease: object) -> None:
        told.append(f"{who} elected")

    return locking.lead("scheduler", on_elected=begin, on_revoked=lambda: told.append(f"{who} revoked"))
