"""`pilotis worker` and `pilotis relay`: the app at work, in this process or in several."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from pilotis.bridge import Latch
from pilotis.cli.finding import directories_of_app, find_app
from pilotis.cli.living import BEAT, Lifeline, beating, health_file
from pilotis.cli.logs import LogFormat, set_up
from pilotis.cli.options import AppOption
from pilotis.cli.supervising import Supervisor
from pilotis.cli.watching import Sources
from pilotis.errors import InvalidInputError

PlaceArgument = Annotated[
    str | None, typer.Argument(metavar="MODULE:NAME", help="The app, as with --app.", show_default=False)
]
ProcessesOption = Annotated[int, typer.Option(metavar="NUMBER", min=1, help="How many processes work side by side.")]
ConcurrencyOption = Annotated[
    int | None,
    typer.Option(
        metavar="NUMBER",
        min=1,
        help="How many event handlers run at once in each process, of all subscriptions together.",
        show_default=False,
    ),
]
GraceOption = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0,
        help="How long to wait at the end for what is under way. Else `event.grace` and `workflow.grace`.",
        show_default=False,
    ),
]
ReloadOption = Annotated[bool, typer.Option("--reload", help="Start afresh when the code changes: for development.")]
HealthOption = Annotated[
    Path | None,
    typer.Option(
        "--health-file",
        metavar="PATH",
        help=f"A file to touch every {BEAT:g} s while the worker is alive, and to remove at its end.",
        show_default=False,
    ),
]
LogFormatOption = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT",
        help="How log lines are written: logfmt or json. Else as the app says, or logfmt.",
        show_default=False,
    ),
]
LifelineOption = Annotated[
    int | None, typer.Option(metavar="NUMBER", help="What ties a child to its parent, with --processes.", hidden=True)
]


def worker(
    place: PlaceArgument = None,
    *,
    app: AppOption = None,
    processes: ProcessesOption = 1,
    concurrency: ConcurrencyOption = None,
    grace: GraceOption = None,
    reload: ReloadOption = False,
    health: HealthOption = None,
    log_format: LogFormatOption = None,
    lifeline: LifelineOption = None,
) -> None:
    """Handle events and run workflows until SIGTERM or Ctrl+C; then finish what was begun. A second one ends at once.

    Logs go to stderr. Where events and workflows are kept in the process itself, as the embedded providers do, the
    worker has only what it is told by the app's own code.
    """
    named, style = place or app, _checked(log_format)
    if processes > 1 or reload:
        set_up(style)
        options = {"--app": named, "--concurrency": concurrency, "--grace": grace, "--log-format": style}
        with health_file(health) as beats:
            sources = Sources(directories_of_app(named)) if reload else None
            raise typer.Exit(Supervisor(_arguments(options), processes, beats, sources).run())
    tied = None if lifeline is None else Lifeline(lifeline)
    _work(named, concurrency=concurrency, grace=grace, health=health, style=style, lifeline=tied)


def relay(
    place: PlaceArgument = None,
    *,
    app: AppOption = None,
    health: HealthOption = None,
    log_format: LogFormatOption = None,
) -> None:
    """Hand over what transactions have left in the outbox, until SIGTERM or Ctrl+C, and handle nothing.

    Workers do so too: this is for where there are none beside the database. Any number of relays share the work.
    """
    style = _checked(log_format)
    found = find_app(place or app).copy(role="emit")
    set_up(style)
    with health_file(health) as beats, beating(found, *beats):
        found.run_relay()


def _work(
    named: str | None,
    *,
    concurrency: int | None,
    grace: float | None,
    health: Path | None,
    style: LogFormat | None,
    lifeline: Lifeline | None,
) -> None:
    found = find_app(named)
    set_up(style)  # after the app's own code, which may have set up logging as it likes
    stop = Latch()
    with health_file(health) as beats:
        if lifeline is not None:
            lifeline.watch(stop)
            beats.append(lifeline.beat)
        with beating(found, *beats):
            found.run_worker(stop=stop, grace=grace, concurrency=concurrency)


def _arguments(options: Mapping[str, object]) -> list[str]:
    """Return the command line of a child."""
    given = [(name, str(value)) for name, value in options.items() if value is not None]
    return ["worker", *(part for pair in given for part in pair)]


def _checked(style: str | None) -> LogFormat | None:
    if style not in (None, "logfmt", "json"):
        raise InvalidInputError(f"--log-format: expected logfmt or json, got {style!r}")
    return style
