"""Finding the provider that settings name: registered in this process, or installed.

An installed provider is an entry point of the group `pilotis.<module>`. Its name is what the user writes in
settings, and also the scheme of its URLs. Only the chosen one is imported. `PILOTIS_PROVIDERS`, where it is set
and not empty, lists the distributions that may be loaded from, separated by commas; the others count as not
installed. What a program registers itself is not theirs to refuse.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pilotis.errors import (
    ConfigurationError,
    ProviderConflictError,
    ProviderLoadError,
    ProviderNotFoundError,
)
from pilotis.known import FIRST_PARTY

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    import pluggy

    from pilotis.provider import Provider

INTERFACES = {
    "cache": "CacheProvider",
    "event": "EventProvider",
    "file": "FileProvider",
    "locking": "LockingProvider",
    "notification": "NotificationProvider",
    "workflow": "WorkflowProvider",
    "outbox": "OutboxProvider",
    "ledger": "LedgerProvider",
}
"""What can have a provider, and the class in `pilotis.providers` that the provider derives from."""

_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*", re.IGNORECASE)
_registered: dict[tuple[str, str], type[Provider]] = {}
_loaded: dict[tuple[str, str], type[Provider]] = {}


class Installed(NamedTuple):
    """The distribution that declares a provider."""

    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


# Registering


def register(module: str, name: str, provider_class: type[Provider], *, replace: bool = False) -> None:
    """Make a provider known in this process, without packaging. It wins over an installed one of the same name.

    `name` is also the URL scheme. Registering the same class again does nothing. Raises `ConfigurationError` if
    the class does not derive from the module's interface, and `ProviderConflictError` if another class has the
    name, unless `replace` is true.
    """
    _check_module(module)
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} cannot name a {module} provider: expected letters, digits, '+', '.' and '-', as in a URL scheme"
        )
    check_interface(module, provider_class)
    holder = _registered.get((module, name), provider_class)
    if holder is not provider_class and not replace:
        raise ProviderConflictError(
            f"{module} provider {name!r} is registered already, as {_qualified(holder)}. "
            f"Choose another name, or pass replace=True."
        )
    _registered[module, name] = provider_class


def unregister(module: str, name: str) -> None:
    """Forget a registered provider. Does nothing where there is none."""
    _registered.pop((module, name), None)


def interface(module: str) -> type[Provider]:
    """Return the class that providers of `module` derive from."""
    _check_module(module)
    authors_face = importlib.import_module("pilotis.providers")
    return getattr(authors_face, INTERFACES[module], authors_face.Provider)


def check_interface(module: str, provider_class: object, *, path: str | None = None) -> None:
    """Raise `ConfigurationError` unless `provider_class` can be a provider of `module`."""
    expected = interface(module)
    if not (isinstance(provider_class, type) and issubclass(provider_class, expected)):
        raise ConfigurationError(
            f"{_qualified(cast('object', provider_class))} is no {module} provider: expected a class that derives from "
            f"pilotis.providers.{expected.__name__}",
            path=path,
        )


# Resolving


def resolve(module: str, name: str) -> type[Provider]:
    """Return the provider class that settings call `name`, importing it if need be.

    Raises `ProviderNotFoundError`, `ProviderConflictError` or `ProviderLoadError`, which say what to do.
    """
    _check_module(module)
    if registered := _registered.get((module, name)):
        return registered
    if (module, name) not in _loaded:
        _loaded[module, name] = _load(module, _only(module, name))
    return _loaded[module, name]


def installed(module: str) -> dict[str, Installed]:
    """Return the installed and allowed providers of `module` by name, sorted. Imports none of them.

    Raises `ProviderConflictError` if several distributions declare the same name.
    """
    _check_module(module)
    names = sorted({entry.name for entry in _entries(module)})
    return {name: _source(_only(module, name)) for name in names}


def _only(module: str, name: str) -> EntryPoint:
    candidates = [entry for entry in _entries(module) if entry.name == name]
    owners = sorted({_source(entry).distribution for entry in candidates})
    if not owners:
        raise ProviderNotFoundError(_explain_missing(module, name))
    if len(owners) > 1:
        raise ProviderConflictError(
            f"{module} provider {name!r} is declared by several distributions: {', '.join(owners)}. "
            f"Uninstall all but one."
        )
    return candidates[0]


def _load(module: str, entry: EntryPoint) -> type[Provider]:
    """Import the plugin, check its hook, and ask it for the class.

    The manager is thrown away afterwards: pluggy refuses one plugin under two names, which `redis` and `rediss`
    are, and keeps a plugin whose check has failed. The entry is loaded from the distribution that was chosen;
    pluggy would take the first of that name on the path, allowed or not.
    """
    from pilotis.hooks import ProviderHooks, manager_of

    manager = manager_of(ProviderHooks)
    try:
        manager.register(entry.load(), name=entry.name)
        manager.check_pending()
        provider_class = manager.hook.pilotis_provider()
        check_interface(module, provider_class)
    except Exception as error:
        raise ProviderLoadError(
            f"{module} provider {entry.name!r} from {_source(entry)} failed to import: {error}"
        ) from error
    return provider_class


@functools.cache
def plugins() -> pluggy.PluginManager:
    """Return the manager that holds every installed and allowed plugin of the group `pilotis.plugins`.

    There is one in a process, so that `plugins().register(...)` does without packaging.
    Raises `ProviderLoadError` naming the plugin that cannot be imported or does not fit the hooks.
    """
    from pilotis.hooks import AppHooks, manager_of

    manager = manager_of(AppHooks)
    for entry in _entries("plugins"):
        source = _source(entry)
        try:
            manager.register(entry.load(), name=f"{source.distribution}:{entry.name}")
            manager.check_pending()
        except Exception as error:
            raise ProviderLoadError(f"plugin {entry.name!r} from {source} failed to import: {error}") from error
    return manager


# What is installed


def _entries(module: str) -> list[EntryPoint]:
    return [entry for entry in _declared(module) if _allowed(_source(entry).distribution)]


def _declared(module: str) -> list[EntryPoint]:
    from importlib.metadata import entry_points

    return list(entry_points(group=f"pilotis.{module}"))


def _source(entry: EntryPoint) -> Installed:
    distribution = cast("Any", entry.dist)
    return Installed(distribution.name, distribution.version)


def _allowed(distribution: str) -> bool:
    listed = [_normalised(item) for item in os.environ.get("PILOTIS_PROVIDERS", "").split(",") if item.strip()]
    return not listed or _normalised(distribution) in listed


def _normalised(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()


# Explaining


def _check_module(module: str) -> None:
    if module not in INTERFACES:
        raise ConfigurationError(f"there is no module {module!r} (modules: {', '.join(INTERFACES)})")


def _explain_missing(module: str, name: str) -> str:
    known = {entry.name for entry in _entries(module)} | {key for owner, key in _registered if owner == module}
    return (
        f"No {module} provider named {name!r} is installed (installed: {', '.join(sorted(known)) or 'none'}). "
        f"{_advise(module, name, known)}"
    )


def _advise(module: str, name: str, known: set[str]) -> str:
    first_party = FIRST_PARTY[module]
    refused = [_source(entry).distribution for entry in _declared(module) if entry.name == name]
    if refused:
        return f"PILOTIS_PROVIDERS leaves out {', '.join(sorted(refused))}, which has it: add it there."
    if name in first_party:
        return f"Install it with: pip install {first_party[name]}"
    if near := difflib.get_close_matches(name, sorted(known | first_party.keys()), n=1):
        return f"Did you mean {near[0]!r}?"
    return f"Install the distribution that has it, or register your own: pilotis.register({module!r}, {name!r}, ...)"


def _qualified(thing: object) -> str:
    shown = cast("type[object]", thing) if isinstance(thing, type) else type(thing)
    return f"{'' if shown is thing else 'an object of '}{shown.__module__}.{shown.__qualname__}"
