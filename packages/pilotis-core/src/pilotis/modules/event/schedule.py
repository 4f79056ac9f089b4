"""Periodic events: each fire has an id of its own, so that it is emitted once, whoever is awake."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from functools import partial
from hashlib import blake2b
from typing import Any

import msgspec

from pilotis.bridge import Latch
from pilotis.codec import CANONICAL
from pilotis.context import Context
from pilotis.cron import cron_times
from pilotis.durations import seconds
from pilotis.errors import ConfigurationError
from pilotis.keys import check_text
from pilotis.modules.event.checks import LONGEST_NAME
from pilotis.modules.event.model import Message
from pilotis.runtime import Job

logger = logging.getLogger("pilotis.event.schedule")

SHORTEST = 0.001


class Periodic(msgspec.Struct, frozen=True):
    """An event that is emitted again and again. `next(after)` is the first time after another, both since 1970."""

    id: str
    trigger: str
    message: Message
    next: Callable[[float], float]


def every_seconds(interval: float | timedelta, message: Message, id: str | None) -> Periodic:
    """Return an event at each whole multiple of `interval`."""
    length = seconds(interval, "interval", minimum=SHORTEST)
    return _periodic(f"every:{length:g}", message, id, partial(_next_multiple, length))


def on_cron(expression: str, timezone: str, message: Message, id: str | None) -> Periodic:
    """Return an event whenever a cron expression says."""
    times = cron_times(expression, timezone)
    return _periodic(f"cron:{expression}:{timezone}", message, id, times)


def _periodic(trigger: str, message: Message, id: str | None, next: Callable[[float], float]) -> Periodic:
    return Periodic(_schedule_id(trigger, message, id), trigger, message, next)


def joined(known: Sequence[Periodic], new: Sequence[Periodic]) -> list[Periodic]:
    """Return all periodic events, those that are declared twice once.

    Raises ConfigurationError for two that share an id and differ: each fire of the one would pass for the other's.
    """
    by_id = {periodic.id: periodic for periodic in known}
    for periodic in new:
        first = by_id.setdefault(periodic.id, periodic)
        if (first.trigger, first.message) != (periodic.trigger, periodic.message):
            raise ConfigurationError(
                f"the schedule {periodic.id!r} is declared twice, for {first.message.name!r} ({first.trigger}) and for "
                f"{periodic.message.name!r} ({periodic.trigger}), with options that differ; give one of them another id"
            )
    return list(by_id.values())


def _schedule_id(trigger: str, message: Message, id: str | None) -> str:
    """Return what every process that declares the same schedule calls it."""
    if id is not None:
        return check_text(id, "id", maximum=LONGEST_NAME)
    data = CANONICAL.encode(message.data, "data")
    return f"{message.name}:{blake2b(trigger.encode() + b' ' + data, digest_size=8).hexdigest()}"


def _next_multiple(length: float, after: float) -> float:
    return (math.floor(after / length) + 1) * length


class Scheduler:
    """Keeps the periodic events of one bus going, each in a job of its own."""

    def __init__(self, context: Context, emit: Callable[[Message], Coroutine[Any, Any, object]]) -> None:
        self._context = context
        self._emit = emit
        self.after_fork()

    def begin(self, periodics: Sequence[Periodic]) -> None:
        """Start those that are not going yet."""
        with self._lock:
            for periodic in periodics:
                if periodic.id not in self._jobs:
                    self._jobs[periodic.id] = self._context.runtime.spawn(self._keep_firing(periodic), periodic.id)

    async def stop(self) -> None:
        """End them all, and wait until they have ended."""
        with self._lock:
            jobs, self._jobs = list(self._jobs.values()), {}
        for job in jobs:
            job.cancel()
        for job in jobs:
            await job.ended.wait()

    def after_fork(self) -> None:
        """The jobs stayed with the parent."""
        self._lock = threading.Lock()
        self._jobs: dict[str, Job[Any]] = {}

    async def _keep_firing(self, periodic: Periodic) -> None:
        clock = self._context.clock
        while True:
            due = periodic.next(clock.time())
            while (left := due - clock.time()) > 0:
                await clock.wait(Latch(), left)
            await self._fire(periodic, due)

    async def _fire(self, periodic: Periodic, due: float) -> None:
        name = periodic.message.name  # other services on the bus may have a schedule with the same id
        message = msgspec.structs.replace(periodic.message, id=f"{name} {periodic.id}@{due:.3f}")
        try:
            await self._emit(message)
        except Exception:  # the next fire may succeed, and nobody waits for this one
            logger.exception("the periodic event %s of %s could not be emitted", message.name, periodic.id)
