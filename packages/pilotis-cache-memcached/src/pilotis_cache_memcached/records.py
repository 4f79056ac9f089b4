"""What is kept under which key: a short head, then the value.

    version     1 byte
    deadline    8 bytes, seconds since 1970; infinite for good. Memcached itself knows whole seconds only
    born        8 bytes, the number of the store that the value comes from; 0 for the item's own

Memcached ends items too, some seconds after the deadline: that is how it comes by its memory again.
"""

from __future__ import annotations

import math
import re
import struct
from functools import lru_cache
from hashlib import blake2b

import msgspec

MONTH = 30 * 86_400
"""Seconds: what is longer counts as seconds since 1970 in Memcached."""
LAST = 2**31 - 1
"""The last time that Memcached can be told."""

_HEAD = struct.Struct(">Bdq")
_HEAD_SIZE = _HEAD.size
_pack_head = _HEAD.pack
_unpack_head = _HEAD.unpack_from
_VERSION = 1
_is_fit = re.compile(r"[!-}][!-~]{0,249}").fullmatch


class Record(msgspec.Struct, frozen=True, gc=False):
    """An item, as it was read."""

    number: int
    """Of the store that it comes from."""
    value: bytes | None = None
    """None for an item that does not count: it is over, was removed, or is somebody else's."""
    deadline: float = 0.0
    born: int = 0
    """The number of the store that the value comes from."""


def pack(value: bytes, deadline: float, born: int = 0) -> bytes:
    """Return the data of an item: of its own, or with the age of a value that it follows."""
    return _pack_head(_VERSION, deadline, born) + value


def unpack(data: bytes, number: int) -> Record:
    """Return the item with a number. One that is none of ours, or of a later version, has no value."""
    if len(data) < _HEAD_SIZE or data[0] != _VERSION:
        return Record(number)
    _, deadline, born = _unpack_head(data)
    return Record(number, data[_HEAD_SIZE:], deadline, born or number)


def deadline_after(ttl: float | None, now: float) -> float:
    return math.inf if ttl is None else now + ttl


def expiry(deadline: float, now: float) -> int:
    """Return when Memcached should end an item, in its own terms: never before the deadline.

    Its clock ticks once a second, so that it takes up to one off what it is told.
    """
    if math.isinf(deadline):
        return 0
    left = max(0, math.ceil(deadline - now)) + 1
    if left <= MONTH:
        return left
    moment = math.ceil(deadline) + 1
    return moment if moment <= LAST else 0


def item_name(key: str) -> str:
    """Return the key as Memcached can have it: itself, or a digest that no other key has, if it is long or unfit."""
    return key if _is_fit(key) else f"~{_digest(key)}"


@lru_cache(1024)
def log_name(space: str) -> str:
    """Return where the log of a namespace is. No key is mapped to it."""
    return f"~log:{_digest(space)}"


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()
