"""Counting with what is stored, for backends that cannot."""

from __future__ import annotations

from pilotis.errors import InvalidInputError

_COUNTABLE = range(-(2**63), 2**63)


def counted(value: bytes | None, by: int) -> int:
    """Return the sum of the number in an entry, or of zero where there is none, and `by`.

    Raises `InvalidInputError` as `CacheProvider.count` must: for what is no whole number in the one spelling that every
    backend can count with, and for a sum outside 64 bits.
    """
    total = by + (0 if value is None else _number(value))
    if total not in _COUNTABLE:
        raise InvalidInputError(f"the sum, {total}, is outside -2**63 to 2**63 - 1")
    return total


def _number(value: bytes) -> int:
    try:
        number = int(value)
    except ValueError:
        number = None
    if number is None or b"%d" % number != value:
        raise InvalidInputError("expected a whole number to count with; the entry holds something else")
    return number
