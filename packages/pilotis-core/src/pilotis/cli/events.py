"""`pilotis events`: lanes and dead letters."""

from __future__ import annotations

from typing import Annotated

import typer

from pilotis.cli.finding import looking_into
from pilotis.cli.options import AppOption, JsonOption, SinceOption, point_in_time, span
from pilotis.cli.showing import Row, count, progress, show, tell
from pilotis.errors import InvalidInputError
from pilotis.modules.event import DeadLetterRecord, LaneInfo

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
def dead(
    subscription: SubscriptionOption = None,
    name: Annotated[str | None, typer.Option(metavar="EVENT", help="Only events of this name.")] = None,
    since: SinceOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, the oldest first."""
    start = None if since is None else point_in_time(since, "--since")
    with looking_into(app) as looked_into:
        letters = list(looked_into.event.dead_letters(subscription=subscription, name=name, since=start))
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
