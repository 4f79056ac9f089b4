"""An app at work, from its start to its end."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Generator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from pilotis.bridge import Latch, finish, gather
from pilotis.durations import optional_seconds
from pilotis.errors import ConfigurationError, OperationError, ProviderNotFoundError
from pilotis.modules.base import Portable
from pilotis.modules.event.checks import check_count
from pilotis.signals import ended_by_signals

if TYPE_CHECKING:
    from pilotis.app import Pilotis
    from pilotis.modules.event import EventBus

logger = logging.getLogger("pilotis.worker")

LOOK_SECONDS = 60.0
"""How often a worker looks for lanes that nobody reads, and for processes that disagree."""

_FIRST_LOOK_SECONDS = 20.0


async def work(
    app: Pilotis, ending: Latch, *, grace: float | timedelta | None = None, concurrency: int | None = None
) -> None:
    """Open an app, work until `ending` is set, and close it: `app.arun_worker`."""
    if app.role == "emit":
        raise ConfigurationError('this app only emits; expected "work" or "all" to run a worker', path="role")
    patience = optional_seconds(grace, "grace")
    app.context.concurrency = None if concurrency is None else check_count(concurrency, "concurrency")
    with ended_by_signals(ending):
        async with _open(app):
            logger.info("worker started", extra=_beginning(app))
            with _looking_out(app):
                await ending.wait()
            app.context.ends_by = None if patience is None else time.monotonic() + patience
            logger.info("worker stopping", extra=_under_way(app))
        logger.info("worker stopped", extra=_counts(app))


async def relay(app: Pilotis, ending: Latch) -> None:
    """Open an app, hand over what is in its outboxes until `ending` is set, and close it: `app.arun_relay`."""
    if app.role != "emit":
        raise ConfigurationError(
            f'a relay handles nothing: expected "emit", got "{app.role}", whose workers relay by themselves',
            path="role",
        )
    buses = _relayed_buses(app)
    with ended_by_signals(ending):
        async with app:
            await gather(*[bus.abegin_relay() for bus in buses])
            logger.info("relay started", extra={"app": app.name or "pilotis"})
            await ending.wait()
            logger.info("relay stopping", extra={"app": app.name or "pilotis"})


def _relayed_buses(app: Pilotis) -> list[EventBus]:
    configured = app.settings.modules["event"]
    names = [name for name, settings in configured.items() if settings.outbox is not None]
    if not names:
        raise ConfigurationError("expected the URL of the database that is relayed", path="event.outbox")
    buses = [cast("EventBus", app.module("event", name)) for name in names]
    for bus, name in zip(buses, names, strict=True):
        if not bus.shared:
            raise ConfigurationError(
                f"provider {bus.provider_name!r} keeps events in the process that emits them, and nobody would hear "
                "what a separate relay hands over; choose a shared one, such as redis. A worker, or an app of role "
                '"all", relays by itself',
                path=configured[name].path,
            )
    return buses


def consuming(app: Pilotis) -> list[Portable[Any]]:
    """Return the modules that a worker is for: events, and workflows unless nobody chose or installed any.

    A relay, which handles nothing, is for events alone.
    """
    if app.role == "emit":
        return [app.event]
    try:
        return [app.event, app.workflow]
    except ProviderNotFoundError:
        return [app.event]  # an app whose settings name what is not installed does not get as far as this


@contextlib.asynccontextmanager
async def _open(app: Pilotis) -> AsyncGenerator[None, None]:
    await app.__aenter__()
    try:
        # A worker consumes, whether or not anything was emitted or started here.
        await gather(*[module.aopen() for module in consuming(app)])
        yield
    finally:
        await finish(app.__aexit__())


def _beginning(app: Pilotis) -> dict[str, object]:
    return {"app": app.name or "pilotis", "role": app.role, "subscriptions": app.event.subscribed}


def _under_way(app: Pilotis) -> dict[str, object]:
    return {"app": app.name or "pilotis", "at_hand": app.event.at_hand}


def _counts(app: Pilotis) -> dict[str, object]:
    tally = app.event.tally
    return {
        "app": app.name or "pilotis",
        "done": tally.get("done", 0),
        "retried": tally.get("retry", 0),
        "dead": tally.get("dead", 0),
        "given_back": tally.get("back", 0),
        "fenced": app.event.fenced,
        "hung": app.event.stuck_handlers,
    }


@contextlib.contextmanager
def _looking_out(app: Pilotis) -> Generator[None, None, None]:
    job = app.context.runtime.spawn(_look_out(app), "worker's lookout")
    try:
        yield
    finally:
        job.cancel()


async def _look_out(app: Pilotis) -> None:
    """Warn of what is wrong with lanes that no handler would notice: once for each."""
    told: set[str] = set()
    await app.context.clock.pause(_FIRST_LOOK_SECONDS)
    while True:
        with contextlib.suppress(OperationError):  # whoever receives logs the outage
            for finding in await app.event.aunattended():
                if finding.what not in told:
                    told.add(finding.what)
                    logger.warning("%s: %s. To mend it: %s", finding.what, finding.why, finding.mend)
        await app.context.clock.pause(LOOK_SECONDS)
