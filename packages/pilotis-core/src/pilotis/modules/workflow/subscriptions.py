"""Who is told when runs change their state."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from pilotis.bridge import Latch
from pilotis.errors import InvalidInputError
from pilotis.keys import check_text, glob
from pilotis.modules.workflow.limits import contained
from pilotis.modules.workflow.model import STATUSES, Notice, RunInfo, run_info
from pilotis.modules.workflow.replay import Desk
from pilotis.runtime import Job

logger = logging.getLogger("pilotis.workflow")

EVENTS = frozenset({"run.started", *(f"run.{status}" for status in STATUSES - {"pending"})})
PATIENCE = 1.0
READ_SECONDS = 30.0

Listener = Callable[[RunInfo], Any]


class Subscriptions:
    """The life-cycle subscriptions of one engine. One job reads for all of them, once there is one."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._listeners: list[tuple[Callable[[str], bool], Listener]] = []
        self._open = False
        self.after_fork()

    def after_fork(self) -> None:
        """The job stayed with the parent; who listens, listens in the child too."""
        self._lock = threading.Lock()
        self._job: Job[Any] | None = None
        self._listening = Latch()

    def add(self, event: str, function: Listener) -> Callable[[], None]:
        """Add a subscription, and return what ends it."""
        matches = glob(check_text(event, "event"))
        if not any(matches(name) for name in EVENTS):
            raise InvalidInputError(f"event: expected one of {', '.join(sorted(EVENTS))}, or a pattern, got {event!r}")
        entry = (matches, function)
        with self._lock:
            self._listeners.append(entry)
        self._begin()
        return lambda: self._remove(entry)

    def take_over(self, others: Subscriptions) -> None:
        """Tell those who listen to others too."""
        with self._lock:
            self._listeners += [entry for entry in others._listeners if entry not in self._listeners]
        self._begin()

    def open(self) -> None:
        """The provider is open: reading may begin."""
        self._open = True
        self._begin()

    async def ready(self) -> None:
        """Wait until what happens from now on will be heard."""
        self._begin()
        if self._job is not None:
            await self._listening.wait()

    async def stop(self) -> None:
        """End reading."""
        self._open = False
        if self._job is not None:
            await self._job.end()

    def _remove(self, entry: tuple[Callable[[str], bool], Listener]) -> None:
        with self._lock:
            if entry in self._listeners:
                self._listeners.remove(entry)

    def _begin(self) -> None:
        with self._lock:
            if self._open and self._listeners and self._job is None:
                self._job = self._desk.context.runtime.spawn(self._read_forever(), "pilotis-workflow-notices")

    async def _read_forever(self) -> None:
        cursor: str | None = None
        try:
            while True:
                notices, cursor = await self._read(cursor)
                self._listening.set()
                await self._tell(notices)
        finally:
            self._listening.set()

    async def _read(self, cursor: str | None) -> tuple[list[Notice], str | None]:
        try:
            return await self._desk.provider.notices(cursor, READ_SECONDS)
        except Exception:
            logger.exception("life-cycle notices could not be read; trying again in %g s", PATIENCE)
        await self._desk.context.clock.pause(PATIENCE)
        return [], cursor

    async def _tell(self, notices: Sequence[Notice]) -> None:
        for notice in notices:
            for matches, function in list(self._listeners):
                if matches(notice.event):
                    await self._call(function, notice)

    async def _call(self, function: Listener, notice: Notice) -> None:
        try:
            await self._desk.context.runtime.call(contained(function), run_info(notice.run))
        except Exception:
            logger.exception("a subscriber to %s failed for run %s", notice.event, notice.run.id)
