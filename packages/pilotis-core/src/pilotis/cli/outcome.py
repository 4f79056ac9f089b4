"""How a command ends: an exit code, and one line where something is wrong."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from pilotis.errors import ConfigurationError, InvalidInputError, PilotisError
from pilotis.settings.secrets import mask_urls

WRONG = 1
"""The exit code when something is wrong: a check that failed, a backend that cannot be reached."""

MISUSED = 2
"""The exit code when the call or the settings cannot work, whatever the backend answers."""


class Commands(TyperGroup):
    """The outermost group. Our errors end the program in one line; other people's keep their traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except PilotisError as error:
            complain(error)
            raise typer.Exit(exit_code(error)) from None


def complain(error: PilotisError) -> None:
    """Print an error as one line on stderr. The URLs in a backend's own words are masked too."""
    line = " ".join(str(error).split())
    typer.echo(f"pilotis: {mask_urls(line)}", err=True)


def exit_code(error: PilotisError) -> int:
    """Return the exit code that stands for an error."""
    return MISUSED if isinstance(error, ConfigurationError | InvalidInputError) else WRONG
