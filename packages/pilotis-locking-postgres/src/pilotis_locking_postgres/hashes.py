"""Which number an advisory lock has."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

PERSON = b"pilotis locks"


def number_of(namespace: str, key: str) -> int:
    """Return the 64-bit number of a key: the first 8 bytes, big-endian and signed, of BLAKE2b (RFC 7693).

    The same on every machine and in every version: it is how processes meet. Two of a million keys share one with a
    probability of 1 to 37 million; then they exclude one another, and nothing worse.
    """
    text = f"{namespace}\0{key}".encode()
    return int.from_bytes(blake2b(text, digest_size=8, person=PERSON).digest(), "big", signed=True)


def numbers_of(namespace: str, keys: Iterable[str]) -> list[int]:
    """Return the numbers of sorted keys, each once, in the order of the keys: that in which everybody takes them."""
    return list(dict.fromkeys(number_of(namespace, key) for key in keys))
