"""Names, patterns and counts of events, checked once and the same everywhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import timedelta
from functools import lru_cache
from typing import Literal

from pilotis.backoff import Backoff
from pilotis.errors import InvalidInputError
from pilotis.keys import check_text

Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")

LONGEST_NAME = 200


@lru_cache(maxsize=4096)
def check_name(name: str) -> str:
    """Return the name of an event. Raises InvalidInputError for one that is empty, too long, or has spaces or `*`."""
    check_pattern(name)
    if "*" in name:
        raise InvalidInputError(f"name: expected the name of one event, got the pattern {name!r}")
    return name


@lru_cache(maxsize=4096)
def check_pattern(pattern: str) -> str:
    """Return the name or pattern that a subscription is for. Raises InvalidInputError as `check_name` does."""
    check_text(pattern, "name", maximum=LONGEST_NAME)
    if any(character.isspace() for character in pattern):
        raise InvalidInputError(f"name: expected text without spaces, such as 'order.placed', got {pattern!r}")
    return pattern


def texts(values: Collection[str] | str, at: str) -> frozenset[str]:
    """Return texts as a set; a single one stands for itself. Raises InvalidInputError naming `at` for anything else."""
    if isinstance(values, str):
        return frozenset([check_text(values, at)])
    if not isinstance(values, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - callers may be untyped
        raise InvalidInputError(f"{at}: expected several, such as a list, got {type(values).__name__}")
    return frozenset(check_text(value, f"{at}[{index}]") for index, value in enumerate(values))


def check_count(value: object, at: str) -> int:
    """Return a whole number of 1 or more. Raises InvalidInputError naming `at` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInputError(f"{at}: expected a whole number, got {type(value).__name__}")
    if value < 1:
        raise InvalidInputError(f"{at}: expected 1 or more, got {value}")
    return value


def check_priority(value: object, at: str = "priority") -> Priority:
    """Return a priority. Raises InvalidInputError for anything but "high", "normal" and "low"."""
    for known in PRIORITIES:
        if value == known:
            return known
    raise InvalidInputError(f"{at}: expected 'high', 'normal' or 'low', got {value!r}"[:200])


def as_backoff(value: object, at: str = "backoff") -> Backoff:
    """Return a backoff; a duration stands for a fixed one. Raises InvalidInputError for anything else."""
    if isinstance(value, Backoff):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | timedelta):
        raise InvalidInputError(f"{at}: expected a Backoff or seconds, got {type(value).__name__}")
    return Backoff.fixed(value)
