"""Periodic events: each fire has an id of its own, so that it is emitted once, whoever is awake."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec

from pilotis.bridge import Latch
from pilotis.codec import CANONICAL
from pilotis.context import Context
from pilotis.durations import seconds
from pilotis.errors import ConfigurationError
from pilotis.keys import check_text
from pilotis.modules.event.model import Message
from pilotis.runtime import Job

if TYPE_CHECKING:
    from cronsim import CronSim

logger = logging.getLogger("pilotis.event.schedule")

SHORTEST = 0.001


class Periodic(msgspec.Struct, frozen=True):
    """An event that is emitted again and again. `next(after)` is the first time after another, both since 1970."""

    id: str
    message: Message
    next: Callable[[float], float]


def every_seconds(interval: float | timedelta, message: Message, id: str | None) -> Periodic:
    """Return an event at each whole multiple of `interval`."""
    length = seconds(interval, "interval", minimum=SHORTEST)
    return Periodic(_schedule_id(f"every:{length:g}", message, id), message, partial(_next_multiple, length))


def on_cron(expression: str, timezone: str, message: Message, id: str | None) -> Periodic:
    """Return an event whenever a cron expression says."""
    zone = _zone(check_text(timezone, "timezone"))
    next_match = partial(_next_match, check_text(expression, "expression"), zone)
    try:
        next_match(0.0)
    except StopIteration as error:
        raise ConfigurationError(f"cron expression {expression!r} never comes true") from error
    return Periodic(_schedule_id(f"cron:{expression}:{timezone}", message, id), message, next_match)


def _schedule_id(trigger: str, message: Message, id: str | None) -> str:
    """Return what every process that declares the same schedule calls it."""
    if id is not None:
        return check_text(id, "id")
    data = CANONICAL.encode(message.data, "data")
    return f"{message.name}:{blake2b(trigger.encode() + b' ' + data, digest_size=8).hexdigest()}"


def _next_multiple(length: float, after: float) -> float:
    return (math.floor(after / length) + 1) * length


def _next_match(expression: str, zone: tzinfo, after: float) -> float:
    return next(_cron(expression, datetime.fromtimestamp(after, zone))).timestamp()


def _cron(expression: str, after: datetime) -> CronSim:
    try:
        from cronsim import CronSim, CronSimError
    except ImportError as error:
        raise ConfigurationError("cron needs cronsim. Install it with: pip install 'pilotis-core[cron]'") from error
    try:
        return CronSim(expression, after)
    except CronSimError as error:
        raise ConfigurationError(f"cron expression {expression!r} cannot be read: {error}") from error


def _zone(timezone: str) -> tzinfo:
    if timezone == "UTC":
        return UTC
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"time zone {timezone!r} is not known; expected a name such as 'Europe/Paris'"
        ) from error


class Scheduler:
    """Keeps the periodic events of one bus going, each in a job of its own."""

    def __init__(self, context: Context, emit: Callable[[Message], Coroutine[Any, Any, object]]) -> None:
        self._context = context
        self._emit = emit
        self._jobs: dict[int, Job[Any]] = {}

    def begin(self, periodics: Sequence[Periodic]) -> None:
        """Start those that are not going yet."""
        for periodic in periodics:
            if id(periodic) not in self._jobs:
                self._jobs[id(periodic)] = self._context.runtime.spawn(self._keep_firing(periodic), periodic.id)

    async def stop(self) -> None:
        """End them all, and wait until they have ended."""
        jobs, self._jobs = list(self._jobs.values()), {}
        for job in jobs:
            job.cancel()
        for job in jobs:
            await job.ended.wait()

    def after_fork(self) -> None:
        """The jobs stayed with the parent."""
        self._jobs = {}

    async def _keep_firing(self, periodic: Periodic) -> None:
        clock = self._context.clock
        while True:
            due = periodic.next(clock.time())
            while (left := due - clock.time()) > 0:
                await clock.wait(Latch(), left)
            await self._fire(periodic, due)

    async def _fire(self, periodic: Periodic, due: float) -> None:
        message = msgspec.structs.replace(periodic.message, id=f"{periodic.id}@{due:.3f}")
        try:
            await self._emit(message)
        except Exception:  # the next fire may succeed, and nobody waits for this one
            logger.exception("the periodic event %s of %s could not be emitted", message.name, periodic.id)
