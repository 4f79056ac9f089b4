"""From raw values to the fields of a struct. Errors name the place and what was expected, and never the value."""

from __future__ import annotations

import difflib
import math
import re
import types
from collections.abc import Iterable, Mapping
from datetime import timedelta
from enum import Enum
from pathlib import PurePath
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin
from urllib.parse import parse_qsl, urlsplit

import msgspec

from pilotis.backoff import Backoff
from pilotis.errors import ConfigurationError, InvalidInputError
from pilotis.settings.layout import section_at
from pilotis.settings.secrets import Secret
from pilotis.settings.text import LooseText

StructT = TypeVar("StructT", bound=msgspec.Struct)

_PLACE = re.compile(r"^(?P<message>.*?)(?: - at `\$(?P<place>.*)`)?$", re.DOTALL)


def convert_options(options: Mapping[str, object], struct_type: type[StructT], path: str) -> StructT:
    """Return the `Options` of a provider, made of what its settings hold beside the portable ones.

    A `url` goes to the field of that name. Where there is none, `struct_type.from_url(url)` may turn it into other
    options (those that are set beside it win); without that, a bare `memory://` says no more than the name, and its
    query holds options: `memory://?max_entries=100`.

    Raises `ConfigurationError` with the place for an unknown option (and the nearest that exists, portable ones
    included), a value of a wrong type, and a missing option.
    """
    section = section_at(path)
    portable = struct_names(section) if section else ()
    spread = _spread_url(options, struct_type, path)
    return convert_struct(spread, struct_type, path, also=portable, what="option")


def convert_struct(
    table: Mapping[str, object],
    struct_type: type[StructT],
    path: str,
    *,
    also: Iterable[str] = (),
    what: str = "setting",
) -> StructT:
    """Return `table` as a struct. `also` are names that could be written in the same place, for the nearest one."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct_type)}
    for key, value in table.items():
        if key not in fields:
            raise unknown(key, [*fields, *also], path, what, value)
    for name, field in fields.items():
        if field.required and name not in table:
            expected = describe(field.type)
            raise ConfigurationError(f"is missing: expected {expected}", path=join(path, name))
    values = {fields[key].name: convert_value(value, fields[key].type, join(path, key)) for key, value in table.items()}
    try:
        return struct_type(**values)
    except (ValueError, TypeError, InvalidInputError) as error:
        raise ConfigurationError(str(error), path=path) from error


def convert_value(value: object, kind: Any, path: str) -> Any:
    """Return `value` as a `kind`. Text from the environment may be written in any way that has one meaning."""
    kinds = _alternatives(kind)
    if isinstance(value, LooseText):
        value = _structured(value, kinds, path)
    if _is_made(value, kinds):
        return value
    if Backoff in kinds and not isinstance(value, Mapping):
        return _backoff(value, path)
    struct_type = _struct_in(kind)
    if struct_type and isinstance(value, Mapping):
        return convert_struct(cast("Mapping[str, object]", value), struct_type, path)
    return _convert_plain(_spoken(cast("object", value), kinds), kind, path)


def struct_names(struct_type: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the names that the fields of a struct have in settings."""
    return tuple(field.encode_name for field in msgspec.structs.fields(struct_type))


def unknown(key: object, known: Iterable[str], path: str, what: str, value: object = None) -> ConfigurationError:
    """Return the error for a key that does not exist, with the nearest one that does."""
    names = sorted(set(known))
    near = difflib.get_close_matches(str(key), names, n=1)
    advice = f"Did you mean {near[0]!r}?" if near else f"Expected one of: {', '.join(names) or 'none'}."
    return ConfigurationError(f"there is no such {what}{origin(value)}. {advice}", path=join(path, str(key)))


def join(path: str, key: str) -> str:
    """Return the place of `key` inside `path`."""
    return f"{path}.{key}" if path else str(key)


def origin(value: object) -> str:
    """Return where a value comes from, for an error, if it is a variable of the environment."""
    return f" (set by {value.variable})" if isinstance(value, LooseText) and value.variable else ""


# URLs


def _spread_url(options: Mapping[str, object], struct_type: type[msgspec.Struct], path: str) -> Mapping[str, object]:
    url = options.get("url")
    if not isinstance(url, str) or "url" in struct_names(struct_type):
        return options
    others = {key: value for key, value in options.items() if key != "url"}
    return {**_options_in_url(url, struct_type, path), **others}


def _options_in_url(url: str, struct_type: type[msgspec.Struct], path: str) -> dict[str, object]:
    from_url = getattr(struct_type, "from_url", None)
    if from_url is not None:
        return from_url(str(url))
    parts = urlsplit(url)
    if parts.netloc or parts.path or parts.fragment:
        names = ", ".join(struct_names(struct_type)) or "none"
        raise ConfigurationError(
            f"expected '{parts.scheme}://' alone, as this provider has no address. Its options: {names}",
            path=join(path, "url"),
        )
    return {key: LooseText(value) for key, value in parse_qsl(parts.query, keep_blank_values=True)}


# Values


