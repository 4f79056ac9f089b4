"""Values to bytes and back: one set of rules for every module, in JSON and in MessagePack.

`docs/values.md` has the table of what a reader gets. A value is written twice: by a checking encoder, which is
strict about keys and integers, and by the real one. Both are C and take microseconds. Only when the check finds
something does a slow walk through the value decide, and name the place.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from types import FunctionType, MappingProxyType, SimpleNamespace
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import msgspec

from pilotis.errors import InvalidInputError, TypeMismatchError
from pilotis.kinds import WHAT_WORKS, is_pydantic, kind_name, refuse_unfit, to_builtins

# What NaN and the infinities look like in MessagePack, as float and as Decimal. Text and bytes may hold the same
# by chance: the walk then finds nothing wrong.
_SUSPECT = re.compile(rb"\xcb[\x7f\xff]|NaN|Infinity")


class _Decoder(Protocol):
    def decode(self, buf: bytes, /) -> Any: ...


class _Misfit(ValueError):
    """What a pydantic model said: `place` is the path inside the model."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(message)
        self.place = place


class _UnknownType(Exception):
    """No rule makes this type. Not a ValueError: msgspec would report the data, and the data is not to blame."""


class Codec:
    """Writes values in one format and reads them again. May be used from any thread."""

    def __init__(self, encode: Callable[[object], bytes], decoder: Callable[[Any], _Decoder]) -> None:
        self._encode = encode
        self._decoder = decoder
        self._cached_decoder = lru_cache(maxsize=1024)(decoder)
        self._decode_any = decoder(Any).decode

    def encode(self, value: object, at: str = "value") -> bytes:
        """Return `value` as bytes.

        Raises InvalidInputError, with the path inside the value, for NaN and infinity, text with lone surrogates,
        integers outside -2**63 to 2**64 - 1, keys that are not text, values that contain themselves, and kinds that
        have no rule. `at` is how the path begins.
        """
        if not _is_plainly_fit(value):
            refuse_unfit(value, at, self._encode)
        try:
            return self._encode(value)
        except RecursionError as error:
            raise InvalidInputError(f"{at}: nested too deeply") from error
        except Exception as error:
            raise InvalidInputError(f"{at}: cannot be encoded: {error}") from error

    def decode(self, data: bytes, type: Any = Any, at: str = "value") -> Any:
        """Return the value that `data` holds, as a `type`; without one, as the format's own kinds.

        Raises TypeMismatchError, with the path inside the value, for data that does not fit the type, and for
        corrupted data; InvalidInputError for a type that no data can ever fit.
        """
        try:
            return self._decode_any(data) if type is Any else self._decoder_for(type).decode(data)
        except Exception as error:
            raise _read_error(error, type, at) from error

    def decoder(self, type: Any) -> Callable[[bytes], Any]:
        """Return a function that decodes many, and tells no more than that it failed: by whatever error msgspec has.

        Raises InvalidInputError for what is no type.
        """
        try:
            return self._decode_any if type is Any else self._decoder_for(type).decode
        except Exception as error:
            raise _read_error(error, type, "type") from error

    def reader(self, type: Any) -> Callable[[bytes, str], Any]:
        """Return `decode` for one type, as a function of the data and what the path begins with: for many values."""
        decode = self.decoder(type)

        def read(data: bytes, at: str) -> Any:
            try:
                return decode(data)
            except Exception as error:
                raise _read_error(error, type, at) from error

        return read

    def convert(self, value: object, type: Any, at: str = "value") -> Any:
        """Return a value that was decoded without a type as a `type`. Raises the same errors as `decode`."""
        try:
            return msgspec.convert(value, type, dec_hook=_from_builtins)
        except Exception as error:
            raise _read_error(error, type, at) from error

    def _decoder_for(self, type: Any) -> _Decoder:
        try:
            return self._cached_decoder(type)
        except TypeError:  # it has no hash, or cannot be read at all
            return self._decoder(type)


# Writing


def _is_plainly_fit(value: object) -> bool:
    try:
        data = _CHECKING_ENCODER.encode(value)
    except Exception:  # whatever it was, the walk finds it and tells
        return False
    return _SUSPECT.search(data) is None


# Reading


def _from_builtins(kind: Any, value: Any) -> Any:
    """Make a `kind` that msgspec does not know from one that it does."""
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    if is_pydantic(kind):
        return _validated(kind, value)
    if isinstance(kind, type):
        for base in (str, int, float):
            if issubclass(kind, base):
                return _made(kind, base, value)
    raise _UnknownType(f"no rule makes a {kind_name(kind)}; what works: {WHAT_WORKS}")


def _made(kind: type, base: type, value: object) -> object:
    if not isinstance(value, base) or isinstance(value, bool):
        raise TypeError(f"Expected `{base.__name__}`, got `{type(value).__name__}`")
    return kind(value)


def _validated(kind: Any, value: object) -> object:
    # From JSON text, not from builtins: strict models and encoded bytes are read by pydantic's JSON rules only.
    data = msgspec.json.encode(value)
    try:
        return kind.model_validate_json(data)
    except ValueError as error:
        errors: Callable[..., list[dict[str, Any]]] | None = getattr(error, "errors", None)
        if errors is None:
            raise
        first = errors(include_url=False, include_input=False, include_context=False)[0]
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
        raise _Misfit(place, first["msg"]) from None


_ADDRESS = re.compile(r"(?P<what>.*) - at (?P<key>`key` in )?`\$?(?P<place>.*)`", re.DOTALL)


