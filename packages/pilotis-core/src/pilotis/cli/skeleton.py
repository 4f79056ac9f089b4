"""From a module's interface to the files of a provider's distribution."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import string
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import FunctionType

import pilotis.providers
from pilotis.discovery import INTERFACES, interface
from pilotis.errors import ConfigurationError, InvalidInputError
from pilotis.known import FIRST_PARTY
from pilotis.provider import Provider
from pilotis.settings import DEFAULT_PROVIDER

Facts = Mapping[str, str]
Function = ast.FunctionDef | ast.AsyncFunctionDef

_NAME = re.compile(r"[a-z][a-z0-9]*([+.-][a-z0-9]+)*")
_SUFFIX = ".tmpl"
_LINE = 88


def facts_about(module: str, name: str) -> Facts:
    """Return what the template needs to know. Raises `InvalidInputError` for a module or name that will not do."""
    _check(module, name)
    words = re.split(r"[+.-]", name)
    provider = "".join(word.capitalize() for word in words) + module.capitalize()
    major, minor, *_ = version("pilotis-core").split(".")
    capability = f"{module.capitalize()}Capability"
    return {
        "module": module,
        "name": name,
        "distribution": "-".join(("pilotis", module, *words)),
        "package": "_".join(("pilotis", module, *words)),
        "range": f">={major}.{minor},<{major}.{int(minor) + 1}",
        "provider": provider,
        "options": f"{provider}Options",
        "interface": INTERFACES[module],
        "conformance": f"{module.capitalize()}Conformance",
        "capability": capability,
        **_verbs_of(interface(module), capability),
    }


def write_project(facts: Facts, project: Path) -> list[str]:
    """Write the template, filled in, and return the files: the provider last. Raises `ConfigurationError`."""
    if project.exists():
        raise ConfigurationError(f"{project} exists already: move it away, or choose another --into")
    written = dict(_filled(files("pilotis.cli") / "template", facts))
    for path, text in written.items():
        target = project / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return sorted(written, key=lambda path: (path.endswith("provider.py"), path))


def _check(module: str, name: str) -> None:
    if module not in DEFAULT_PROVIDER:
        raise InvalidInputError(f"there is no module {module!r} (modules: {', '.join(DEFAULT_PROVIDER)})")
    if not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"{name!r} cannot name a provider: expected lower-case letters, digits, and '+', '.' or '-' between them"
        )
    if owner := FIRST_PARTY[module].get(name):
        raise InvalidInputError(f"{module} provider {name!r} is the name of {owner}: choose another one")


# Files


def _filled(place: Traversable, facts: Facts, prefix: str = "") -> Iterator[tuple[str, str]]:
    for item in place.iterdir():
        name = facts["package"] if item.name == "package" else item.name.removesuffix(_SUFFIX)
        if item.is_dir():
            yield from _filled(item, facts, f"{prefix}{name}/")
        elif _wanted(name, place, facts):
            text = string.Template(item.read_text(encoding="utf-8")).substitute(facts)
            yield prefix + name.replace(f"-{facts['module']}.", "."), text


def _wanted(name: str, place: Traversable, facts: Facts) -> bool:
    """Tell whether a file is for this module: `provider-cache.py` goes before `provider.py` where there is one."""
    stem, dash, rest = name.partition("-")
    if dash:
        return rest.startswith(f"{facts['module']}.")
    special = f"{stem.partition('.')[0]}-{facts['module']}.py{_SUFFIX}"
    return not (place / special).is_file()


# Verbs


def _verbs_of(authored: type[Provider], capability: str) -> Facts:
    """Return the abstract verbs of an interface as source, with the imports that they need."""
    module = inspect.getmodule(authored)
    assert module is not None
    sources = [textwrap.dedent(inspect.getsource(verb)) for verb in _abstract(authored)]
    parsed = [_function(source) for source in sources]
    names = {authored.__name__, capability, *(name for function in parsed for name in _names_in(function))}
    unwritten = (_unwritten(source, function) for source, function in zip(sources, parsed, strict=True))
    return {
        "verbs": "\n\n".join(textwrap.indent(verb, "    ") for verb in unwritten),
        "imports": _imports(names, ast.parse(inspect.getsource(module)), module.__name__),
    }


def _abstract(authored: type[Provider]) -> list[FunctionType]:
    found = {name: value for base in reversed(authored.__mro__) for name, value in vars(base).items()}
    return [value for name, value in found.items() if name in authored.__abstractmethods__]


def _function(source: str) -> Function:
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    return function


def _unwritten(source: str, function: Function) -> str:
    """Return a verb with its signature and docstring, and nothing done."""
    lines = source.splitlines()[function.lineno - 1 : function.body[0].end_lineno]
    return "\n".join([*lines, "    raise NotImplementedError"])


def _names_in(function: Function) -> set[str]:
    """Return the names that a signature needs."""
    nodes = [*ast.walk(function.args), *(ast.walk(function.returns) if function.returns else ())]
    return {node.id for node in nodes if isinstance(node, ast.Name)}


def _imports(names: Iterable[str], source: ast.Module, module: str) -> str:
    """Return the statements that import `names`, as the interface's own module does, or from the authors' face."""
    origins = {
        alias.name: str(statement.module)
        for statement in ast.walk(source)
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    wanted: dict[str, list[str]] = {}
    for name in sorted(set(names) - set(vars(builtins))):
        face = "pilotis.providers" if hasattr(pilotis.providers, name) else origins.get(name, module)
        wanted.setdefault(face, []).append(name)
    statements = [_statement(origin, found) for origin, found in sorted(wanted.items())]
    standard = [line for line in statements if not line.startswith("from pilotis")]
    ours = ["import msgspec", *(line for line in statements if line.startswith("from pilotis"))]
    return "\n".join([*standard, "", *ours] if standard else ours)


def _statement(origin: str, names: list[str]) -> str:
    line = f"from {origin} import {', '.join(names)}"
    if len(line) <= _LINE:
        return line
    return "\n".join([f"from {origin} import (", *(f"    {name}," for name in names), ")"])
