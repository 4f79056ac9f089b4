"""Write the page of each provider: its README, and what the code says of its options, capabilities and native client.

What an option means stands once, in the settings reference, and here beside its type and default as the code has them.

    python tools/provider_pages.py           write the pages
    python tools/provider_pages.py --check   change nothing; exit 1 if a page no longer matches the code
"""

from __future__ import annotations

import argparse
import enum
import re
import sys
import types
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
from guarantees import ROOT, meanings
from pilotis.discovery import INTERFACES, installed, resolve
from pilotis.settings.layout import DEFAULT_PROVIDER

REFERENCE = ROOT / "docs" / "settings-reference.md"

_REDIS = (
    "`redis.Redis` or `redis.asyncio.Redis`, or their twins for a cluster, as is the colour in which it is asked for."
)
_NO_CLIENT = "nothing: there is no client, as everything is in the process itself."
_NO_CONNECTION = "nothing: connections belong to whoever has them at the moment."

_PLAIN = ("", "text", "path", "URL")
"""Units that the type says already."""

NATIVE = {
    "pilotis-cache-memcached": _NO_CONNECTION,
    "pilotis-cache-memory": _NO_CLIENT,
    "pilotis-cache-redis": _REDIS,
    "pilotis-event-local": _NO_CLIENT,
    "pilotis-event-redis": _REDIS,
    "pilotis-file-local": "`pathlib.Path`: the folder of the files.",
    "pilotis-file-s3": "`botocore.client.BaseClient`: boto3's client of S3.",
    "pilotis-locking-memory": _NO_CLIENT,
    "pilotis-locking-postgres": _NO_CONNECTION,
    "pilotis-locking-redis": _REDIS,
    "pilotis-notification-local": _NO_CLIENT,
    "pilotis-notification-sendgrid": "nothing: each call has a client of its own, which shares nothing with others.",
    "pilotis-store-postgres": _NO_CONNECTION,
    "pilotis-store-sqlite": _NO_CONNECTION,
    "pilotis-workflow-memory": _NO_CLIENT,
    "pilotis-workflow-redis": _REDIS,
}
"""What `native` hands out."""


def provided() -> dict[str, dict[str, Any]]:
    """Return the provider of each module by the package it comes with; one with several names is there once."""
    found: dict[str, dict[str, Any]] = {}
    for module in INTERFACES:
        for name, source in installed(module).items():
            if (ROOT / "packages" / source.distribution).is_dir():
                found.setdefault(source.distribution, {}).setdefault(module, (name, resolve(module, name)))
    return dict(sorted(found.items()))


def page(package: str, modules: dict[str, Any]) -> str:
    """Return the page of a package."""
    parts = [
        f"<!-- written by tools/provider_pages.py -->\n\n# {package}\n",
        f"```{{include}} ../../packages/{package}/README.md\n:start-line: 1\n```\n",
        "## Options\n",
        *(options(module, *found) for module, found in modules.items()),
        "## Declared capabilities\n",
        *(capabilities(module, kind) for module, (_, kind) in modules.items()),
        f"## Native client\n\n{native(package, *modules)}\n",
    ]
    return "\n".join(parts)


def options(module: str, name: str, kind: Any) -> str:
    """Return the table of the options of a provider."""
    told = _meanings(module, name)
    lines = [
        (f"`{field.encode_name}`", _type(field.type), *told.get(field.encode_name, ("", "")))
        for field in msgspec.structs.fields(kind.Options)
    ]
    if not lines:
        return f"As {module}: none.\n"
    return f"As {module}:\n\n" + _table(("option", "type", "default", "meaning"), lines)


def capabilities(module: str, kind: Any) -> str:
    """Return the table of what a provider declares of what its module knows."""
    flags: enum.Flag = kind.capabilities
    known: type[enum.Flag] = flags.__class__
    meaning = meanings(known)
    lines = [(f"`{flag.name}`", "yes" if flag in flags else "no", meaning[str(flag.name)]) for flag in known]
    return f"As {module}:\n\n" + _table(("capability", "declared", "what it says"), lines)


def native(package: str, module: str, *_: str) -> str:
    """Return what `native` hands out."""
    verb = f"app.{module}.native(kind)" if module in DEFAULT_PROVIDER else "native"
    return f"`{verb}` hands out {NATIVE[package]}"


def _meanings(module: str, name: str) -> dict[str, tuple[str, str]]:
    """Return default and meaning of each option, as the settings reference has them, which a test holds to the code."""
    names = "|".join(re.escape(f"`{name}` {module}") for name in _names(module, name))
    found = re.search(rf"^### (?:{names})\n(.*?)(?=^#|\Z)", REFERENCE.read_text(), flags=re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| (`.*) \|$", found[1], flags=re.MULTILINE) if found else []
    cells = [[cell.strip() for cell in row.split("|")] for row in rows]
    return {row[0].strip("`"): (row[1], row[3] if row[2] in _PLAIN else f"{row[3]} ({row[2]})") for row in cells}


def _names(module: str, name: str) -> Iterator[str]:
    kind = resolve(module, name)
    return (other for other in installed(module) if resolve(module, other) is kind)


def _type(kind: Any) -> str:
    """Return a type as people write it, without what only checks it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(argument) for argument in arguments if argument is not type(None))
    if origin is Literal:
        return " or ".join(f'"{argument}"' if isinstance(argument, str) else str(argument) for argument in arguments)
    if origin is not None and hasattr(kind, "__metadata__"):
        return _type(arguments[0])
    return {"str": "text", "Secret": "text", "bool": "true or false", "int": "whole number", "float": "number"}.get(
        getattr(kind, "__name__", ""), str(getattr(kind, "__name__", kind)).lower()
    )


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def index(packages: Sequence[str]) -> str:
    """Return the page that leads to the others."""
    listed = "\n".join(packages)
    return (
        "<!-- written by tools/provider_pages.py -->\n\n# Providers\n\n"
        "A page for each provider: how to install and configure it, what it guarantees, and what it does not. The "
        "verbs are the same for\nall of them, and stand on the pages of the modules.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n"
    )


@cache
def pages() -> dict[str, str]:
    """Return every page by its name."""
    found = provided()
    return {"index": index(list(found)), **{package: page(package, modules) for package, modules in found.items()}}


def main(arguments: Sequence[str] | None = None, folder: Path = ROOT / "docs" / "providers") -> int:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 on drift")
    asked = parser.parse_args(arguments)
    written = {folder / f"{name}.md": text for name, text in pages().items()}
    drifted = [path.name for path, text in written.items() if not path.exists() or path.read_text() != text]
    drifted += [path.name for path in folder.glob("*.md") if path not in written]
    if not asked.check:
        for path, text in written.items():
            path.write_text(text)
    elif drifted:
        print(f"Pages of providers do not match: {drifted}. Mend: python tools/provider_pages.py", file=sys.stderr)
    return int(asked.check and bool(drifted))


if __name__ == "__main__":
    sys.exit(main())
