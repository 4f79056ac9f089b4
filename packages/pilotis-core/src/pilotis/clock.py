"""Time, injected: so that tests never sleep."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

from pilotis.bridge import Latch


class Clock(ABC):
    """Where the time comes from, and how to wait for it. May be called from any thread."""

    @abstractmethod
    def time(self) -> float:
        """Return the wall time in seconds since 1970. It may jump."""

    @abstractmethod
    def monotonic(self) -> float:
        """Return seconds from an arbitrary start. It never goes back: intervals are measured with it."""

    @abstractmethod
    async def wait(self, latch: Latch, timeout: float | None) -> bool:
        """Wait until `latch` is set, at most `timeout` seconds of this clock (None: for ever).

        Works in both colours. Returns whether the latch is set. A timeout of zero or less only looks.
        """

    async def pause(self, seconds: float) -> None:
        """Wait for `seconds` of this clock."""
        await self.wait(Latch(), seconds)


class SystemClock(Clock):
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)  # pyright: ignore[reportAssignmentType] - a call less
    time = staticmethod(time.time)  # pyright: ignore[reportAssignmentType]

    async def wait(self, latch: Latch, timeout: float | None) -> bool:
        return await latch.wait(timeout)


SYSTEM_CLOCK = SystemClock()
