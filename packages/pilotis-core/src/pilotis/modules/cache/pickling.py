"""Values as pickles, for those who choose that: any object, readable by Python alone. Only what is signed is read."""

from __future__ import annotations

import pickle
import types
import typing
from typing import Any

from pilotis.errors import InvalidInputError, TypeMismatchError
from pilotis.kinds import kind_name
from pilotis.modules.cache import envelope
from pilotis.modules.cache.envelope import PACKED, PICKLED, ForeignFormError

_MARK = bytes([PACKED, PICKLED])


def seal(value: object, at: str = "value") -> bytes:
    """Return the stored form of a value. Raises `InvalidInputError` for what cannot be pickled."""
    if envelope.is_countable(value):
        return envelope.seal(value, at)
    try:
        return _MARK + pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # whatever the value's own methods raise
        raise InvalidInputError(f"{at}: cannot be pickled: {error}") from error


def unseal(sealed: bytes, type: Any, at: str = "value") -> Any:
    """Return the value of a stored form that was signed, pickled or not.

    A pickle keeps its own type: one that is not the `type` asked for, and one whose class is not here, raises
    `TypeMismatchError`.
    """
    if sealed[:1] != _MARK[:1]:
        return envelope.unseal(sealed, type, at)
    flags, body = envelope.unpacked(sealed, at)
    if not flags & PICKLED:
        return envelope.unseal(body, type, at)
    value = _loaded(body, at)
    if not _is_a(value, type):
        raise TypeMismatchError(f"{at}: expected {kind_name(type)}, got {kind_name(value.__class__)}")
    return value


def _loaded(body: bytes, at: str) -> Any:
    try:
        return pickle.loads(body)  # noqa: S301 - its signature is good
    except Exception as error:  # classes that moved raise anything
        raise ForeignFormError(f"{at}: cannot be unpickled here: {error}") from error


def _is_a(value: object, type: Any) -> bool:
    """Tell whether a value is of a type, as far as that can be told by its class."""
    if type is Any:
        return True
    origin = typing.get_origin(type) or type
    if origin in (typing.Union, types.UnionType):
        return any(_is_a(value, kind) for kind in typing.get_args(type))
    try:
        return isinstance(value, origin)
    except TypeError:  # no class, such as a literal
        return True
