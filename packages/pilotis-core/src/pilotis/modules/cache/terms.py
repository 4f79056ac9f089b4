"""On which terms a value is kept: the arguments of the verbs, checked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import lru_cache
from types import EllipsisType
from typing import Any

import msgspec

from pilotis.durations import optional_seconds, seconds
from pilotis.errors import InvalidInputError
from pilotis.keys import check_texts

Duration = float | timedelta
Ttl = Duration | None | EllipsisType
"""Seconds; `...` for the default of the settings, None for good, zero for not at all."""
TtlOf = Ttl | Callable[[Any], Ttl]
"""The same, or a function of the value that returns it."""


class Terms(msgspec.Struct, frozen=True):
    """How long a computed value is kept, and when it is computed anew."""

    ttl: float | Callable[[Any], Ttl] | None
    default: float | None
    stale_for: float = 0.0
    eagerness: float = 0.0
    """The beta of XFetch: 1 refreshes about when it pays, more earlier, 0 never."""
    timeout: float | None = None

    def ttl_of(self, value: object) -> float | None:
        """Return the ttl of a value that was computed."""
        return checked_ttl(self.ttl(value), self.default) if callable(self.ttl) else self.ttl

    def expiry(self, ttl: float | None, now: float) -> float | None:
        """Return when a value is no longer fresh, where the provider's ttl alone does not decide."""
        return now + ttl if ttl is not None and (self.stale_for or self.eagerness) else None

    def lifetime(self, ttl: float | None) -> float | None:
        """Return how long the provider keeps a value: as long as anybody may be served with it."""
        return None if ttl is None else ttl + self.stale_for


def checked_terms(
    default: float | None,
    ttl: TtlOf,
    stale_for: Duration = 0,
    refresh_ahead: float | None = None,
    timeout: Duration | None = None,
) -> Terms:
    """Return the terms. Raises `InvalidInputError` naming the argument that cannot be used."""
    if callable(ttl):
        return _terms(default, ttl, stale_for, refresh_ahead, timeout)
    try:
        return _known_terms(default, ttl, stale_for, refresh_ahead, timeout)
    except TypeError:  # an argument that has no hash, and is refused
        return _terms(default, ttl, stale_for, refresh_ahead, timeout)


def _terms(
    default: float | None, ttl: TtlOf, stale_for: Duration, refresh_ahead: float | None, timeout: Duration | None
) -> Terms:
    return Terms(
        ttl if callable(ttl) else checked_ttl(ttl, default),
        default,
        seconds(stale_for, "stale_for"),
        0.0 if refresh_ahead is None else _checked_eagerness(refresh_ahead),
        optional_seconds(timeout, "timeout"),
    )


# A program has few terms and asks for them at every call. True is not 1 here, so the kinds of arguments count, too.
_known_terms = lru_cache(maxsize=256, typed=True)(_terms)


def checked_ttl(ttl: Ttl, default: float | None) -> float | None:
    """Return the ttl in seconds, None for good. Raises `InvalidInputError` for a negative one and the like."""
    if ttl is ...:
        return default
    return None if ttl is None else seconds(ttl, "ttl")


def checked_keys(keys: Iterable[str], at: str = "keys") -> list[str]:
    """Return the texts, each once, in order. Raises `InvalidInputError` for what is not text, and for a single text."""
    if isinstance(keys, str) or not isinstance(keys, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - input
        raise InvalidInputError(f"{at}: expected several, such as a list, got {type(keys).__name__}")
    return list(dict.fromkeys(check_texts(list(keys), at)))


def check_mapping(values: object, at: str) -> None:
    """Raise `InvalidInputError` for what is no mapping."""
    if not isinstance(values, Mapping):
        raise InvalidInputError(f"{at}: expected a mapping of keys to values, got {type(values).__name__}")


def checked_increment(by: object) -> int:
    """Return what to add. Raises `InvalidInputError` for what is no whole number of 64 bits."""
    if type(by) is not int or by not in range(-(2**63), 2**63):
        raise InvalidInputError(f"by: expected a whole number from -2**63 to 2**63 - 1, got {by!r}"[:200])
    return by


def _checked_eagerness(refresh_ahead: object) -> float:
    if isinstance(refresh_ahead, int | float) and 0 <= refresh_ahead <= sys.float_info.max:
        return float(refresh_ahead)
    raise InvalidInputError(
        f"refresh_ahead: expected a finite number of zero or more (1 is usual), got {refresh_ahead!r}"[:200]
    )
