"""`pilotis notifications`: what a deployment does before the first one is sent."""

from __future__ import annotations

import typer

from pilotis.cli.finding import looking_into
from pilotis.cli.options import AppOption, JsonOption
from pilotis.cli.showing import progress, tell_changes

commands = typer.Typer(
    name="notifications",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look after notifications: their providers, and the ledger that they are recorded in.",
)


@commands.callback()
def _group() -> None: ...


@commands.command()
def migrate(app: AppOption = None, as_json: JsonOption = False) -> None:
    """Make the table of the ledger, and what providers keep in their backends: for a deployment. May be repeated."""
    with progress("Migrating ..."), looking_into(app) as looked_into:
        changes = looked_into.notification.migrate()
    tell_changes(changes, as_json=as_json)
