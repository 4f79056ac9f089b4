"""A replica takes over, behind a sentinel and in a cluster: what becomes of holders, of tokens and of who waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from pilotis.bridge import pause, run_blocking
from pilotis.clock import SYSTEM_CLOCK
from pilotis.errors import LockLostError, LockNotAcquiredError, OperationError
from pilotis.modules.locking import Lease, Locking
from pilotis.providers import Clock, Context
from pilotis_locking_redis import RedisLocks, RedisLocksOptions
from pilotis_testing import Colour, ManualClock
from pilotis_testing.chaos import FULL
from pilotis_testing.colours import soon, together
from pilotis_testing.redis_groups import ClusterGroup, Group, SentinelGroup

TTL, SHORT = 60.0, 4.0
"""Seconds: of leases that last for all of a test, and of one that runs out meanwhile, by the server's own clock."""
PATIENCE = 60.0

pytestmark = [pytest.mark.slow, pytest.mark.campaign, pytest.mark.timeout(120)]

Make = Callable[[Clock], Any]


KINDS = ((SentinelGroup, Colour.BLOCKING), (ClusterGroup, Colour.ASYNC))
"""Who fails over, and who looks on: all of them together in a campaign."""


@pytest.fixture(
    params=list(product(*zip(*KINDS, strict=True))) if FULL else KINDS,
    ids=lambda case: f"{case[0].__name__} {case[1].value}",
)
def case(request: pytest.FixtureRequest) -> tuple[type[Group], Colour]:
    return request.param


@pytest.fixture
def colour(case: tuple[type[Group], Colour]) -> Colour:
    return case[1]


@pytest.fixture
def group(case: tuple[type[Group], Colour], tmp_path: Path) -> Iterator[Group]:
    made = case[0](tmp_path)
    with made.running():
        yield made


@pytest.fixture
def make(group: Group, colour: Colour) -> Iterator[Make]:
    """What makes the locking of one more process, speaking in the colour of the test."""
    options = RedisLocksOptions(url=group.url, timeout=1, connect_timeout=1, reconnects=0)
    with ExitStack() as stack:

        def made(clock: Clock) -> Any:
            context = Context(name="shop", clock=clock)
            locking = Locking(RedisLocks(options), context=context)
            stack.callback(context.runtime.stop)
            stack.callback(locking.close)
            return colour.voice(locking)

        yield made


async def insisting(verb: Callable[[], Awaitable[Any]]) -> Any:
    """Do something, over again while it may be tried again."""
    while True:
        try:
            return await verb()
        except OperationError as error:
            if not error.retryable:
                raise
            await pause(0.05)


async def renewals(clock: ManualClock, leases: list[Lease], seconds: float) -> None:
    """Let time pass for holders, and wait until the renewals that are due were tried."""
    await soon(lambda: clock.waiting >= 1)
    clock.advance(seconds)
    await soon(lambda: all(lease.lost or lease.due > clock.monotonic() for lease in leases), PATIENCE)


async def test_holders_are_told_the_truth_and_tokens_never_go_back(
    group: Group, make: Make, clock: ManualClock
) -> None:
    """What the replica had is held as before, and renewed there. What it had not is lost, as its holder is told.

    Whoever gets that meanwhile has a higher token. Whoever waited for a holder that is dead is told to try again, and
    gets the lock when the lease is over that the replica had.
    """
    locking, other = make(clock), make(SYSTEM_CLOCK)
    holds = [locking.hold("kept", ttl=TTL), locking.hold("forgotten", ttl=TTL)]
    kept = await holds[0].__aenter__()
    with pytest.raises(LockNotAcquiredError):
        await other.acquire("kept", wait=0.01)  # now it listens
    dying = await other.acquire("dying", ttl=SHORT)
    group.catch_up()
    group.cut_off()
    forgotten = await holds[1].__aenter__()
    leases, tokens = [kept, forgotten], [kept.token, dying.token, forgotten.token]

    async def wait() -> None:
        lease = await insisting(lambda: other.acquire("dying", ttl=TTL, wait=PATIENCE))
        assert dying.lost
        tokens.append(lease.token)

    async def fail_over() -> None:
        while (await locking.inspect("dying")).waiters == 0:
            pass
        group.master.kill()
        await renewals(clock, leases, TTL / 3)
        assert [False, False] == [bool(lease.lost) for lease in leases]
        await run_blocking(group.take_over)

    await together(wait, fail_over)
    tokens.append((await insisting(lambda: other.acquire("forgotten", ttl=TTL))).token)
    assert sorted(set(tokens)) == tokens
    before = kept.deadline
    while kept.deadline == before:
        await renewals(clock, leases, 1)
    with pytest.raises(LockLostError):
        await holds[1].__aexit__(None, None, None)
    assert kept.token == (await other.inspect("kept")).token
    with pytest.raises(LockNotAcquiredError):
        await other.acquire("kept")
    await holds[0].__aexit__(None, None, None)
    assert await other.inspect("kept") is None
