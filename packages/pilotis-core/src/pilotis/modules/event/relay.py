"""The relay: hands over what transactions have committed to the outbox."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from pilotis.bridge import Latch
from pilotis.errors import (
    AuthenticationError,
    OperationError,
    PermissionDeniedError,
    PilotisError,
    StorageFullError,
    UsageError,
)
from pilotis.findings import Finding
from pilotis.modules.event.outages import Outage
from pilotis.modules.event.outbox import ClaimedRow, Handed, OutboxKind
from pilotis.modules.event.outlet import Outbox
from pilotis.modules.event.provider import OutgoingEvent
from pilotis.modules.event.rows import event_of, run_of
from pilotis.runtime import Job

logger = logging.getLogger("pilotis.event.relay")

_FIRST_LOOK = 0.001

T = TypeVar("T")
Send = Callable[[Sequence[OutgoingEvent]], Awaitable[object]]
Start = Callable[[str, Any], Awaitable[object]]


class Relay:
    """Empties the outbox of one bus, from `begin` to `stop`. Any number of them, anywhere, share the work."""

    def __init__(self, outbox: Outbox, send: Send, start: Start) -> None:
        """Hand events over to `send`, and runs to `start`, with the name of their workflow module's instance."""
        self._outbox = outbox
        self._context = outbox.context
        self._settings = outbox.settings
        self._send = send
        self._start = start
        outbox.on_written = self.nudge
        self.reset()

    def reset(self) -> None:
        """Forget everything: the job belongs to a parent process, or ended with `stop`."""
        self._lock = threading.Lock()
        self._jobs: list[Job[Any]] = []
        self._stopping = False
        self._halted = Latch()
        self._wake = Latch()
        self._next_look: float | None = None
        self._asking: list[Latch] = []
        self._idle = self._outage("the relay of the outbox")
        self._deaf = self._outage("the watch for commits of the outbox")
        self.handed_over = 0
        """How many rows it has handed over."""

    @property
    def begun(self) -> bool:
        """Whether it works."""
        return bool(self._jobs)

    def begin(self, kinds: Sequence[OutboxKind]) -> None:
        """Start to work, on rows of these kinds. Doing so again does nothing."""
        with self._lock:
            if not self._jobs and not self._stopping:
                spawn = self._context.runtime.spawn
                self._jobs = [spawn(self._run(kinds), "outbox relay"), spawn(self._watch(), "outbox watch")]

    async def stop(self, grace: float) -> None:
        """Claim nothing more, and wait up to `grace` real seconds for what is being handed over."""
        self._stopping = True
        self._halted.set()
        self._wake.set()
        jobs, self._jobs = self._jobs, []
        if jobs:
            await jobs[0].ended.wait(grace)
        for job in jobs:
            await job.end()
        self._answer(list(self._asking))

    def nudge(self) -> None:
        """Have it look now, and again and again for a while, less and less often: a commit is expected."""
        self._next_look = _FIRST_LOOK
        self._wake.set()

    async def caught_up(self, timeout: float | None) -> bool:
        """Wait until all that was committed before this call is handed over, as far as it is due.

        Returns False when it is not after `timeout` seconds, or when the relay is stopped. A relay that was not begun
        has nothing to do.
        """
        if not self.begun:
            return True
        done = Latch()
        self._asking.append(done)
        self._wake.set()
        if self._stopping:
            return False
        return await self._context.clock.wait(done, timeout) and not self._stopping

    def findings(self) -> list[Finding]:
        """Tell what keeps it from its work now."""
        return [*self._idle.findings(), *self._deaf.findings()]

    # At work

    async def _run(self, kinds: Sequence[OutboxKind]) -> None:
        while True:
            self._wake = Latch()  # before anything is looked at, so that nobody wakes in vain
            if self._stopping:
                return
            asking = list(self._asking)
            claimed = await self._persist(lambda: self._outbox.relay(kinds, self._hand_over), self._idle)
            if claimed == 0:
                self._answer(asking)
                await self._rest()

    async def _watch(self) -> None:
        await self._persist(lambda: self._outbox.watch(self._wake_up), self._deaf)

    def _wake_up(self) -> None:
        self._deaf.over()
        self._wake.set()

    def _answer(self, asking: Sequence[Latch]) -> None:
        for done in asking:
            self._asking.remove(done)
            done.set()

    async def _rest(self) -> None:
        """Wait until woken, at most for the poll; while a commit is expected, for longer and longer."""
        wait = self._next_look
        if wait is None or wait >= self._settings.poll:
            self._next_look = None
            await self._context.clock.wait(self._wake, self._settings.poll)
        else:
            self._next_look = 2 * wait
            await self._wake.wait(wait)  # real seconds: a test's clock does not move by itself

    async def _persist(self, call: Callable[[], Awaitable[T]], outage: Outage) -> T | None:
        """Repeat a call until it succeeds: an outage of the bus or the database slows it down."""
        while True:
            try:
                result = await call()
            except PilotisError as error:
                pause = outage.lasts(error)
                if self._stopping:
                    return None
                await self._context.clock.wait(self._halted, pause)
            else:
                outage.over()
                return result

    def _outage(self, what: str) -> Outage:
        return Outage(logger, self._context.clock, self._outbox.bus, what)

    # Handing over

    async def _hand_over(self, rows: Sequence[ClaimedRow]) -> Sequence[Handed]:
        try:
            await self._deliver(rows)
        except Exception as error:
            if _is_outage(error):
                raise
            handed = await self._one_by_one(rows)
        else:
            handed = [Handed(row=row, verdict="done") for row in rows]
        self.handed_over += sum(it.verdict == "done" for it in handed)
        return handed

    async def _deliver(self, rows: Sequence[ClaimedRow]) -> None:
        now = self._context.clock.time()
        events = [event_of(row, now) for row in rows if row.kind == "event"]
        if events:
            await self._send(events)
        for row in rows:
            if row.kind == "run":
                await self._start(*run_of(row))

    async def _one_by_one(self, rows: Sequence[ClaimedRow]) -> list[Handed]:
        """Find the rows that cannot be handed over. What comes after one of them, of the same key, is kept."""
        handed: list[Handed] = []
        waiting: set[str] = set()
        for row in rows:
            tried = Handed(row=row, verdict="kept") if row.key in waiting else await self._try(row)
            if tried.verdict == "retry" and row.key is not None:
                waiting.add(row.key)
            handed.append(tried)
        return handed

    async def _try(self, row: ClaimedRow) -> Handed:
        try:
            await self._deliver([row])
        except Exception as error:
            if _is_outage(error):
                raise
            return self._judged(row, _told(error))
        return Handed(row=row, verdict="done")

    def _judged(self, row: ClaimedRow, error: str) -> Handed:
        attempt = row.attempts + 1
        if attempt < self._settings.attempts:
            logger.warning("the %s %s (%s) could not be handed over: %s", row.kind, row.id, row.name, error)
            return Handed(row=row, verdict="retry", delay=self._settings.backoff.delay(attempt), error=error)
        logger.error(
            "the %s %s (%s) is set aside after %d attempts: %s", row.kind, row.id, row.name, attempt, error
        )  # fmt: skip
        return Handed(row=row, verdict="aside", error=error)


def _told(error: Exception) -> str:
    """Return an error as text that any database takes: what is no character in it would be refused for ever."""
    return f"{type(error).__name__}: {error}".encode("utf-8", "replace").decode()


def _is_outage(error: Exception) -> bool:
    """Tell whether an error says nothing about the row: the next one would fail too."""
    if isinstance(error, (UsageError, AuthenticationError, PermissionDeniedError, StorageFullError)):
        return True
    return isinstance(error, OperationError) and error.retryable