def _is_made(value: object, kinds: list[Any]) -> bool:
    """Tell whether a value needs no conversion: a path, a member of an enum, a struct, and no built-in."""
    return any(isinstance(kind, type) and kind not in _WORDS and isinstance(value, kind) for kind in kinds)


def _spoken(value: object, kinds: list[Any]) -> object:
    """Return what is meant by what people write where msgspec has no conversion for it."""
    if isinstance(value, timedelta) and float in kinds:
        return value.total_seconds()
    if isinstance(value, PurePath) and str in kinds:
        return str(value)
    if isinstance(value, str) and value == "never" and {float, type(None)} <= set(kinds):
        return None
    return value


def _backoff(value: object, path: str) -> Backoff:
    seconds = value if isinstance(value, timedelta) else _convert_plain(value, float, path)
    try:
        return Backoff.fixed(seconds)
    except InvalidInputError as error:
        raise ConfigurationError(str(error), path=path) from error


def _structured(text: LooseText, kinds: list[Any], path: str) -> object:
    """Return a list written `a,b`, and a list or table written as JSON."""
    origins = {get_origin(kind) or kind for kind in kinds}
    if text.lstrip().startswith(("[", "{")) and not origins & {str, Secret}:
        try:
            return msgspec.json.decode(str(text))
        except msgspec.DecodeError:
            raise ConfigurationError(f"expected JSON{origin(text)}", path=path) from None
    if origins & {list, tuple, set, frozenset}:
        return [LooseText(item.strip(), text.variable) for item in text.split(",") if item.strip()]
    return text


def _convert_plain(value: object, kind: Any, path: str) -> Any:
    plain = _plain(value)
    try:
        converted = msgspec.convert(plain, kind, strict=not _is_loose(value), dec_hook=_custom)
    except msgspec.ValidationError as error:
        raise _wrong(error, value, kind, path) from None
    except UnicodeEncodeError:
        raise ConfigurationError(f"expected {describe(kind)}, got text with lone surrogates", path=path) from None
    if isinstance(converted, float) and not math.isfinite(converted):
        raise ConfigurationError(f"expected {describe(kind)}, got a number that is not finite", path=path)
    return converted


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(item) for item in cast("list[object]", value)]
    return str(value) if isinstance(value, LooseText) else value


def _is_loose(value: object) -> bool:
    if isinstance(value, list):
        return any(_is_loose(item) for item in cast("list[object]", value))
    return isinstance(value, LooseText)


def _custom(kind: type, value: object) -> object:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    if issubclass(kind, PurePath) and isinstance(value, str):
        return kind(value)
    raise msgspec.ValidationError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")


def _wrong(error: msgspec.ValidationError, value: object, kind: Any, path: str) -> ConfigurationError:
    found = cast("re.Match[str]", _PLACE.match(str(error)))
    message, place = found["message"], found["place"] or ""
    if place or message.startswith("Expected `object`"):
        return ConfigurationError(f"{_lower(message)}{origin(value)}", path=path + place.replace("[...]", ""))
    got = "" if _is_loose(value) else f", got {_kind_of(value)}"
    return ConfigurationError(f"expected {describe(kind)}{got}{origin(value)}", path=path)


def _lower(message: str) -> str:
    shown = "an unknown choice" if message.startswith("Invalid enum value") else message.replace("`", "")
    return shown[:1].lower() + shown[1:]


def _kind_of(value: object) -> str:
    return "another text" if isinstance(value, str) else type(value).__name__


# Types


def describe(kind: Any) -> str:
    """Return in words what values of a type look like."""
    if _is_enum(kind):
        return " or ".join(repr(member.value) for member in kind)
    if get_origin(kind) is Literal:
        return " or ".join(repr(choice) for choice in get_args(kind))
    if _is_union(kind):
        return " or ".join(describe(part) for part in get_args(kind))
    if hasattr(kind, "__metadata__"):
        return f"{describe(kind.__origin__)}{_bounds(kind.__metadata__)}"
    if get_origin(kind) in (list, tuple, set, frozenset):
        return f"a list of {describe(get_args(kind)[0])}"
    if _is_struct(kind):
        return "a table"
    return _WORDS.get(kind, getattr(kind, "__name__", str(kind)))


_WORDS: dict[Any, str] = {
    str: "text",
    object: "anything",
    Secret: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    bytes: "bytes",
    type(None): "nothing",
    dict: "a table",
    list: "a list",
}


def _bounds(metadata: Iterable[object]) -> str:
    limits = [
        f"{word} {bound:g}"
        for meta in metadata
        if isinstance(meta, msgspec.Meta)
        for word, bound in (("from", meta.ge), ("above", meta.gt), ("up to", meta.le), ("below", meta.lt))
        if bound is not None
    ]
    return "".join(f" {limit}" for limit in limits)


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _alternatives(kind: Any) -> list[Any]:
    if _is_union(kind):
        return [inner for part in get_args(kind) for inner in _alternatives(part)]
    return _alternatives(kind.__origin__) if hasattr(kind, "__metadata__") else [kind]


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    structs = [part for part in _alternatives(kind) if _is_struct(part)]
    return structs[0] if len(structs) == 1 else None
