"""What keeps a relay from its work, and since when."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from pilotis.backoff import Backoff
from pilotis.clock import Clock
from pilotis.findings import Finding

_PAUSE = Backoff.exponential(0.1, maximum=5, jitter=0.2)


class Outage:
    """Whether something has what it needs: the log tells once when it has not, and once when it has again.

    It may last any number of times. What is logged has the fields `bus`, and at the end `seconds`.
    """

    def __init__(self, logger: logging.Logger, clock: Clock, bus: str, what: str) -> None:
        """Tell of `what`, such as "the relay of the outbox", of a bus."""
        self._logger = logger
        self._clock = clock
        self._bus = bus
        self._what = what
        self._failures = 0
        self._since = 0.0
        self._error = ""

    def lasts(self, error: Exception) -> float:
        """Take note of an attempt in vain, and return how many seconds to wait before the next."""
        self._error = str(error)
        self._failures += 1
        if self._failures == 1:
            self._since = self._clock.time()
            self._logger.warning("%s waits for what it needs: %s", self._what, error, extra={"bus": self._bus})
        return _PAUSE.delay(self._failures)

    def over(self) -> None:
        """Take note of an attempt that succeeded."""
        if self._failures:
            self._failures = 0
            seconds = max(0.0, self._clock.time() - self._since)
            self._logger.info("%s goes on", self._what, extra={"bus": self._bus, "seconds": round(seconds, 3)})

    def findings(self) -> list[Finding]:
        """Tell of it while it lasts."""
        if not self._failures:
            return []
        return [
            Finding(
                module="event",
                severity="stuck",
                what=f"{self._what} waits for what it needs",
                why=self._error,
                since=datetime.fromtimestamp(self._since, UTC),
                mend="mend what the error tells of; it tries again every few seconds, and goes on by itself",
            )
        ]
