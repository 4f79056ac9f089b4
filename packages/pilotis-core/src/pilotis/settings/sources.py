"""Where settings come from: a file, and the environment."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from pilotis.errors import ConfigurationError
from pilotis.settings.expand import expand
from pilotis.settings.layout import PORTABLE
from pilotis.settings.merge import Table, merge
from pilotis.settings.text import LooseText

PREFIX = "PILOTIS_"
RESERVED = ("PILOTIS_APP", "PILOTIS_CAMPAIGN", "PILOTIS_CONFIG", "PILOTIS_PROVIDERS")
"""Variables that are no settings. `PILOTIS_CONFIG` names the settings file; `PILOTIS_TEST_*` belongs to the tests."""

APP_KEYS = ("name", "app", "include", "connections", "role", "blocking_in_loop")
TOP_LEVEL = (*APP_KEYS, *PORTABLE)

_TEST_PREFIX = "PILOTIS_TEST_"


# Files


def find_file(start: Path) -> Path | None:
    """Return the settings file of `start` or of the nearest directory above it that has one.

    That is `pilotis.toml`, or a `pyproject.toml` with a table `[tool.pilotis]`; where both are, the first.
    """
    for directory in (start, *start.parents):
        if (directory / "pilotis.toml").is_file():
            return directory / "pilotis.toml"
        if _has_table(directory / "pyproject.toml"):
            return directory / "pyproject.toml"
    return None


def read_toml(file: Path) -> Table:
    """Return the settings in a file: all of it, or of a `pyproject.toml` the table `[tool.pilotis]`.

    Raises `ConfigurationError` naming the file if it cannot be read, or the line where it is no TOML.
    """
    document = _parse(file)
    return _tool_table(document) if file.name == "pyproject.toml" else document


def _has_table(file: Path) -> bool:
    """Look at the text first: a file that is not ours to read may be no TOML at all."""
    try:
        mentions = file.is_file() and b"pilotis" in file.read_bytes()
    except OSError:
        return False
    return mentions and bool(_tool_table(_parse(file)))


def _parse(file: Path) -> Table:
    # Most programs read no file: their start should not pay for the parser.
    import tomllib

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file} is not valid TOML: {_place_of(error)}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} is not UTF-8 text") from None
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from None


def _place_of(error: ValueError) -> str:
    """Return what is wrong and where, without the text that stands there."""
    place = re.search(r"\(at .*\)$", str(error))
    return f"see {place[0].strip('()')[3:]}" if place else "look for a quote or bracket that is not closed"


def _tool_table(document: Table) -> Table:
    tools = document.get("tool", {})
    table: object = cast("Table", tools).get("pilotis") if isinstance(tools, dict) else None
    return cast("Table", table) if isinstance(table, dict) else {}


# Environment


def over_environment(base: Mapping[str, Any], env: Mapping[str, str]) -> Table:
    """Return `base` with the `PILOTIS_*` variables laid over it. `__` goes one table deeper.

    `PILOTIS_CACHE` itself comes before `PILOTIS_CACHE__URL`. Raises `ConfigurationError` for a variable that
    stands for no setting, with the nearest one that does.
    """
    table = dict(base)
    for variable in sorted(filter(_is_setting, env), key=lambda name: (name.count("__"), name)):
        keys = _keys_of(variable, table)
        value = expand(LooseText(env[variable], variable), env, ".".join(keys))
        table = merge(table, _nested(keys, value))
    return table


def _is_setting(variable: str) -> bool:
    return variable.startswith(PREFIX) and not variable.startswith(_TEST_PREFIX) and variable not in RESERVED


def _keys_of(variable: str, table: Table) -> list[str]:
    first, *rest = variable.removeprefix(PREFIX).lower().split("__")
    if first not in TOP_LEVEL or "" in rest:
        raise _unknown_variable(variable)
    keys, place = [first], table.get(first)
    for part in rest:
        keys.append(_spelt(part, place))
        place = cast("Table", place).get(keys[-1]) if isinstance(place, dict) else None
    return keys


def _spelt(part: str, place: object) -> str:
    """Return the key as it stands in the table already: variables have neither capitals nor hyphens."""
    existing = cast("Iterable[str]", place) if isinstance(place, dict) else ()
    return next((key for key in existing if key.lower().replace("-", "_") == part), part)


def _nested(keys: list[str], value: object) -> Table:
    for key in reversed(keys[1:]):
        value = {key: value}
    return {keys[0]: value}


def _unknown_variable(variable: str) -> ConfigurationError:
    first, mark, rest = variable.removeprefix(PREFIX).partition("__")
    known = sorted({*map(str.upper, TOP_LEVEL), *(name.removeprefix(PREFIX) for name in RESERVED)})
    near = difflib.get_close_matches(first, known, n=1)
    if near and near[0] != first:
        advice = f"Did you mean {PREFIX}{near[0]}{mark}{rest}?"
    else:
        names = ", ".join(f"{PREFIX}{name}" for name in known)
        advice = f"Expected one of: {names}, with __ and a name for what is inside."
    return ConfigurationError(f"the environment variable {variable} stands for no setting. {advice}")
