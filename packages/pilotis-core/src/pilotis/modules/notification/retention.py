"""How long ledgers keep their entries."""

from __future__ import annotations

from typing import Any

from pilotis.clock import Clock

FORGET_EVERY = 3600.0
FORGET_AT_ONCE = 1000


class Retention:
    """When a ledger in a database forgets: now and then, and a bounded number at once, because somebody waits."""

    def __init__(self, seconds: float | None) -> None:
        """Keep entries for `seconds` after they were recorded; None keeps them for good."""
        self._seconds = seconds
        self._next = 0.0

    def due(self, clock: Clock) -> dict[str, Any] | None:
        """Return what to delete, if it is time: None where it is not.

        Up to `limit` entries that were created `before` (in microseconds since 1970) and have no lease, or one that has
        ended `now` (in seconds since 1970). Whoever gets this must do it, and then call `done`.
        """
        if self._seconds is None or clock.monotonic() < self._next:
            return None
        self._next = clock.monotonic() + FORGET_EVERY
        now = clock.time()
        return {"before": int((now - self._seconds) * 1_000_000), "now": now, "limit": FORGET_AT_ONCE}

    def done(self, forgotten: int) -> None:
        """Note how many were deleted. Where there may be more, it is time again at once."""
        if forgotten == FORGET_AT_ONCE:
            self._next = 0.0
