"""How a value is stored: a byte that tells the version, perhaps a head, then MessagePack.

    12345                       a whole number, as decimal text: providers can count with it
    01 <MessagePack>            any other value
    02 <length, 4 bytes> <head> <one of the above>
    03 ... 1f                   newer versions of Pilotis: a miss, and left alone

Everything else is not ours, or corrupted.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from pilotis.codec import MESSAGEPACK
from pilotis.errors import TypeMismatchError

PLAIN = 1
HEADED = 2

_NEWER = range(3, 0x20)
_COUNTABLE = range(-(2**63), 2**63)
_NUMBER = re.compile(rb"-?[0-9]{1,19}")
_FIRST_OF_NUMBER = frozenset(b"-0123456789")
_LENGTH = 4


class Head(msgspec.Struct, array_like=True, frozen=True):
    """What is known of a value beside itself. Later versions may add fields at the end."""

    expires: float | None = None
    """When the value is no longer fresh, in seconds since 1970; None where the provider's ttl alone decides."""
    cost: float = 0.0
    """How many seconds it took to compute."""
    epochs: dict[str, int] = {}
    """The epochs of its tags, by their key, from before it was computed."""


_encode_head = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(Head).decode
NO_HEAD = Head()


def seal(value: object, at: str = "value") -> bytes:
    """Return the stored form of a value. Raises `InvalidInputError` for what cannot be encoded."""
    if type(value) is int and value in _COUNTABLE:
        return b"%d" % value
    return b"\x01" + MESSAGEPACK.encode(value, at)


def with_head(head: Head, sealed: bytes) -> bytes:
    """Put a head before a stored form, if it says anything."""
    if head == NO_HEAD:
        return sealed
    packed = _encode_head(head)
    return b"".join((b"\x02", len(packed).to_bytes(_LENGTH), packed, sealed))


def split(data: bytes) -> tuple[Head, bytes]:
    """Take a head off again. Raises `TypeMismatchError` for a corrupted one."""
    if data[:1] != b"\x02":
        return NO_HEAD, data
    start = 1 + _LENGTH
    end = start + int.from_bytes(data[1:start])
    try:
        return _decode_head(data[start:end]), data[end:]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TypeMismatchError(f"value: corrupted head: {error}") from error


def unseal(sealed: bytes, type: Any, at: str = "value") -> Any:
    """Return the value of a stored form without a head, as a `type`.

    Raises `TypeMismatchError` for what does not fit, is corrupted or was never ours.
    """
    first = sealed[0] if sealed else None
    if first == PLAIN:
        return MESSAGEPACK.decode(sealed[1:], type, at)
    if first in _FIRST_OF_NUMBER and _NUMBER.fullmatch(sealed):
        return MESSAGEPACK.convert(int(sealed), type, at)
    raise TypeMismatchError(f"{at}: corrupted data, or written by something else")


def is_broken(data: bytes) -> bool:
    """Tell whether nobody can read `data`, whatever type they ask for."""
    if data and data[0] in _NEWER:
        return False
    try:
        unseal(split(data)[1], Any)
    except TypeMismatchError:
        return True
    return False
