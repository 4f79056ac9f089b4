"""The layers of settings, one over the other, to `Settings`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pilotis.errors import ConfigurationError
from pilotis.settings.expand import expand
from pilotis.settings.merge import Table, merge
from pilotis.settings.model import Settings
from pilotis.settings.resolve import resolve_settings
from pilotis.settings.sources import find_file, over_environment, read_toml


def load(
    *sources: Mapping[str, Any] | None,
    files: bool = False,
    env: Mapping[str, str] | None = None,
    start: Path | None = None,
) -> Settings:
    """Return the settings of an app.

    `files` reads the file that `PILOTIS_CONFIG` names, else the nearest one from `start` (the working directory)
    upwards; having none is no error. `env` gives the `PILOTIS_*` variables; None leaves them out, and `${VAR}`
    is then looked up in this process's environment. `sources` are laid over both, one after the other. Without any
    of them everything is at its default. Raises `ConfigurationError` with the place of what cannot be used.
    """
    variables = os.environ if env is None else env
    file = _settings_file(env or {}, start or Path.cwd()) if files else None
    layers = cast("Table", expand(read_toml(file), variables, "")) if file else {}
    if env is not None:
        layers = over_environment(layers, env)
    for source in sources:
        if source is not None:
            layers = merge(layers, _mapping(source, variables))
    return resolve_settings(layers, file=file)


def _settings_file(env: Mapping[str, str], start: Path) -> Path | None:
    named = env.get("PILOTIS_CONFIG")
    return Path(named) if named else find_file(start.absolute())


def _mapping(source: object, variables: Mapping[str, str]) -> Table:
    if not isinstance(source, Mapping):
        raise ConfigurationError(f"settings are a mapping of names to values, got {type(source).__name__}")
    return cast("Table", expand(cast("Mapping[str, Any]", source), variables, ""))
