"""The command line: `pilotis`, or `python -m pilotis`."""

from __future__ import annotations

import sys

_NEEDS = ("rich", "typer")
_INSTALL = (
    "pilotis: the command line needs typer and rich. "
    "Install them with: pip install 'pilotis-core[cli]' (or all of Pilotis: pip install pilotis)"
)


def main() -> None:
    """Run the command line; where typer or rich is missing, tell how to install it and exit with 1."""
    try:
        from pilotis.cli.program import run
    except ModuleNotFoundError as error:
        if error.name not in _NEEDS:
            raise
        print(_INSTALL, file=sys.stderr)
        sys.exit(1)
    run()
