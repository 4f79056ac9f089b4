"""Keeper: renews all leases of a module with one job, and speaks to the provider for them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pilotis.bridge import Latch, reset_after_fork
from pilotis.context import Context
from pilotis.errors import OperationError
from pilotis.modules.base import Portable
from pilotis.modules.locking.provider import Grant, LockingProvider
from pilotis.runtime import Job

if TYPE_CHECKING:
    from pilotis.modules.locking.lease import Lease

logger = logging.getLogger("pilotis.locking")

E = TypeVar("E", bound=OperationError)

LONGEST_RETRY = 1.0
STOP_SECONDS = 5.0
ROUNDING = 1e-6
"""Seconds: waiting until a moment may end a rounding error before it."""


class Keeper:
    """Keeps the leases that are renewed. Thread-safe.

    One job on the runtime's loop sleeps until the next lease is due, at a third of its ttl, and then renews, by one
    call of the provider, every lease that is at least half way there: so leases that were taken at different times
    come together. A call that fails is tried again until the deadline. The job never waits for a call: a deadline
    that passes meanwhile makes the lease lost at that moment.
    """

    def __init__(self, portable: Portable[LockingProvider], provider: LockingProvider) -> None:
        self._portable = portable
        self._provider = provider
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self.epoch = object()
        """Of this process: leases of another epoch belong to the parent."""
        self._lock = threading.Lock()
        self._leases: dict[Lease, None] = {}
        self._running = self._stopped = False
        self._wakes = 0.0
        self._changed = Latch()
        self._jobs: set[Job[Any]] = set()

    @property
    def context(self) -> Context:
        return self._portable.context

    def now(self) -> float:
        """Read the clock by which leases are measured."""
        return self.context.clock.monotonic()

    def error(self, kind: type[E], message: str, operation: str) -> E:
        """Make an error that says where it comes from."""
        portable = self._portable
        return kind(message, module=portable.module, provider=portable.provider_name, operation=operation)

    # The provider's verbs

    async def renew(self, grants: Sequence[Grant]) -> list[bool]:
        """Renew grants. Raises `ClosedError` once the module has stopped, as `release` does."""
        await self._refuse_if_stopped()
        with self._portable.calling("renew"):
            return await self._provider.renew(grants)

    async def release(self, grant: Grant) -> bool:
        """Release a grant. Works while the module is closing: its leaders give back what they have."""
        await self._refuse_if_stopped()
        with self._portable.calling("release"):
            return await self._provider.release(grant)

    async def _refuse_if_stopped(self) -> None:
        if self._stopped:
            await self._portable.aopen()

    # Renewal

    def keep(self, lease: Lease) -> None:
        """Renew a lease from now on, until it is dropped or lost."""
        with self._lock:
            if self._stopped:
                lease.lose()
                return
            self._leases[lease] = None
            starts, self._running = not self._running, True
            sooner = lease.due < self._wakes
        if starts:
            self._spawn(self._run(), "locking-renewals")
        elif sooner:
            self._changed.set()

    def drop(self, lease: Lease) -> None:
        """Renew a lease no longer."""
        with self._lock:
            self._leases.pop(lease, None)

    def start(self) -> None:
        """Begin, again if need be: an app whose opening failed half-way closes its modules, and may open them anew."""
        with self._lock:
            self._stopped = False

    async def stop(self) -> None:
        """End all work; the leases that were renewed are lost, since nobody renews them any more."""
        with self._lock:
            self._stopped = True
            leases, self._leases = self._leases, {}
            jobs = list(self._jobs)
        for lease in leases:
            lease.lose()
        for job in jobs:
            job.cancel()
        for job in jobs:
            await job.ended.wait(STOP_SECONDS)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        job = self.context.runtime.spawn(work, name)
        self._jobs.add(job)
        job.ended.on_set(lambda: self._jobs.discard(job))

    async def _run(self) -> None:
        while (moment := self._next()) is not None:
            await self.context.clock.wait(self._changed, moment - self.now())
            self._tick(self.now() + ROUNDING)

    def _next(self) -> float | None:
        """Return when there is something to do, or None when the job may end."""
        with self._lock:
            self._changed = Latch()
            self._running = bool(self._leases)
            self._wakes = min(map(_moment, self._leases), default=0.0)
            return self._wakes if self._running else None

    def _tick(self, now: float) -> None:
        with self._lock:
            over = [lease for lease in self._leases if now >= lease.deadline]
            for lease in over:
                del self._leases[lease]
            waiting = [lease for lease in self._leases if not lease.renewing]
            batch = [lease for lease in waiting if now >= lease.ripe]
            if not any(now >= lease.due for lease in batch):
                batch = []
            for lease in batch:
                lease.renewing = True
        for lease in over:
            lease.lose()
        if batch:
            self._spawn(self._renew(batch), "locking-renewal")

    async def _renew(self, batch: list[Lease]) -> None:
        sent = self.now()
        try:
            answers = await self.renew([lease.grant for lease in batch])
        except Exception as error:
            self._try_again(batch, error)
        else:
            self._note(batch, answers, sent)
        finally:
            for lease in batch:
                lease.renewing = False
            self._changed.set()

    def _try_again(self, batch: list[Lease], error: Exception) -> None:
        logger.warning("%d leases could not be renewed, and will be tried again: %s", len(batch), error)
        now = self.now()
        for lease in batch:
            lease.postpone(now + min(LONGEST_RETRY, lease.grant.ttl / 10))

    def _note(self, batch: list[Lease], answers: list[bool], sent: float) -> None:
        for lease, held in zip(batch, answers, strict=True):
            if held:
                lease.prolong(sent, lease.grant.ttl)
            else:
                self.drop(lease)
                lease.lose()


def _moment(lease: Lease) -> float:
    """Return when the lease needs to be looked at."""
    return lease.deadline if lease.renewing else min(lease.due, lease.deadline)
