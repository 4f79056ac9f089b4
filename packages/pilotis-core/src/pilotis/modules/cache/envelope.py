"""How a value is stored: a byte that tells the version, perhaps a head, then MessagePack.

    12345                       a whole number, as decimal text: providers can count with it
    01 <MessagePack>            any other value
    02 <length, 4 bytes> <head> <one of the above>
    04 <flags> <body>           packed: compressed by zlib, or a pickle, or both
    05 <signature, 32 bytes> <one of the above>
    03, 06 ... 1e               other versions of Pilotis: a miss, and left alone
    1f <mark>                   a claim: the value is being computed. A miss, and left alone

Signatures are taken off before anything else; without a secret a signed entry is a miss, and left alone.

Everything else is not ours, or corrupted.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from typing import Any, TypeGuard

import msgspec

from pilotis.codec import MESSAGEPACK
from pilotis.errors import TypeMismatchError

PLAIN = 1
HEADED = 2
PACKED = 4
SIGNED = 5
COMPRESSED, PICKLED = 1, 2
"""The flags of what is packed."""

LONGEST_UNPACKED = 64 * 1024 * 1024
"""Bytes. What is longer is not compressed, so that nothing unpacks to more: a few bytes could fill the memory."""

_FOREIGN = frozenset(range(3, 0x20)) - {PACKED}
_COUNTABLE = range(-(2**63), 2**63)
_NUMBER = re.compile(rb"-?[0-9]{1,19}")
_FIRST_OF_NUMBER = frozenset(b"-0123456789")
_LENGTH = 4


class ForeignFormError(TypeMismatchError):
    """A form that is not for this reader: another version, or other settings, may well read it."""


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


def is_countable(value: object) -> TypeGuard[int]:
    """Tell whether a value is stored as a number."""
    return type(value) is int and value in _COUNTABLE


def is_number(data: bytes) -> bool:
    """Tell whether a stored form is a number."""
    return _NUMBER.fullmatch(data) is not None


def compressed(sealed: bytes) -> bytes:
    """Return a stored form without a head in less room, if that is possible."""
    flags, body = unpacked(sealed) if sealed[0] == PACKED else (0, sealed)
    if len(body) > LONGEST_UNPACKED:
        return sealed
    smaller = bytes([PACKED, flags | COMPRESSED]) + zlib.compress(body)
    return smaller if len(smaller) < len(sealed) else sealed


def unpacked(sealed: bytes, at: str = "value") -> tuple[int, bytes]:
    """Return the flags and the body of a packed form, which is compressed no more.

    Raises `TypeMismatchError` for a corrupted one, and for one that would be longer than `LONGEST_UNPACKED`.
    """
    flags, body = (sealed[1], sealed[2:]) if len(sealed) > 1 else (0, b"")
    if flags & ~(COMPRESSED | PICKLED):
        raise ForeignFormError(f"{at}: packed by a newer version")
    return flags, _inflated(body, at) if flags & COMPRESSED else body


def _inflated(body: bytes, at: str) -> bytes:
    inflation = zlib.decompressobj()
    try:
        inflated = inflation.decompress(body, LONGEST_UNPACKED + 1)
    except zlib.error as error:
        raise TypeMismatchError(f"{at}: corrupted data: {error}") from error
    if len(inflated) > LONGEST_UNPACKED:
        raise TypeMismatchError(f"{at}: corrupted data: unpacks to more than {LONGEST_UNPACKED} bytes")
    if not inflation.eof:
        raise TypeMismatchError(f"{at}: corrupted data: cut off")
    return inflated


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
    if first == PACKED:
        return _unseal_packed(sealed, type, at)
    if first in _FOREIGN:
        raise ForeignFormError(f"{at}: written by another version of Pilotis, or signed")
    raise TypeMismatchError(f"{at}: corrupted data, or written by something else")


def plain_values(entries: Iterable[bytes | None], names: Iterable[str], type: Any) -> dict[str, Any]:
    """Return the values of those entries that are there, have no head and are read without a question, by name.

    What is a number or packed is left out. Where one is corrupted or of another type, all are.
    """
    read = MESSAGEPACK.decoder(type)
    pairs = zip(names, entries, strict=True)
    try:
        return {name: read(entry[1:]) for name, entry in pairs if entry and entry[0] == PLAIN}
    except Exception:  # whoever looks closer is told
        return {}


def _unseal_packed(sealed: bytes, type: Any, at: str) -> Any:
    flags, body = unpacked(sealed, at)
    if flags & PICKLED:
        raise ForeignFormError(f'{at}: a pickle, which is read with serializer = "pickle" only')
    if body[:1] == sealed[:1]:
        raise TypeMismatchError(f"{at}: corrupted data: packed twice")
    return unseal(body, type, at)


def is_broken(data: bytes) -> bool:
    """Tell whether nobody can read `data`, whatever type they ask for."""
    try:
        unseal(split(data)[1], Any)
    except ForeignFormError:
        return False
    except TypeMismatchError:
        return True
    return False
