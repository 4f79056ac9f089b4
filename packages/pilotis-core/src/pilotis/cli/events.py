"""`pilotis events`: lanes and dead letters."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator
from typing import Annotated, Any, cast

import msgspec
import typer

from pilotis.cli.eventing import describe, line_of
from pilotis.cli.finding import looking_into
from pilotis.cli.options import AppOption, JsonOption, SinceOption, point_in_time, span
from pilotis.cli.outcome import WRONG
from pilotis.cli.showing import Row, count, print_json, progress, show, tell
from pilotis.errors import InvalidInputError
from pilotis.modules.event import DeadLetterRecord, DeclaredLanes, Event, LaneInfo

commands = typer.Typer(
    name="events",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look into lanes, the queues of subscriptions, and their dead letters.\n\n"
    "An event provider that keeps its lanes in the process, as `local` does, has none here: these commands are for "
    "those that are shared, and for providers that the app's own code has filled.",
)

SubscriptionArgument = Annotated[str, typer.Argument(metavar="SUBSCRIPTION", help="The id of the subscription.")]
SubscriptionOption = Annotated[
    str | None, typer.Option("--subscription", metavar="ID", help="Only those of this subscription.")
]


@commands.command()
def lanes(app: AppOption = None, as_json: JsonOption = False) -> None:
    """List the lanes, and how they are doing."""
    with looking_into(app) as looked_into:
        found = looked_into.event.lanes()
    show(found, as_json=as_json, row=_lane_row, nothing="Nobody subscribes to any event.")


def _lane_row(lane: LaneInfo) -> Row:
    return {
        "lane": lane.lane,
        "paused": lane.paused,
        "queued": lane.queued,
        "delayed": lane.delayed,
        "in flight": lane.in_flight,
        "dead": lane.dead,
        "succeeded": lane.succeeded,
        "retried": lane.retried,
    }


@commands.command()
def lag(app: AppOption = None, as_json: JsonOption = False) -> None:
    """List how far lanes are behind, the worst first: for how many seconds the first event that waits has been due."""
    with looking_into(app) as looked_into:
        found = sorted(looked_into.event.lanes(), key=lambda lane: -(lane.oldest or 0.0))
    show(found, as_json=as_json, row=_lag_row, nothing="Nobody subscribes to any event.")


def _lag_row(lane: LaneInfo) -> Row:
    return {
        "lane": lane.lane,
        "lag": lane.oldest,
        "queued": lane.queued,
        "held": lane.held,
        "delayed": lane.delayed,
        "next due": lane.next_due,
        "in flight": lane.in_flight,
        "readers": lane.readers,
    }


@commands.command()
def sync(app: AppOption = None, as_json: JsonOption = False) -> None:
    """Make the lanes of all that the app includes, before any worker runs: for a deployment.

    Tells which lanes are new, which were declared otherwise, and which the backend has and the app does not.
    """
    with looking_into(app) as looked_into:
        declared = looked_into.event.declare_all()
    if as_json:
        print_json(declared)
    else:
        show(_sync_rows(declared), as_json=False, row=_as_it_is, nothing="The app subscribes to no event.")


def _sync_rows(declared: DeclaredLanes) -> list[Row]:
    lanes_by_state: dict[str, list[str]] = msgspec.structs.asdict(declared)
    return [{"lane": lane, "state": state} for state, lanes in lanes_by_state.items() for lane in lanes]


def _as_it_is(row: Row) -> Row:
    return row


@commands.command()
def dead(
    *,
    subscription: SubscriptionOption = None,
    name: Annotated[str | None, typer.Option(metavar="EVENT", help="Only events of this name.")] = None,
    since: SinceOption = None,
    ids: Annotated[
        list[str] | None, typer.Option("--id", metavar="ID", help="Only this event; may be repeated.")
    ] = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, the oldest first. `show` tells all about one."""
    start = None if since is None else point_in_time(since, "--since")
    with looking_into(app) as looked_into:
        bus = looked_into.event
        letters = list(bus.dead_letters(subscription=subscription, name=name, since=start, ids=ids or None))
    show(letters, as_json=as_json, row=_letter_row, nothing="There are no dead letters.")


def _letter_row(letter: DeadLetterRecord) -> Row:
    return {
        "id": letter.id,
        "event": letter.name,
        "subscription": letter.subscription or letter.pattern,
        "attempts": letter.attempts,
        "cause": letter.cause,
        "error": letter.error,
        "died": letter.died_at,
    }


