"""From raw tables to `Settings`: every key is known, every value has its type, every provider has its name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from pilotis.discovery import check_interface
from pilotis.errors import ConfigurationError
from pilotis.provider import Provider
from pilotis.settings.convert import convert_struct, convert_value, join, origin, struct_names, unknown
from pilotis.settings.layout import DEFAULT_PROVIDER, PARTS, PORTABLE, section_at, tables_in
from pilotis.settings.merge import Table, scheme, section_table
from pilotis.settings.model import BlockingInLoop, ChannelSettings, ModuleSettings, PortableSettings, Role, Settings
from pilotis.settings.secrets import Masked
from pilotis.settings.sources import TOP_LEVEL

_PROVIDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.-]*")
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_A_URL = "a URL, such as 'redis://localhost:6379/0'"
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def resolve_settings(raw: Mapping[str, Any], *, file: Path | None = None) -> Settings:
    """Return the settings that a raw table stands for. Raises `ConfigurationError` with the place."""
    for key, value in raw.items():
        if key not in TOP_LEVEL:
            raise unknown(key, TOP_LEVEL, "", "setting", value)
    connections = _connections(raw.get("connections", {}))
    reader = _Reader(connections)
    return Settings(
        name=_service_name(raw.get("name")),
        app=convert_value(raw.get("app"), str | None, "app"),
        include=convert_value(raw.get("include", []), list[str], "include"),
        connections=connections,
        role=convert_value(raw.get("role", "all"), Role, "role"),
        blocking_in_loop=convert_value(raw.get("blocking_in_loop", "error"), BlockingInLoop, "blocking_in_loop"),
        modules={module: reader.instances(module, raw.get(module, {})) for module in PORTABLE},
        mentioned=frozenset(PORTABLE) & raw.keys(),
        file=file,
    )


def _service_name(value: object) -> str | None:
    name = convert_value(value, str | None, "name")
    if name is not None and not _SERVICE.fullmatch(name):
        raise ConfigurationError(
            "expected 1 to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit", path="name"
        )
    return name


def _connections(value: object) -> Masked:
    connections = Masked()
    for name, url in _table(value, "connections").items():
        path = _named("connections", name)
        text = convert_value(url, str, path)
        if not _is_url(text):
            raise ConfigurationError(f"expected {_A_URL}", path=path)
        connections[name] = text
    return connections


class _Reader:
    """Reads whatever stands for a provider, with the connections that it may name."""

    def __init__(self, connections: Masked) -> None:
        self._connections = connections

    def instances(self, module: str, value: object) -> dict[str, ModuleSettings]:
        table = _section(value, module)
        instances = _table(table.get("instances", {}), f"{module}.instances")
        if "default" in instances:
            raise ConfigurationError(f"the default instance is [{module}] itself", path=f"{module}.instances.default")
        found = {"default": self._module(module, "default", table, module)}
        for name, item in instances.items():
            path = _named(f"{module}.instances", name)
            found[name] = self._module(module, name, _section(item, path), path)
        return found

    def _module(self, module: str, name: str, table: Table, path: str) -> ModuleSettings:
        settings = self._provider(module, name, table, path, DEFAULT_PROVIDER[module])
        for part in PARTS.get(module, ()):
            if part in table:
                setattr(settings, part, self._part(part, table[part], f"{path}.{part}"))
        return settings

    def _part(self, part: str, value: object, path: str) -> object:
        if part != "channels":
            return self._provider(part, "default", _section(value, path), path)
        return {name: self._channel(name, item, _named(path, name)) for name, item in _table(value, path).items()}

    def _channel(self, name: str, value: object, path: str) -> list[ModuleSettings]:
        if not isinstance(value, list):
            return [self._provider("notification", name, _section(value, path), path)]
        items = cast("list[object]", value)
        places = [f"{path}[{index}]" for index in range(len(items))]
        return [
            self._provider("notification", name, _section(item, place), place)
            for item, place in zip(items, places, strict=True)
        ]

    def _provider(self, module: str, name: str, table: Table, path: str, default: str | None = None) -> ModuleSettings:
        portable_type = section_at(path) or ChannelSettings
        apart = {"provider", *struct_names(portable_type), *tables_in(path)}
        options = Masked({key: value for key, value in table.items() if key not in apart})
        provider = table.get("provider")
        if "provider" in table and not isinstance(provider, str):
            return ModuleSettings(
                module=module,
                name=name,
                path=path,
                provider=None,
                instance=_provider_object(provider, module, options, path),
                portable=_portable(portable_type, table, path),
            )
        connection = self._resolve_url(options, path)
        return ModuleSettings(
            module=module,
            name=name,
            path=path,
            provider=_provider_name(provider, options.get("url"), default, path),
            portable=_portable(portable_type, table, path),
            options=options,
            connection=connection,
        )

    def _resolve_url(self, options: Masked, path: str) -> str | None:
        """Put the URL of the connection that `url` names in its place, and return the connection's name."""
        if "url" not in options:
            return None
        url = convert_value(options["url"], str, f"{path}.url")
        if _is_url(url):
            return None
        if url not in self._connections:
            raise self._no_connection(url, path)
        options["url"] = self._connections[url]
        return str(url)

    def _no_connection(self, url: str, path: str) -> ConfigurationError:
        """Return the error for what is neither. It may be a URL with a slip of the pen, so it is not shown."""
        near = difflib.get_close_matches(url, self._connections, n=1)
        known = ", ".join(sorted(self._connections)) or "none"
        advice = f" Did you mean {near[0]!r}?" if near else ""
        return ConfigurationError(
            f"expected {_A_URL}, or a name from [connections] (there: {known}).{advice}",
            path=f"{path}.url",
        )


