"""How long to wait before trying again."""

from __future__ import annotations

import math
import random as _random
from collections.abc import Callable
from datetime import timedelta

import msgspec

from pilotis.durations import LONGEST, seconds
from pilotis.errors import InvalidInputError


class Backoff(msgspec.Struct, frozen=True):
    """The waits between attempts, in seconds: `first`, then each `factor` times the one before, up to `maximum`.

    `jitter` is a fraction: 0.1 spreads each wait evenly over 10% below to 10% above it, never over `maximum`.
    Made by `Backoff.fixed` and `Backoff.exponential`. It can be encoded, and travels in messages.
    """

    first: float
    factor: float = 1.0
    maximum: float = LONGEST
    jitter: float = 0.0

    def __post_init__(self) -> None:
        seconds(self.first, "backoff.first")
        seconds(self.maximum, "backoff.maximum", minimum=self.first)
        _check_number(self.factor, "backoff.factor", 1.0, math.inf)
        _check_number(self.jitter, "backoff.jitter", 0.0, 1.0)

    @classmethod
    def fixed(cls, delay: float | timedelta, *, jitter: float = 0.0) -> Backoff:
        """Return a backoff that always waits `delay` (seconds or a timedelta; zero tries again at once)."""
        return cls(seconds(delay, "backoff.delay"), jitter=jitter)

    @classmethod
    def exponential(
        cls,
        first: float | timedelta,
        *,
        factor: float = 2.0,
        maximum: float | timedelta = LONGEST,
        jitter: float = 0.0,
    ) -> Backoff:
        """Return a backoff that waits `first` after the first failure, and `factor` times as long after each next.

        `first` and `maximum` are seconds or timedeltas. Raises InvalidInputError for a factor below 1, a maximum
        below `first`, and a jitter outside 0 to 1.
        """
        first = seconds(first, "backoff.first")
        return cls(first, factor, seconds(maximum, "backoff.maximum"), jitter)

    def delay(self, attempt: int, random: Callable[[], float] = _random.random) -> float:
        """Return the seconds to wait after `attempt` failed; attempts count from 1.

        `random` returns a number from 0 to 1. Raises InvalidInputError for an attempt below 1.
        """
        if attempt < 1:
            raise InvalidInputError(f"attempt: expected 1 or more, got {attempt}")
        wait = self._wait(attempt - 1)
        spread = self.jitter * (2 * random() - 1) if self.jitter else 0.0
        return min(wait * (1 + spread), self.maximum)

    def _wait(self, failures_before: int) -> float:
        try:
            return min(self.first * self.factor**failures_before, self.maximum)
        except OverflowError:
            return self.maximum if self.first else 0.0


def _check_number(value: object, at: str, minimum: float, maximum: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInputError(f"{at}: expected a number, got {type(value).__name__}")
    if not (minimum <= value <= maximum and math.isfinite(value)):
        raise InvalidInputError(f"{at}: expected a finite number from {minimum:g} to {maximum:g}, got {value}")
