"""`pilotis locks`: who holds what."""

from __future__ import annotations

from typing import Annotated

import typer

from pilotis.cli.finding import looking_into
from pilotis.cli.options import AppOption, JsonOption
from pilotis.cli.showing import Row, show
from pilotis.modules.locking import LockState

commands = typer.Typer(
    name="locks",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look into locks.\n\n"
    "Locks of a provider that keeps them in the process, as `memory` does, are seen by that process alone: this is for "
    "those that are shared.",
)


@commands.callback()
def _group() -> None: ...


@commands.command()
def inspect(
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