def _read_error(error: Exception, type: Any, at: str) -> InvalidInputError:
    match error:
        case msgspec.ValidationError():
            return TypeMismatchError(_mismatch(error, at))
        case msgspec.DecodeError() | UnicodeDecodeError():
            return TypeMismatchError(f"{at}: corrupted data: {error}")
        case RecursionError():
            return TypeMismatchError(f"{at}: corrupted data: nested too deeply")
        case _UnknownType() | TypeError():
            return InvalidInputError(f"{at}: cannot be read as {kind_name(type)}: {error}")
        case _:
            return TypeMismatchError(f"{at}: does not fit {kind_name(type)}: {error}")


def _mismatch(error: msgspec.ValidationError, at: str) -> str:
    found = _ADDRESS.fullmatch(str(error))
    what, place = (found["what"], found["place"]) if found else (str(error), "")
    what = what[:1].lower() + what[1:].replace("`", "")
    if found and found["key"]:
        what = f"a key: {what}"
    if isinstance(error.__cause__, _Misfit):
        place += error.__cause__.place
    return f"{at}{place}: {what}"


# The two formats, and JSON in one spelling only


def _json_decoder(type: Any) -> _Decoder:
    return msgspec.json.Decoder(type, dec_hook=_from_builtins)


def _messagepack_decoder(type: Any) -> _Decoder:
    return msgspec.msgpack.Decoder(type, dec_hook=_from_builtins)


# With an order msgspec refuses keys that are not text, and MessagePack refuses large integers: just what is checked.
_CHECKING_ENCODER = msgspec.msgpack.Encoder(enc_hook=to_builtins, order="deterministic")

JSON = Codec(msgspec.json.Encoder(enc_hook=to_builtins).encode, _json_decoder)
"""Events, notifications and workflows: readable by people and by any language."""

MESSAGEPACK = Codec(msgspec.msgpack.Encoder(enc_hook=to_builtins).encode, _messagepack_decoder)
"""The cache: smaller and faster, and bytes stay bytes."""

CANONICAL = Codec(msgspec.json.Encoder(enc_hook=to_builtins, order="deterministic").encode, _json_decoder)
"""JSON with sorted keys and sets, so that equal values have equal bytes: for digests and derived keys."""


# Types, where they are already written

_UNRESOLVED = object()
_annotations: WeakKeyDictionary[Any, Mapping[str, Any]] = WeakKeyDictionary()
_return_types: WeakKeyDictionary[FunctionType, Any] = WeakKeyDictionary()


def return_type(function: Callable[..., Any]) -> Any:
    """Return what `function` says it returns, awaited where it is async; Any where that is absent or unresolvable."""
    plain = _plain_function(function)
    if type(plain) is not FunctionType:
        return _returned(_resolved(plain))
    if not plain.__annotations__:
        return Any
    if (found := _return_types.get(plain, _UNRESOLVED)) is not _UNRESOLVED:
        return found
    returned = _returned(_resolved(plain))
    if plain in _annotations:
        _return_types[plain] = returned
    return returned


def _returned(annotations: Mapping[str, Any]) -> Any:
    annotation = annotations.get("return", Any)
    if inspect.isclass(origin := typing.get_origin(annotation)) and issubclass(origin, typing.Awaitable):
        return typing.get_args(annotation)[-1]
    return annotation


def parameter_types(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the annotation of each parameter of `function`, in order; Any where it is absent or unresolvable.

    The `self` of a bound method is not a parameter.
    """
    annotations = _resolved(_plain_function(function))
    return MappingProxyType({name: annotations.get(name, Any) for name in inspect.signature(function).parameters})


def _resolved(plain: Any) -> Mapping[str, Any]:
    try:
        return _annotations[plain]
    except (KeyError, TypeError):  # TypeError: what has no weak references, or no hash
        return _resolve(plain)


def _plain_function(function: Any) -> Any:
    """Return the function inside methods, partials, wrappers and callable objects: what holds the annotations."""
    while True:
        if isinstance(function, partial):
            function = function.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        elif type(function) is FunctionType and not function.__dict__:  # nothing is around it
            return function
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__  # pyright: ignore[reportFunctionMemberAccess] - it has one
        elif inspect.ismethod(function):
            function = function.__func__
        elif inspect.isroutine(function) or inspect.isclass(function):
            return function
        else:
            function = type(function).__call__


def _resolve(function: Any) -> Mapping[str, Any]:
    written: dict[str, Any] = getattr(function, "__annotations__", {})
    evaluated = {name: _evaluated(annotation, function) for name, annotation in written.items()}
    resolved = {name: annotation for name, annotation in evaluated.items() if annotation is not _UNRESOLVED}
    # A name may be defined later in its module: only what is resolved whole is kept.
    if len(resolved) == len(written) and inspect.isfunction(function):
        _annotations[function] = resolved
    return resolved


def _evaluated(annotation: Any, function: Any) -> Any:
    holder = SimpleNamespace(__annotations__={"it": annotation})
    names = dict(getattr(function, "__globals__", {})) | _closure(function)
    try:
        return typing.get_type_hints(holder, names, include_extras=True)["it"]
    except Exception:  # an annotation may be any expression, and fail in any way
        return _UNRESOLVED


def _closure(function: Any) -> dict[str, Any]:
    """Return the variables that a nested function sees, because its annotations may be written with them."""
    cells = getattr(function, "__closure__", None) or ()
    names = function.__code__.co_freevars if cells else ()
    return {name: cell.cell_contents for name, cell in zip(names, cells, strict=True)}
