"""What renewing costs where one process holds thousands of locks, and for how long a lease can be kept."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pilotis.bridge import drive
from pilotis.errors import LockNotAcquiredError
from pilotis.modules.locking import Lease, Locking
from pilotis.providers import Context
from pilotis_locking_redis import RedisLocks, RedisLocksOptions
from pilotis_locking_redis.provider import MOST_AT_ONCE
from pilotis_redis import RedisLink
from pilotis_testing import ManualClock
from pilotis_testing.chaos import size
from pilotis_testing.clock import until
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer

LONG = 120.0
COUNT = size(1_000, 5_000)
INTERVALS = 8

pytestmark = pytest.mark.slow


@pytest.fixture
def provider(own_redis: RedisServer) -> RedisLocks:
    return RedisLocks(RedisLocksOptions(url=own_redis.url))


@pytest.fixture
def locking(provider: RedisLocks, clock: ManualClock) -> Iterator[Locking]:
    """One whose renewals come when the test says so; leases last by the server's own time."""
    locking = Locking(provider, context=Context(name="shop", clock=clock))
    yield locking
    locking.close()
    locking.context.runtime.stop()


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs of a script each round trip brought."""
    seen: list[int] = []
    script_each = RedisLink.script_each

    async def counted(link: RedisLink, script: Any, calls: list[Any]) -> list[Any]:
        seen.append(len(calls))
        return await script_each(link, script, calls)

    monkeypatch.setattr(RedisLink, "script_each", counted)
    return seen


def hold(locking: Locking, stack: ExitStack, number: int) -> Lease:
    """Enter a block as somebody of its own, and leave it with the stack."""
    block = locking.hold(f"k{number}", ttl=LONG)
    around = contextvars.copy_context()
    lease = around.run(block.__enter__)
    stack.callback(around.run, block.__exit__, None, None, None)
    return lease


def renewed(clock: ManualClock, leases: list[Lease]) -> float:
    """Let an interval pass, and return the CPU time that renewing all leases took this process."""
    last, before = leases[-1], leases[-1].deadline
    clock.wait_for_waiters()
    began = time.process_time()
    clock.advance(LONG / 3)
    until(lambda: last.deadline > before and not last.renewing, LONG)
    return time.process_time() - began


def test_thousands_of_locks_are_renewed_by_one_round_trip_at_a_constant_cost(
    locking: Locking, provider: RedisLocks, own_redis: RedisServer, clock: ManualClock, trips: list[int]
) -> None:
    """All locks that a process holds come together, at each interval once, and the last time costs what the first did.

    What each run of the script does is bounded.
    """
    with ExitStack() as stack:
        leases = [hold(locking, stack, number) for number in range(COUNT)]
        renewed(clock, leases)  # a script is sent along the first time
        trips.clear()
        tell(own_redis.url, "CONFIG", "RESETSTAT")
        costs = [renewed(clock, leases) for _ in range(INTERVALS)]
        assert [COUNT // MOST_AT_ONCE] * INTERVALS == trips
        assert (
            COUNT // MOST_AT_ONCE * INTERVALS == tell(own_redis.url, "INFO", "commandstats")["cmdstat_evalsha"]["calls"]
        )
        assert min(costs[INTERVALS // 2 :]) < 2 * min(costs[: INTERVALS // 2])
        assert min(costs) < 6 * min(bare(provider, leases) for _ in range(3))
        assert not any(lease.lost for lease in leases)
    assert 0 == tell(own_redis.url, "EXISTS", "{pilotis:locks:shop}:o")


def bare(provider: RedisLocks, leases: list[Lease]) -> float:
    """Return the CPU time that it takes to renew leases with nobody around who keeps them."""
    began = time.process_time()
    assert all(drive(provider.renew([lease.grant for lease in leases])))
    return time.process_time() - began


@pytest.mark.campaign
def test_a_renewed_lease_lasts_many_times_its_ttl(redis_url: str) -> None:
    """Nobody else has the lock meanwhile."""
    options = RedisLocksOptions(url=redis_url)
    locking, other = (Locking(RedisLocks(options), context=Context(name="shop")) for _ in range(2))
    with locking.hold("a", ttl=size(3, 1)) as lease:
        assert other.inspect("a") is not None
        with pytest.raises(LockNotAcquiredError):
            other.acquire("a", wait=size(4, 60))
        assert not lease.lost
    for one in (locking, other):
        one.close()
        one.context.runtime.stop()
