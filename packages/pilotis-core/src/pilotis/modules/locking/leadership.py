"""Leadership: standing for leader again and again, one at a time for each name."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self, final

from pilotis.bridge import Latch, blocking, finish, scoped
from pilotis.errors import ClosedError, LockNotAcquiredError
from pilotis.modules.locking.keeper import Keeper
from pilotis.modules.locking.lease import Lease
from pilotis.modules.locking.provider import LockRequest
from pilotis.runtime import Job

logger = logging.getLogger("pilotis.locking")

LONGEST_CAMPAIGN = 3600.0
"""Seconds after which whoever was not elected queues anew: no backend has to remember a wait for ever."""
RETRY_SECONDS = 1.0

_FAILURES = (Exception, asyncio.CancelledError, SystemExit)
"""Of functions of the caller's: any of them would end a candidate who is to stand again."""

_called_by: ContextVar[Leadership | None] = scoped("pilotis_leadership", None)


@final
class Leadership:
    """A candidate for one name, until it is stopped. Made by `locking.lead`. Thread-safe.

    A block, `with` or `async with`, stops it at its end.
    """

    def __init__(
        self,
        keeper: Keeper,
        request: LockRequest,
        take: Callable[[LockRequest], Awaitable[Lease]],
        on_elected: Callable[[Lease], object],
        on_revoked: Callable[[], object] | None,
    ) -> None:
        self._keeper = keeper
        self._request = request
        self._take = take
        self._on_elected = on_elected
        self._on_revoked = on_revoked
        self._epoch = keeper.epoch
        self._stop = Latch()
        self._lease: Lease | None = None
        self._job: Job[Any] | None = None
        self._is_telling = False

    @property
    def name(self) -> str:
        """What is led."""
        return self._request.keys[0]

    @property
    def leading(self) -> bool:
        """Whether this is the leader now, as far as can be known: check the token where it matters."""
        lease = self._lease
        return lease is not None and lease.held

    @property
    def blocking_in_loop(self) -> str:
        return self._keeper.context.blocking_in_loop

    def begin(self, ended: Callable[[], object]) -> None:
        """Stand for leader in the background; `ended()` is called once it is over."""
        self._job = self._keeper.context.runtime.spawn(self._run(), f"leadership of {self.name}")
        self._job.ended.on_set(ended)

    async def astop(self) -> None:
        """Stand no longer. A leader's `on_revoked` has returned then, and others may be elected. Idempotent.

        Inside of its own `on_elected` or `on_revoked` it only begins to stop. Nothing happens in a forked child, where
        nobody leads.
        """
        self._stop.set()
        job = self._job
        if job is None or self._epoch is not self._keeper.epoch:
            return
        if self._is_telling and _called_by.get() is self:
            job.cancel()
        else:
            await job.end()

    stop = blocking(astop)

    async def give_up(self, seconds: float) -> None:
        """Stop, and wait no longer than so many seconds for `on_revoked`: the module closes."""
        job = self._job
        if job is not None and self._epoch is self._keeper.epoch:
            self._stop.set()
            job.cancel()
            await job.ended.wait(seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.astop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # In the background

    async def _run(self) -> None:
        while not self._stop.is_set():
            try:
                lease = await self._take(self._request)
            except LockNotAcquiredError:
                continue
            except ClosedError:
                return
            except Exception as error:
                logger.warning("nobody could be elected for %s, which will be tried again: %s", self.name, error)
                await self._pause()
            else:
                has_led = await finish(self._reign(lease))  # a cancelled leader hands its office over in order
                if not has_led:
                    await self._pause()

    async def _reign(self, lease: Lease) -> bool:
        """Be the leader until that is over, and tell whether it could be begun."""
        self._lease = lease
        self._keeper.keep(lease)
        try:
            has_begun = await self._tell("on_elected", self._on_elected, lease)
            if has_begun:
                await self._until_over(lease)
                await self._tell("on_revoked", self._on_revoked)
        finally:
            self._lease = None
            await self._release(lease)
        return has_begun

    async def _until_over(self, lease: Lease) -> None:
        over = Latch()
        self._stop.on_set(over.set)
        lease.lost.on_set(over.set)
        await over.wait()
        self._stop.forget(over.set)

    async def _tell(self, what: str, function: Callable[..., object] | None, *args: object) -> bool:
        """Call a function of the caller's, and tell whether it succeeded."""
        if function is None:
            return True
        _called_by.set(self)  # in the context of this job alone
        self._is_telling = True
        try:
            await self._keeper.context.runtime.call(function, *args)
        except _FAILURES:
            logger.exception("%s of the leadership of %s failed", what, self.name)
            return False
        finally:
            self._is_telling = False
        return True

    async def _release(self, lease: Lease) -> None:
        try:
            await lease.arelease()
        except Exception as error:
            logger.warning("the office of %s could not be given back, and ends after its ttl: %s", self.name, error)

    async def _pause(self) -> None:
        await self._keeper.context.clock.wait(self._stop, RETRY_SECONDS)
