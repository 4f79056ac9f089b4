"""Keys and names: checked, made from a function's arguments, matched by patterns."""

from __future__ import annotations

import enum
import inspect
import string
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, NoReturn, cast

from pilotis.codec import CANONICAL
from pilotis.errors import ConfigurationError, InvalidInputError
from pilotis.kinds import kind_name

LONGEST = 1024
"""The characters a key or name may have, where nothing else is said."""

_LONGEST_DERIVED = 200
_PLAIN_KINDS = (str, int, float, type(None))


def check_text(value: object, at: str, *, maximum: int = LONGEST) -> str:
    """Return `value` if it can be a key or a name.

    Raises InvalidInputError naming `at` for what is not text, is empty or longer than `maximum` characters, or
    holds control characters or lone surrogates.
    """
    if not isinstance(value, str):
        raise InvalidInputError(f"{at}: expected text, got {type(value).__name__}")
    if not 1 <= len(value) <= maximum:
        raise InvalidInputError(f"{at}: expected text of 1 to {maximum} characters, got {len(value)}")
    if not value.isprintable():
        _refuse_characters(value, at)
    return value


def check_texts(values: Sequence[object], at: str, *, maximum: int = LONGEST) -> Sequence[str]:
    """Return `values` if each of them can be a key or a name. Raises as `check_text` does, naming the first unfit."""
    try:
        texts = cast("Sequence[str]", values)
        if "".join(texts).isprintable() and all(texts) and max(map(len, texts), default=0) <= maximum:
            return texts  # at once: one by one takes ten times as long
    except TypeError:  # not text
        pass
    return [check_text(value, f"{at}[{index}]", maximum=maximum) for index, value in enumerate(values)]


def check_flag(value: object, at: str) -> bool:
    """Return `value` if it is True or False. Raises InvalidInputError naming `at`."""
    if not isinstance(value, bool):
        raise InvalidInputError(f"{at}: expected True or False, got {type(value).__name__}")
    return value


def _refuse_characters(text: str, at: str) -> None:
    kinds = {"Cc": "control characters", "Cs": "lone surrogates"}
    for index, character in enumerate(text):
        if kind := kinds.get(unicodedata.category(character)):
            raise InvalidInputError(f"{at}: expected text without {kind}, got U+{ord(character):04X} at index {index}")


# Keys from arguments


