"""Waiting until there is nothing left to do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from pilotis.bridge import Latch
from pilotis.modules.event.provider import LaneInfo

LOOK_SECONDS = 0.25
"""How often to look what other processes have handled, which nobody tells."""

Now = Callable[[], float]


class Wait(Protocol):
    """How a clock waits."""

    def __call__(self, latch: Latch, timeout: float | None, /) -> Awaitable[bool]:
        """Wait until `latch` is set, at most `timeout` seconds, and return whether it is."""
        ...


async def wait_really(latch: Latch, timeout: float | None) -> bool:
    """Wait for real seconds."""
    return await latch.wait(timeout)


async def drained(
    lanes: Callable[[], Awaitable[list[LaneInfo]]],
    settled: Callable[[], Latch],
    now: Now,
    wait: Wait,
    *,
    patience: float | None,
    horizon: float | None,
    others: bool,
) -> bool:
    """Wait until the lanes are empty, for `patience` at most; return whether they are.

    Gives up at once when all that is left is due later than `horizon` from now. `settled` returns a latch that is
    set when something changes here; where `others` handle events too, lanes are looked at now and then besides.
    """
    deadline = None if patience is None else now() + patience
    latest = None if horizon is None else now() + horizon
    while True:
        changed = settled()
        busy, due = _work_left(await lanes())
        if not busy and due is None:
            return True
        if not busy and due is not None and latest is not None and now() + due > latest:
            return False
        left = None if deadline is None else deadline - now()
        patient = _sooner(left, LOOK_SECONDS) if others else left
        if not await wait(changed, patient) and patient == left:
            return False


def _sooner(left: float | None, most: float) -> float:
    return most if left is None else min(left, most)


def _work_left(lanes: list[LaneInfo]) -> tuple[bool, float | None]:
    """Tell whether something waits or runs now, and in how many seconds the next of the delayed is due."""
    active = [info for info in lanes if not info.paused]
    busy = any(info.in_flight for info in lanes) or any(info.queued for info in active)
    return busy, min((info.next_due for info in active if info.next_due is not None), default=None)
