"""`pilotis settings`: what an app was told, without its secrets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec

from pilotis.cli.finding import find_app
from pilotis.cli.options import AppOption, JsonOption
from pilotis.cli.showing import print_json, print_table
from pilotis.settings import ModuleSettings, Settings
from pilotis.settings.secrets import mask_value

Tree = dict[str, Any]


def settings(app: AppOption = None, as_json: JsonOption = False) -> None:
    """Show the settings as the app sees them: from defaults, file, environment and code.

    What is for a provider is masked, except for numbers and for URLs, which lose their secrets alone.
    """
    tree = described(find_app(app).settings)
    if as_json:
        print_json(tree)
    else:
        print_table([{"setting": path, "value": value} for path, value in _leaves(tree)])


def described(settings: Settings) -> Tree:
    """Return settings as plain data, in the shape of a settings file, without secrets."""
    return {
        "settings_file": None if settings.file is None else str(settings.file),
        "name": settings.name,
        "app": settings.app,
        "include": settings.include,
        "role": settings.role,
        "blocking_in_loop": settings.blocking_in_loop,
        "connections": {name: mask_value(url) for name, url in settings.connections.items()},
        **{module: _module(instances) for module, instances in settings.modules.items()},
    }


def _module(instances: Mapping[str, ModuleSettings]) -> Tree:
    others = {name: _section(instance) for name, instance in instances.items() if name != "default"}
    return {**_section(instances["default"]), **({"instances": others} if others else {})}


def _section(configured: ModuleSettings) -> Tree:
    """Return the table of one provider, with the parts that have providers of their own."""
    options = {name: mask_value(value) for name, value in configured.options.items()}
    parts: Tree = {name: _section(part) for name in ("outbox", "ledger") if (part := getattr(configured, name))}
    if configured.channels:
        parts["channels"] = {name: list(map(_section, chain)) for name, chain in configured.channels.items()}
    provider = configured.provider or f"an object of {type(configured.instance).__qualname__}"
    return {"provider": provider, **msgspec.to_builtins(configured.portable, enc_hook=str), **options, **parts}


def _leaves(tree: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Go through what is no table, with its path."""
    if isinstance(tree, dict) and tree:
        for name, value in cast("Tree", tree).items():
            yield from _leaves(value, f"{path}.{name}" if path else name)
    elif isinstance(tree, list) and any(isinstance(item, dict) for item in cast("list[object]", tree)):
        for index, item in enumerate(cast("list[object]", tree)):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, tree