def _portable(struct_type: type[PortableSettings], table: Table, path: str) -> PortableSettings:
    names = struct_names(struct_type)
    return convert_struct({key: value for key, value in table.items() if key in names}, struct_type, path)


def _provider_name(provider: object, url: object, default: str | None, path: str) -> str:
    if isinstance(provider, str):
        if not _PROVIDER.fullmatch(provider):
            raise ConfigurationError(
                f"expected {_A_URL}, or the name of a provider{origin(provider)}",
                path=path,
            )
        return str(provider)
    if isinstance(url, str):
        return scheme(url)
    if default is None:
        raise ConfigurationError("expected a provider or a url", path=path)
    return default


def _provider_object(value: object, module: str, options: Masked, path: str) -> Provider:
    if not isinstance(value, Provider):
        hint = f". Make one: {value.__name__}(...)" if isinstance(value, type) else ""
        place = join(path, "provider")
        raise ConfigurationError(f"expected the name of a provider, or a provider object{hint}", path=place)
    check_interface(module, type(value), path=path)
    if options:
        names = ", ".join(sorted(options))
        raise ConfigurationError(f"a provider object has its options already: remove {names}", path=path)
    return value


def _section(value: object, path: str) -> Table:
    table = section_table(value)
    if not isinstance(table, dict):
        raise ConfigurationError("expected a URL, the name of a provider, a table or a provider object", path=path)
    return _table(cast("Table", table), path)


def _table(value: object, path: str) -> Table:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"expected a table{origin(value)}", path=path)
    for key in cast("Mapping[object, object]", value):
        if not isinstance(key, str):
            raise ConfigurationError(f"expected names that are text, got {type(key).__name__}", path=path)
    return dict(cast("Mapping[str, Any]", value))


def _named(path: str, name: str) -> str:
    if not _KEY.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} cannot be a name here: expected 1 to 64 letters, digits, '_' and '-'", path=path
        )
    return f"{path}.{name}"


def _is_url(text: str) -> bool:
    if "://" not in text or not _PROVIDER.fullmatch(scheme(text)):
        return False
    try:
        urlsplit(text)
    except ValueError:
        return False
    return True
