"""`${VAR}`, `${VAR:-default}` and `${file:/path}` in settings. `$${` is a plain `${`.

What was put in is not expanded again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pilotis.errors import ConfigurationError
from pilotis.settings.text import LooseText

_REFERENCE = re.compile(r"\$(?P<escaped>\$\{)|\$\{(?P<body>[^}]*)(?P<end>\}?)")
_VARIABLE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)


def expand(value: object, env: Mapping[str, str], path: str) -> object:
    """Return `value` with every reference in its texts replaced, those inside tables and lists too.

    Raises `ConfigurationError` with the place for a missing variable, an unreadable file, or a reference that is
    not closed. Text that held a reference comes back as `LooseText`.
    """
    if isinstance(value, str):
        return _expand_text(value, env, path)
    if isinstance(value, Mapping):
        table = cast("Mapping[Any, object]", value)
        return {key: expand(item, env, f"{path}.{key}" if path else str(key)) for key, item in table.items()}
    if isinstance(value, list):
        return [expand(item, env, f"{path}[{index}]") for index, item in enumerate(cast("list[object]", value))]
    return value


def _expand_text(text: str, env: Mapping[str, str], path: str) -> str:
    if "${" not in text:
        return text
    expanded = _REFERENCE.sub(lambda match: _replacement(match, env, path), text)
    return LooseText(expanded, text.variable if isinstance(text, LooseText) else None)


def _replacement(match: re.Match[str], env: Mapping[str, str], path: str) -> str:
    if match["escaped"]:
        return "${"
    if not match["end"]:
        raise ConfigurationError("a '${' is not closed. Write '$${' for the characters themselves", path=path)
    kind, colon, file = match["body"].partition(":")
    return _contents(file, path) if colon and kind == "file" else _variable(match["body"], env, path)


def _variable(body: str, env: Mapping[str, str], path: str) -> str:
    found = _VARIABLE.fullmatch(body)
    if found is None:
        raise ConfigurationError("expected ${VAR}, ${VAR:-default} or ${file:/path}", path=path)
    name, default = found["name"], found["default"]
    value = env.get(name)
    if default is not None:
        return value or default
    if value is None:
        raise ConfigurationError(
            f"the environment has no variable {name}. Set it, or write ${{{name}:-default}}", path=path
        )
    return value


def _contents(file: str, path: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigurationError(f"cannot read {file}: {reason}", path=path) from None
