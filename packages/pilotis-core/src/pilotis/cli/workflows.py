"""`pilotis workflows`: runs, their history, and what can be done about them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, cast

import msgspec
import typer

from pilotis.cli.finding import looking_into
from pilotis.cli.options import AppOption, JsonOption, SinceOption, point_in_time
from pilotis.cli.outcome import WRONG
from pilotis.cli.showing import Row, print_json, print_table, show, tell
from pilotis.errors import InvalidInputError
from pilotis.modules.workflow import RunInfo, RunStatus, StepInfo

commands = typer.Typer(
    name="workflows",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look into the runs of workflows, and act on them.\n\n"
    "A workflow provider that keeps its runs in the process, as `memory` does, has none here: these commands are for "
    "those that are shared.",
)

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The id of the run.")]


@commands.command("list")
def list_runs(
    *,
    name: Annotated[str | None, typer.Option(metavar="WORKFLOW", help="Only runs of this workflow.")] = None,
    status: Annotated[
        str | None, typer.Option(metavar="STATE", help="Only runs in this state, such as failed or stuck.")
    ] = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="How many at most.")] = 100,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """List runs, the newest first."""
    start = None if since is None else point_in_time(since, "--since")
    with looking_into(app) as looked_into:
        runs = looked_into.workflow.find(name=name, status=cast("RunStatus | None", status), since=start, limit=limit)
    show(runs, as_json=as_json, row=_run_row, nothing="There is no such run.")


def _run_row(run: RunInfo) -> Row:
    return {
        "run": run.id,
        "workflow": run.name,
        "version": run.version,
        "status": run.status,
        "created": _time(run.created),
        "updated": _time(run.updated),
        "error": run.error,
    }


@commands.command("show")
def show_run(run: RunArgument, app: AppOption = None, as_json: JsonOption = False) -> None:
    """Show a run and its history, step by step."""
    with looking_into(app) as looked_into:
        info = looked_into.workflow.info(run)
        steps = looked_into.workflow.history(run)
    if as_json:
        print_json({"run": info, "steps": steps})
    else:
        print_table([_run_row(info)])
        show(steps, as_json=False, row=_step_row, nothing="It has not reached any step.")


def _step_row(step: StepInfo) -> Row:
    return {
        "step": step.step,
        "status": step.status,
        "attempts": step.attempts,
        "began": _time(step.began),
        "ended": _time(step.ended),
        "outcome": step.error or step.result,
    }


@commands.command()
def retry(
    run: RunArgument,
    from_step: Annotated[
        str | None, typer.Option(metavar="STEP", help="Forget this step and what came after it.", show_default=False)
    ] = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have a run that failed, or is stuck, go on where it stopped, or from a step."""
    with looking_into(app) as looked_into:
        looked_into.workflow.retry(run, from_step=from_step)
    tell(f"{run} goes on.", {"retried": run}, as_json=as_json)


@commands.command()
def cancel(run: RunArgument, app: AppOption = None, as_json: JsonOption = False) -> None:
    """Ask for a run to be cancelled. Its completed steps are compensated.

    Exits with 1 if it has ended already.
    """
    with looking_into(app) as looked_into:
        asked = looked_into.workflow.cancel(run)
    tell(f"{run} {'will be cancelled' if asked else 'has ended already'}.", {"cancelled": asked}, as_json=as_json)
    if not asked:
        raise typer.Exit(WRONG)


@commands.command()
def signal(
    run: RunArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the run waits for.")],
    value: Annotated[str, typer.Argument(metavar="JSON", help="What to tell it, as JSON.")] = "null",
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a signal to a run."""
    told = _decoded(value)
    with looking_into(app) as looked_into:
        looked_into.workflow.signal(run, name, told)
    tell(f"Sent {name} to {run}.", {"signalled": run, "name": name}, as_json=as_json)


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidInputError(f"the value of a signal is no JSON: {error} (text stands in double quotes)") from None


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
