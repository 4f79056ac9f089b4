"""Which app a command works on."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Generator
from pathlib import Path
from types import ModuleType

from pilotis.app import Pilotis
from pilotis.errors import ConfigurationError


def find_app(named: str | None) -> Pilotis:
    """Return the app that `--app` names, else `PILOTIS_APP`, else `app` in the settings; else one of the settings.

    Raises `ConfigurationError` where the name leads nowhere. What the app's own module raises passes unchanged.
    """
    if place := named or os.environ.get("PILOTIS_APP"):
        return _imported(place, Path.cwd(), "--app" if named else "PILOTIS_APP")
    app = Pilotis.load()
    if app.settings.app is None:
        return app
    return _imported(app.settings.app, _beside(app), "app")


def directories_of_app(named: str | None) -> list[Path]:
    """Return where the code of the app is looked for, without importing it."""
    if named or os.environ.get("PILOTIS_APP"):
        return [Path.cwd()]
    return [_beside(Pilotis.load())]


@contextlib.contextmanager
def looking_into(named: str | None) -> Generator[Pilotis, None, None]:
    """Lend a copy of the app that handles nothing: commands look and ask, and never work on the side."""
    app = find_app(named).copy(role="emit")
    try:
        app.import_included()
        yield app
    finally:
        app.close()


def _beside(app: Pilotis) -> Path:
    file = app.settings.file
    return file.absolute().parent if file else Path.cwd()


def _imported(place: str, directory: Path, source: str) -> Pilotis:
    module_name, colon, name = place.partition(":")
    if not (module_name and colon and name):
        raise ConfigurationError(f"{place!r} names no app: expected module:name, such as shop.main:app", path=source)
    module = _import(module_name, directory, source)
    app = getattr(module, name, None)
    if not isinstance(app, Pilotis):
        raise ConfigurationError(f"{place!r} is no Pilotis object. {_apps_in(module)}", path=source)
    return app


def _import(name: str, directory: Path, source: str) -> ModuleType:
    """Import the app's module, from `directory` if need be: a console script has no place of its own on the path."""
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ConfigurationError(
            f"there is no module {error.name!r} in {directory} or on the Python path", path=source
        ) from None


def _apps_in(module: ModuleType) -> str:
    names = sorted(name for name, value in vars(module).items() if isinstance(value, Pilotis))
    return f"In {module.__name__} there is: {', '.join(names) or 'none'}."