@commands.command("show")
def show_letters(
    event: Annotated[str, typer.Argument(metavar="ID", help="The id of the event.")],
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the dead letters of an event, one for each subscription that gave it up: data, error and traceback.

    Exits with 1 if there is none.
    """
    with looking_into(app) as looked_into:
        letters = list(looked_into.event.dead_letters(ids=event))
    if as_json:
        print_json(letters)
    else:
        typer.echo("\n\n".join(map(describe, letters)) or f"There is no dead letter of {event!r}.")
    if not letters:
        raise typer.Exit(WRONG)


@commands.command()
def replay(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of events.")] = None,
    subscription: SubscriptionOption = None,
    everything: Annotated[bool, typer.Option("--all", help="All dead letters there are.")] = False,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put dead letters back into their lanes, with all their attempts.

    Name events, a subscription, or `--all`.
    """
    if not (ids or subscription or everything):
        raise InvalidInputError("say which dead letters: ids of events, --subscription, or --all")
    with progress("Replaying ..."), looking_into(app) as looked_into:
        replayed = looked_into.event.replay(ids=ids or None, subscription=subscription)
    tell(f"Replayed {count(replayed, 'dead letter')}.", {"replayed": replayed}, as_json=as_json)


@commands.command()
def purge(
    subscription: Annotated[
        str | None, typer.Argument(metavar="SUBSCRIPTION", help="The id of the subscription.")
    ] = None,
    *,
    dead: Annotated[bool, typer.Option("--dead", help="Remove dead letters instead.")] = False,
    older_than: Annotated[
        str, typer.Option(metavar="SPAN", help="With --dead: only those that died 90s, 15m, 2h or 7d ago, or earlier.")
    ] = "0s",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove for good what waits for a subscription, or dead letters.

    What is being handled goes on. With `--dead` and no subscription, the dead letters of all are removed.
    """
    age = span(older_than, "--older-than")
    what = f"{'dead letters' if dead else 'events that wait'} for {subscription or 'all subscriptions'}"
    if subscription is None and not dead:
        raise InvalidInputError("say whose events to remove: the id of a subscription")
    if not yes:
        typer.confirm(f"Remove {what}?", abort=True, err=True)
    with progress("Purging ..."), looking_into(app) as looked_into:
        bus = looked_into.event
        purged = bus.purge_dead(subscription, older_than=age) if dead else bus.purge(str(subscription))
    tell(f"Removed {purged} {what}.", {"purged": purged}, as_json=as_json)


@commands.command()
def pause(subscription: SubscriptionArgument, app: AppOption = None, as_json: JsonOption = False) -> None:
    """Have a subscription wait: its events are kept, and not handled until `resume`."""
    with looking_into(app) as looked_into:
        looked_into.event.pause(subscription)
    tell(f"Paused {subscription}.", {"paused": subscription}, as_json=as_json)


@commands.command()
def resume(subscription: SubscriptionArgument, app: AppOption = None, as_json: JsonOption = False) -> None:
    """Have a paused subscription go on."""
    with looking_into(app) as looked_into:
        looked_into.event.resume(subscription)
    tell(f"Resumed {subscription}.", {"resumed": subscription}, as_json=as_json)


@commands.command()
def unsubscribe(
    subscription: SubscriptionArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a subscription for good: its lanes with all that waits in them, and its dead letters.

    The app must not subscribe to it any more, or it would make the lane anew.
    """
    if not yes:
        typer.confirm(f"Remove the subscription {subscription} with all that waits for it?", abort=True, err=True)
    with looking_into(app) as looked_into:
        removed = looked_into.event.forget(subscription)
    tell(f"Removed {count(removed, 'lane')} of {subscription}.", {"removed": removed}, as_json=as_json)


@commands.command()
def tail(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="Only events of this name or pattern.")] = "*",
    limit: Annotated[int | None, typer.Option(metavar="NUMBER", min=1, help="End after so many.")] = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show events as they are emitted, until Ctrl+C. With `--json`, one document on each line.

    When they come faster than they can be shown, the oldest are left out.
    """
    with looking_into(app) as looked_into, contextlib.suppress(KeyboardInterrupt):
        events = cast("Generator[Event[Any], None, None]", looked_into.event.tail(pattern))
        with contextlib.closing(events):
            for event in itertools.islice(events, limit):
                tell(line_of(event), event, as_json=as_json)
