"""What the parts of the locking suite share."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from pilotis.errors import LockNotAcquiredError
from pilotis.modules.locking import Locking
from pilotis.providers import Context, LockingCapability, LockingProvider

from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import Colour, soon
from pilotis_testing.conformance import Conformance

TTL = 0.6
"""Seconds: what a lease lasts in these tests."""
LONG = 60.0
PATIENCE = 30.0
"""Seconds: a wait that is over only where something went wrong."""


Action = Callable[[], Coroutine[Any, Any, None]]


class LockingTests(Conformance):
    """The fixtures."""

    @pytest.fixture
    def locking(self, provider: LockingProvider, clock: ManualClock, colour: Colour) -> Iterator[Any]:
        """The portable class before the provider, speaking in the colour of the test."""
        context = Context(clock=clock)
        locking = Locking(provider, context=context)
        yield colour.voice(locking)
        locking.close()
        context.runtime.stop()


def lacks(provider: LockingProvider, *capabilities: LockingCapability) -> bool:
    """Tell whether the provider declares not all of these. Then a test of them has nothing to say."""
    return not all(capability in provider.capabilities for capability in capabilities)


async def is_free(locking: Any, *keys: str) -> bool:
    """Tell whether keys can be had at once, and leave them as they were."""
    try:
        lease = await locking.acquire(keys, ttl=LONG)
    except LockNotAcquiredError:
        return False
    await lease.release()
    return True


def bound(action: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> Action:
    """Return an action that has its arguments."""
    return lambda: action(*args)


async def in_queue(clock: ManualClock, count: int) -> None:
    """Wait until so many waits are under way, those of renewals included, as `clock.waiting` tells."""
    await soon(lambda: clock.waiting >= count)
