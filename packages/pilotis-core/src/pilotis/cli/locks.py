"""`pilotis locks`: who holds what, and what can be done about it."""

from __future__ import annotations

from typing import Annotated

import typer

from pilotis.cli.finding import looking_into
from pilotis.cli.options import AppOption, JsonOption
from pilotis.cli.outcome import WRONG
from pilotis.cli.showing import Row, count, show, tell, tell_changes
from pilotis.modules.locking import LockState

commands = typer.Typer(
    name="locks",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look into locks, and take them away.\n\n"
    "Locks of a provider that keeps them in the process, as `memory` does, are seen by that process alone: this is for "
    "those that are shared.",
)


@commands.command()
def ls(
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="Only keys that begin with this.")] = "",
    *,
    limit: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="How many at most.")] = 1000,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the keys that are held, and who holds them."""
    with looking_into(app) as looked_into:
        states = looked_into.locking.held(prefix, limit=limit)
    show(states, as_json=as_json, row=_row, nothing="Nobody holds any lock.")


@commands.command("show")
def show_keys(
    keys: Annotated[list[str], typer.Argument(metavar="KEY", help="The keys of the locks.")],
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who holds keys. Keys that nobody holds are left out."""
    with looking_into(app) as looked_into:
        states = [state for key in keys if (state := looked_into.locking.inspect(key))]
    show(states, as_json=as_json, row=_row, nothing=f"Nobody holds {', '.join(keys)}.")


def _row(state: LockState) -> Row:
    return {
        "key": state.key,
        "owner": state.owner,
        "token": state.token,
        "since": state.since,
        "expires": state.expires,
        "holders": state.holders,
        "waiters": state.waiters,
    }


@commands.command("break")
def break_key(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key of the lock.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a key away from whoever holds it. Exits with 1 if nobody did.

    A holder that is alive works on until it looks at its lease: this is for those that are known to be dead or wrong.
    """
    if not yes:
        typer.confirm(f"Take {key} away from whoever holds it?", abort=True, err=True)
    with looking_into(app) as looked_into:
        holders = looked_into.locking.break_lock(key)
    said = f"Took {key} away from {count(holders, 'holder')}." if holders else f"Nobody holds {key}."
    tell(said, {"key": key, "holders": holders}, as_json=as_json)
    if not holders:
        raise typer.Exit(WRONG)


@commands.command()
def migrate(app: AppOption = None, as_json: JsonOption = False) -> None:
    """Make what the provider keeps in its backend, such as tables: for a deployment. May be repeated."""
    with looking_into(app) as looked_into:
        changes = looked_into.locking.migrate()
    tell_changes(changes, as_json=as_json)
