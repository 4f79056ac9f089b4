"""`pilotis outbox`: what transactions have left for the relay."""

from __future__ import annotations

from typing import Annotated

import typer

from pilotis.cli.finding import looking_into
from pilotis.cli.options import AppOption, JsonOption
from pilotis.cli.showing import Row, count, print_json, progress, show, tell
from pilotis.errors import InvalidInputError
from pilotis.modules.event import OutboxStatus, SetAside

commands = typer.Typer(
    name="outbox",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look after the outbox: the table in your database in which events wait for the commit, and for the relay.",
)

IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of events or runs.")]
AllOption = Annotated[bool, typer.Option("--all", help="All that were set aside.")]


@commands.callback()
def _group() -> None: ...


@commands.command()
def migrate(app: AppOption = None, as_json: JsonOption = False) -> None:
    """Make the table of the outbox, or bring it up to date: for a deployment. Doing so again changes nothing."""
    with progress("Migrating ..."), looking_into(app) as looked_into:
        outbox = looked_into.event.outbox
        try:
            made = outbox.migrate()
        finally:
            outbox.close()
    tell("\n".join(made) or "Nothing has to be made.", {"made": made}, as_json=as_json)


@commands.command()
def status(app: AppOption = None, as_json: JsonOption = False) -> None:
    """Show how many rows wait, for how many seconds, and how many were tried in vain or set aside."""
    with looking_into(app) as looked_into:
        found = looked_into.event.outbox.status()
    if as_json:
        print_json(found)
    else:
        show([found], as_json=False, row=_status_row, nothing="")


def _status_row(status: OutboxStatus) -> Row:
    return {
        "waiting": status.waiting,
        "oldest": status.oldest,
        "to be tried again": status.retrying,
        "set aside": status.aside,
    }


@commands.command()
def aside(
    limit: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="How many at most.")] = 100,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what was set aside because it could not be handed over, the oldest first, with its error."""
    with looking_into(app) as looked_into:
        found = looked_into.event.outbox.aside(limit)
    show(found, as_json=as_json, row=_aside_row, nothing="Nothing was set aside.")


def _aside_row(row: SetAside) -> Row:
    return {
        "id": row.id,
        "kind": row.kind,
        "name": row.name,
        "key": row.key,
        "attempts": row.attempts,
        "error": row.error,
        "since": row.set_aside_at,
    }


@commands.command()
def retry(
    ids: IdsArgument = None, *, everything: AllOption = False, app: AppOption = None, as_json: JsonOption = False
) -> None:
    """Have what was set aside tried again, with all its attempts. Name ids, or `--all`."""
    _check_named(ids, everything=everything)
    with looking_into(app) as looked_into:
        retried = looked_into.event.outbox.retry(ids or None)
    tell(f"{count(retried, 'row')} will be tried again.", {"retried": retried}, as_json=as_json)


@commands.command()
def discard(
    ids: IdsArgument = None,
    *,
    everything: AllOption = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove for good what was set aside. Name ids, or `--all`."""
    _check_named(ids, everything=everything)
    if not yes:
        typer.confirm("Remove what was set aside?", abort=True, err=True)
    with looking_into(app) as looked_into:
        discarded = looked_into.event.outbox.discard(ids or None)
    tell(f"Removed {count(discarded, 'row')}.", {"discarded": discarded}, as_json=as_json)


def _check_named(ids: list[str] | None, *, everything: bool) -> None:
    if not (ids or everything):
        raise InvalidInputError("say what: ids of events or runs, or --all")
