"""Durations: seconds as a number, or a timedelta, checked once and the same everywhere."""

from __future__ import annotations

import math
from datetime import timedelta

from pilotis.errors import InvalidInputError

LONGEST = 100 * 365 * 86_400.0
"""A hundred years in seconds: more than anybody means, and what every timer and backend can still hold."""


def seconds(value: float | timedelta, at: str, *, minimum: float = 0.0, maximum: float = LONGEST) -> float:
    """Return `value` in seconds. Zero is allowed, unless `minimum` says otherwise.

    Raises InvalidInputError naming `at` for what is not a number or timedelta, for NaN and infinity, and for what is
    outside `minimum` to `maximum`. A bool is not a number here.
    """
    if (type(value) is float or type(value) is int) and minimum <= value <= maximum:  # the usual case, at once
        return float(value)
    number = _number(value)
    if number is None:
        raise InvalidInputError(f"{at}: expected seconds as a number, or a timedelta, got {type(value).__name__}")
    if not math.isfinite(number):
        raise InvalidInputError(f"{at}: expected a finite number of seconds, got {number}")
    if not minimum <= number <= maximum:
        raise InvalidInputError(f"{at}: expected from {minimum:g} to {maximum:g} seconds, got {number:g}")
    return number


def optional_seconds(
    value: float | timedelta | None, at: str, *, minimum: float = 0.0, maximum: float = LONGEST
) -> float | None:
    """Return `value` in seconds, or None for None. Raises the same errors as `seconds`."""
    return None if value is None else seconds(value, at, minimum=minimum, maximum=maximum)


def _number(value: object) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
