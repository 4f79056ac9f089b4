"""Runs that are started by the clock."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from pilotis.bridge import Latch
from pilotis.errors import ConfigurationError, InvalidInputError
from pilotis.modules.workflow.beginnings import new_run
from pilotis.modules.workflow.flows import Flow
from pilotis.modules.workflow.model import Fire, RunRecord
from pilotis.modules.workflow.replay import Desk
from pilotis.runtime import Job

logger = logging.getLogger("pilotis.workflow")

PATIENCE = 1.0
"""Seconds after which a fire is tried again, until the next one is due."""


class Schedule(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A workflow that is started at certain times. `next(after)` is the first time after another."""

    id: str
    flow: Any
    input: bytes
    next: Callable[[float], float]
    overlap: Literal["skip", "allow"]
    removed: Latch


class Schedules:
    """The schedules of one engine, each kept in a job of its own while the engine works."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._schedules: dict[str, Schedule] = {}
        self._jobs: dict[str, Job[Any]] = {}

    def after_fork(self) -> None:
        """The jobs stayed with the parent; what is scheduled is scheduled in the child too."""
        self._jobs = {}

    def take_over(self, others: Schedules) -> None:
        """Schedule what others have scheduled too."""
        for schedule in others._schedules.values():
            self._schedules.setdefault(schedule.id, replace(schedule, removed=Latch()))

    def any(self) -> bool:
        """Whether there is a schedule."""
        return bool(self._schedules)

    def add(
        self,
        times: Callable[[float], float],
        flow: Flow[..., Any],
        data: bytes,
        id: str,
        overlap: Literal["skip", "allow"],
    ) -> None:
        """Add a schedule. Raises `ConfigurationError` for a used id."""
        if overlap not in ("skip", "allow"):
            raise InvalidInputError(f'overlap: expected "skip" or "allow", got {overlap!r}')
        if id in self._schedules:
            raise ConfigurationError(
                f"there is a schedule {id!r} already; take it back with unschedule, or use another id"
            )
        self._schedules[id] = Schedule(
            id=id, flow=flow, input=data, next=times, overlap=overlap, removed=Latch()
        )  # fmt: skip

    def remove(self, id: str) -> bool:
        """Take a schedule back. Returns whether there was one."""
        schedule = self._schedules.pop(id, None)
        self._jobs.pop(id, None)
        if schedule is not None:
            schedule.removed.set()
        return schedule is not None

    def begin(self) -> None:
        """Keep those going that are not yet."""
        for schedule in list(self._schedules.values()):
            if schedule.id not in self._jobs:
                job = self._desk.context.runtime.spawn(self._keep_firing(schedule), f"pilotis-schedule-{schedule.id}")
                self._jobs[schedule.id] = job

    async def stop(self) -> None:
        """End them all, and wait until they have ended."""
        jobs, self._jobs = list(self._jobs.values()), {}
        for job in jobs:
            job.cancel()
        for job in jobs:
            await job.ended.wait()

    async def _keep_firing(self, schedule: Schedule) -> None:
        clock = self._desk.context.clock
        while not schedule.removed.is_set():
            due = schedule.next(clock.time())
            while (left := due - clock.time()) > 0 and not schedule.removed.is_set():
                await clock.wait(schedule.removed, left)
            if not schedule.removed.is_set():
                await self._fire(schedule, due)

    async def _fire(self, schedule: Schedule, due: float) -> None:
        desk = self._desk
        run = new_run(desk.context, schedule.flow, f"{schedule.id}@{due:.0f}", schedule.input, desk.retention)
        fire = Fire(schedule.id, due, schedule.overlap)
        while not await self._started(replace(run, schedule=schedule.id), fire):
            is_removed = await desk.context.clock.wait(schedule.removed, PATIENCE)
            if is_removed or desk.context.clock.time() >= schedule.next(due):
                return

    async def _started(self, run: RunRecord, fire: Fire) -> bool:
        """Tell whether a fire was used up, by whoever; else it can be tried again."""
        try:
            await self._desk.provider.start(run, fire=fire)
        except Exception:
            logger.exception("schedule %s could not start workflow %s", fire.schedule, run.name)
            return False
        return True
