"""The kinds of values that have a rule, and the walk that finds the part of a value that has none."""

from __future__ import annotations

import dataclasses
import enum
import math
import typing
from collections.abc import Callable, Iterable
from typing import Any, cast

import msgspec

from pilotis.errors import InvalidInputError

_INTEGERS = range(-(2**63), 2**64)
WHAT_WORKS = (
    "None, bool, int, float, str, bytes, list, tuple, set, a dict with text keys, datetime, date, time, timedelta, "
    "Decimal, UUID, an enum, a dataclass, a msgspec.Struct or a pydantic model"
)


def to_builtins(value: Any) -> object:
    """Return kinds that msgspec knows for one that it does not."""
    if is_pydantic(type(value)):
        # Written as pydantic itself writes JSON, in both formats, so that its own reader understands it.
        return value.model_dump(mode="json", by_alias=True, round_trip=True)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    raise TypeError(f"no rule for {type(value).__qualname__}")


def is_pydantic(kind: Any) -> bool:
    return hasattr(kind, "model_dump") and hasattr(kind, "model_validate_json")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """Where the walk is: a value, how its parent reaches it, and the parent."""

    value: object
    step: str
    parent: _Place | None = None

    def path(self) -> str:
        steps: list[str] = []
        place: _Place | None = self
        while place is not None:
            steps.append(place.step)
            place = place.parent
        return "".join(reversed(steps))


def refuse_unfit(value: object, at: str, encode: Callable[[object], bytes]) -> None:
    """Walk through `value` and raise InvalidInputError for the first part of it that cannot be written."""
    inside: set[int] = set()
    to_do = [(_Place(value, at), False)]
    while to_do:
        place, leaving = to_do.pop()
        if leaving:
            inside.remove(id(place.value))
        elif (parts := _parts(place)) is None:
            _refuse_unfit_leaf(place, encode)
        elif id(place.value) in inside:
            raise InvalidInputError(f"{place.path()}: the value contains itself, which no format can hold")
        else:
            inside.add(id(place.value))
            to_do.append((place, True))
            to_do.extend([(_Place(part, step, place), False) for step, part in reversed(parts)])


def _parts(place: _Place) -> list[tuple[str, object]] | None:
    """Return the values inside a container, each with its step of the path; None where there is no inside."""
    value = place.value
    if isinstance(value, dict):
        return [(_key_step(key, place), part) for key, part in cast("dict[object, object]", value).items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [(f"[{index}]", part) for index, part in enumerate(cast("Iterable[object]", value))]
    if isinstance(value, enum.Enum):
        return [("", cast("object", value.value))]
    if is_pydantic(type(value)):
        return [("", _dumped(place))]
    names = _field_names(type(value))
    return None if names is None else [(f".{name}", getattr(value, name)) for name in names if hasattr(value, name)]


def _key_step(key: object, place: _Place) -> str:
    if not isinstance(key, str):
        raise InvalidInputError(
            f"{place.path()}: expected keys that are text, got one of type {kind_name(type(key))}; "
            f"write a list of pairs, or make the keys text"
        )
    _refuse_surrogates(key, f"{place.path()}: a key")
    return f".{key}" if key.isidentifier() else f"[{_short(key)}]"


def _dumped(place: _Place) -> object:
    try:
        return to_builtins(place.value)
    except Exception as error:
        kind = kind_name(type(place.value))
        raise InvalidInputError(f"{place.path()}: {kind} cannot be written as JSON: {error}") from error


def _field_names(kind: type[Any]) -> list[str] | None:
    if issubclass(kind, msgspec.Struct):
        return list(kind.__struct_fields__)
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    attributes: Iterable[Any] | None = getattr(kind, "__attrs_attrs__", None)
    return None if attributes is None else [attribute.name for attribute in attributes]


def _refuse_unfit_leaf(place: _Place, encode: Callable[[object], bytes]) -> None:
    value = place.value
    if value is msgspec.UNSET and place.parent is not None and _field_names(type(place.parent.value)) is not None:
        return
    if isinstance(value, str):
        _refuse_surrogates(value, f"{place.path()}: text")
    if isinstance(value, int) and int(value) not in _INTEGERS:
        raise InvalidInputError(
            f"{place.path()}: expected an integer from -2**63 to 2**64 - 1, got one of {value.bit_length()} bits; "
            f"write it as text or Decimal"
        )
    if not _is_finite(value):
        raise InvalidInputError(f"{place.path()}: expected a finite number, got {value}; write None for no number")
    try:
        encode(value)
    except Exception as error:
        raise InvalidInputError(f"{place.path()}: {_reason(error, value)}") from error


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    is_finite: Callable[[], bool] | None = getattr(value, "is_finite", None)
    return is_finite is None or is_finite()


def _refuse_surrogates(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"{what} with a lone surrogate (\\u{ord(text[error.start]):04x} at index {error.start}) cannot be written "
            f"as UTF-8; write bytes, or replace it"
        ) from None


def _reason(error: Exception, value: object) -> str:
    if isinstance(error, TypeError):
        return f"no rule writes a {kind_name(type(value))}; what works: {WHAT_WORKS}"
    return f"a {kind_name(type(value))} that cannot be written: {error}"


def _short(key: str) -> str:
    text = repr(key)
    return text if len(text) <= 60 else f"{text[:57]}..."


def kind_name(kind: Any) -> str:
    if not isinstance(kind, type) or typing.get_origin(kind):
        return str(kind).replace("typing.", "")
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