class KeyTemplate:
    """Makes keys such as "price:{product_id}:{currency}" from the arguments of a function.

    A field is a parameter, or with dots what it leads to: "{order.id}" is an attribute, or an entry of a mapping.
    Double braces stand for themselves. Bound once, when the function is decorated: a field that the function does
    not have raises ConfigurationError there.
    """

    def __init__(self, template: str, function: Callable[..., Any]) -> None:
        self.template = template
        self._function = _name(function)
        self._parameters = _Parameters(function)
        self._parts = [self._part(*part) for part in self._parsed()]

    def render(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Return the key for a call with these arguments; defaults are filled in.

        Raises InvalidInputError for a field whose value has no text of its own (a list, most objects), and, as the
        call itself would, TypeError for arguments that the function does not take.
        """
        arguments = self._parameters.bound(args, kwargs)
        return "".join([literal + self._text(steps, arguments) for literal, steps in self._parts])

    def _parsed(self) -> list[tuple[str, str | None, str | None, str | None]]:
        try:
            return list(string.Formatter().parse(self.template))
        except ValueError as error:
            self._refuse(str(error))

    def _part(self, literal: str, field: str | None, spec: str | None, conversion: str | None) -> tuple[str, list[str]]:
        if field is None:
            return literal, []
        steps = field.split(".")
        if spec or conversion or not all(step.isidentifier() for step in steps):
            self._refuse(f"expected fields such as {{name}} or {{name.attribute}}, got {{{field}}}")
        if steps[0] not in self._parameters.names:
            known = ", ".join(self._parameters.names) or "none"
            self._refuse(f"unknown field {{{field}}}; the parameters of {self._function} are: {known}")
        return literal, steps

    def _text(self, steps: list[str], arguments: Mapping[str, Any]) -> str:
        if not steps:
            return ""
        value = arguments[steps[0]]
        if len(steps) == 1 and type(value) in _PLAIN_KINDS:
            return str(value)
        at = f"key {self.template!r} of {self._function}, field {{{'.'.join(steps)}}}"
        for step in steps[1:]:
            value = _entry(value, step, at)
        return _text_of(value, at)

    def _refuse(self, why: str) -> NoReturn:
        raise ConfigurationError(f"key {self.template!r} of {self._function}: {why}")


class DerivedKey:
    """Makes a key from a function's name and all its arguments: what the cache uses where no key is given.

    The same call has the same key in every process, whether its arguments are given by position, by name or by
    default. A method is refused with ConfigurationError: what of `self` belongs in the key only its author knows.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = _name(function)
        self._parameters = _Parameters(function)
        if next(iter(self._parameters.names), None) in ("self", "cls"):
            raise ConfigurationError(
                f'{self._function} is a method: give it a key of its own, such as key="order:{{self.id}}"'
            )

    def render(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Return the key for a call with these arguments: their JSON, or its digest where that is long.

        Raises InvalidInputError, with the path, for an argument that has no JSON.
        """
        arguments = CANONICAL.encode(self._parameters.bound(args, kwargs), f"{self._function} arguments")
        key = f"{self._function}:{arguments.decode()}"
        if len(key) <= _LONGEST_DERIVED and key.isprintable():
            return key
        return f"{self._function}:{blake2b(arguments, digest_size=20).hexdigest()}"


def derive_key(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Return `DerivedKey(function).render(args, kwargs)`, for a single call."""
    return DerivedKey(function).render(args, kwargs)


def _name(function: Any) -> str:
    while isinstance(function, partial):
        function = function.func
    return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"


class _Parameters:
    """The parameters of a function, to which the arguments of a call are bound."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._signature = inspect.signature(function)
        self.names = tuple(self._signature.parameters)
        kinds = {parameter.kind for parameter in self._signature.parameters.values()}
        self._are_plain = kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD}
        self._defaults = {
            name: parameter.default
            for name, parameter in self._signature.parameters.items()
            if parameter.default is not inspect.Parameter.empty
        }

    def bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the argument of each parameter. Raises TypeError, as the call itself would."""
        if self._are_plain and not kwargs and len(args) == len(self.names):
            return dict(zip(self.names, args, strict=True))
        if self._are_plain and (not kwargs or kwargs.keys() <= set(self.names[len(args) :])):
            arguments = {**self._defaults, **dict(zip(self.names, args, strict=False)), **kwargs}
            if len(arguments) == len(self.names) >= len(args):  # bound by hand, in a tenth of the time
                return arguments
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments


def _entry(value: object, step: str, at: str) -> Any:
    kind = type(value)
    try:
        return cast("Mapping[str, Any]", value)[step] if isinstance(value, Mapping) else getattr(value, step)
    except (KeyError, AttributeError) as error:
        raise InvalidInputError(f"{at}: expected something with {step!r}, got a {kind_name(kind)}") from error


def _text_of(value: Any, at: str) -> str:
    if isinstance(value, enum.Enum):
        value = value.value
    has_text = type(value).__str__ is not object.__str__ and not isinstance(value, bytes | bytearray)
    if isinstance(value, _PLAIN_KINDS) or has_text:
        return str(value)
    raise InvalidInputError(f"{at}: a {kind_name(type(value))} has no text of its own; name a part of it")


# Patterns


def glob(pattern: str) -> Callable[[str], bool]:
    """Return a matcher of whole texts in which `*` stands for any run of characters, and all else for itself.

    Runs between stars are searched for from left to right, each where it occurs first, so that no pattern is slow:
    there is no backtracking (the argument is in Russ Cox, "Glob matching can be simple and fast too", 2017).
    """
    first, *rest = pattern.split("*")
    if not rest:
        return pattern.__eq__
    *middle, last = rest
    return partial(_matches, first, tuple(filter(None, middle)), last)


def _matches(first: str, middle: tuple[str, ...], last: str, text: str) -> bool:
    end = len(text) - len(last)
    position = len(first)
    if position > end or not (text.startswith(first) and text.endswith(last)):
        return False
    for run in middle:
        found = text.find(run, position, end)
        if found < 0:
            return False
        position = found + len(run)
    return True
