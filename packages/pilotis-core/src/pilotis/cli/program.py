"""The program: its commands, and those that installed plugins add."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from typing import Annotated

import typer

from pilotis.cli import (
    authoring,
    events,
    inspecting,
    locks,
    notifications,
    outbox,
    settings,
    status,
    workflows,
    working,
)
from pilotis.cli.options import AppOption, JsonOption
from pilotis.cli.outcome import Commands, complain, exit_code
from pilotis.discovery import plugins
from pilotis.errors import PilotisError

program = typer.Typer(
    name="pilotis",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Look after the modules of an app: cache, event, file, locking, notification, workflow.",
    epilog="Exit codes: 0 all is well, 1 something is wrong, 2 the call or the settings cannot work.",
)

program.command()(inspecting.providers)
program.command()(settings.settings)
program.command()(inspecting.check)
program.command()(status.status)
program.command()(working.worker)
program.command()(working.relay)
program.add_typer(events.commands)
program.add_typer(workflows.commands)
program.add_typer(locks.commands)
program.add_typer(notifications.commands)
program.add_typer(outbox.commands)
program.command("new-provider")(authoring.new_provider)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pilotis {version_of('pilotis-core')}")
        raise typer.Exit


@program.callback()
def _everywhere(
    app: AppOption = None,
    as_json: JsonOption = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None: ...


def run() -> None:
    """Run the command line with what installed plugins add to it."""
    try:
        plugins().hook.pilotis_commands(cli=program)
    except PilotisError as error:
        complain(error)
        sys.exit(exit_code(error))
    program(prog_name="pilotis")
