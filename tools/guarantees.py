"""Write the table of guarantees into the page of each module: which provider declares what, and what that means.

The names and their meanings are those of the code. Each table stands between two comments.

    python tools/guarantees.py           write the tables
    python tools/guarantees.py --check   change nothing; exit 1 if a table no longer matches the code
"""

from __future__ import annotations

import argparse
import ast
import enum
import inspect
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from pilotis.discovery import INTERFACES, installed, resolve
from pilotis.settings.layout import DEFAULT_PROVIDER

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- guarantees: begin (written by tools/guarantees.py) -->\n"
END = "<!-- guarantees: end -->\n"


class PageError(Exception):
    """A page has no place for its table."""


def providers(module: str) -> dict[str, Any]:
    """Return the providers of this repository, by the first name of each; the one of a bare app comes first."""
    own = [name for name, source in installed(module).items() if (ROOT / "packages" / source.distribution).is_dir()]
    first = {resolve(module, name): name for name in sorted(own, reverse=True)}
    embedded = DEFAULT_PROVIDER.get(module)
    return dict(sorted(((name, kind) for kind, name in first.items()), key=lambda item: (item[0] != embedded, item[0])))


def meanings(kind: type[enum.Flag]) -> dict[str, str]:
    """Return what stands below each member in the source."""
    (definition,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str] = {}
    for member, text in pairwise(definition.body):
        match member, text:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(meaning))):
                found[name] = " ".join(meaning.split())
            case _:
                pass
    return found


def table(module: str) -> str:
    """Return the table of a module: a line for each capability, a column for each provider."""
    declared = {name: provider.capabilities for name, provider in providers(module).items()}
    kind: type[enum.Flag] = next(iter(declared.values())).__class__
    meaning = meanings(kind)
    lines = [("guarantee", *(f"`{name}`" for name in declared), "what it says")]
    lines += [("---",) * len(lines[0])]
    lines += [
        (f"`{flag.name}`", *("yes" if flag in flags else "no" for flags in declared.values()), meaning[str(flag.name)])
        for flag in kind
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def splice(page: str, table: str) -> str:
    """Put a table between the two comments; everything outside them stays as it is."""
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise PageError(f"expected the lines {BEGIN.strip()!r} and {END.strip()!r}, once each")
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}{table}{END}{rest.partition(END)[2]}"


def main(arguments: Sequence[str] | None = None, docs: Path = ROOT / "docs") -> int:
    """Write the tables, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 on drift")
    options = parser.parse_args(arguments)
    drifted = False
    for module in (module for module in INTERFACES if module in DEFAULT_PROVIDER):
        path = docs / f"{module}.md"
        page = path.read_text()
        written = splice(page, table(module))
        drifted |= written != page
        if not options.check:
            path.write_text(written)
    if options.check and drifted:
        print("The tables of guarantees do not match the code. Mend them: python tools/guarantees.py", file=sys.stderr)
    return int(options.check and drifted)


if __name__ == "__main__":
    sys.exit(main())
