"""Hold: the block that a lock is held around, and what running code knows about the locks around it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import TracebackType
from typing import NamedTuple, final

from pilotis.bridge import blocking, running_loop, scoped
from pilotis.errors import InvalidInputError, PilotisError, ReentrantCallError
from pilotis.modules.locking.cancelling import CancelOnLoss
from pilotis.modules.locking.keeper import Keeper
from pilotis.modules.locking.lease import Lease
from pilotis.modules.locking.provider import LockRequest
from pilotis.scopes import held_locks


class _Around(NamedTuple):
    """A lease around the running code, and the task that took it: None on a thread without a loop."""

    keeper: Keeper
    lease: Lease
    task: int | None


_around: ContextVar[tuple[_Around, ...]] = scoped("pilotis_leases_around", ())


@final
class Hold:
    """A block that holds a lock: `with app.locking.hold("order:1") as lease:`, or `async with`.

    May be used again, but not while it is entered: every block that runs at the same time needs a `hold` of its own.
    """

    def __init__(
        self,
        keeper: Keeper,
        request: LockRequest,
        take: Callable[[LockRequest], Awaitable[Lease]],
        *,
        cancel_on_loss: bool = False,
    ) -> None:
        self._keeper = keeper
        self._request = request
        self._take = take
        self._cancels = cancel_on_loss
        self._cancelling: CancelOnLoss | None = None
        self._lease: Lease | None = None
        self._entered = False
        self._before: tuple[tuple[_Around, ...], frozenset[str]] = ((), frozenset())

    @property
    def blocking_in_loop(self) -> str:
        return self._keeper.context.blocking_in_loop

    async def __aenter__(self) -> Lease:
        """Take the lock. Raises `LockNotAcquiredError` when the wait is over, `ReentrantCallError` if nested."""
        self._refuse_nested()
        self._refuse_to_cancel_a_thread()
        self._before = _around.get(), held_locks.get()
        self._entered = True
        try:
            self._lease = lease = await self._take(self._request)
            if self._request.connection is None:  # what lives with a transaction is not renewed
                self._keeper.keep(lease)
        except BaseException:
            await self._abandon()
            raise
        self._surround(lease)
        self._cancelling = CancelOnLoss(lease) if self._cancels else None
        return lease

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let go. Raises `LockLostError` if the lease was lost meanwhile; an error of the block gets a note instead."""
        lease, self._lease, self._entered = self._lease, None, False
        assert lease is not None, "a hold is left before it is entered"
        self._restore()
        is_ours = self._stop_cancelling() and isinstance(error, asyncio.CancelledError)
        failure = await _let_go(lease)
        if failure is not None and (error is None or is_ours):
            raise failure
        if failure is not None and error is not None:
            error.add_note(f"pilotis: {failure}")

    _enter = blocking(__aenter__)
    _exit = blocking(__aexit__)

    def __enter__(self) -> Lease:
        lease = self._enter()
        self._surround(lease)  # once more: it may have been entered on a helper thread
        return lease

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()
        self._exit(kind, error, traceback)

    def _stop_cancelling(self) -> bool:
        cancelling, self._cancelling = self._cancelling, None
        return cancelling is not None and cancelling.end()

    async def _abandon(self) -> None:
        lease, self._lease, self._entered = self._lease, None, False
        if lease is not None:
            await lease.arelease()

    def _surround(self, lease: Lease) -> None:
        leases, keys = self._before
        _around.set((*leases, _Around(self._keeper, lease, _task())))
        held_locks.set(keys.union(lease.keys))

    def _restore(self) -> None:
        leases, keys = self._before
        _around.set(leases)
        held_locks.set(keys)

    def _refuse_to_cancel_a_thread(self) -> None:
        if self._cancels and running_loop() is None:
            raise InvalidInputError(
                "cancel_on_loss: a plain block cannot be cancelled; use `async with`, or look at `lease.lost` inside"
            )

    def _refuse_nested(self) -> None:
        if self._entered:
            raise ReentrantCallError("this hold is entered already; call hold(...) again for another block")
        for around in _around.get():
            both = sorted(set(around.lease.keys).intersection(self._request.keys))
            if both and around.keeper is self._keeper and around.lease.held and _is_ours(around):
                raise ReentrantCallError(
                    f"hold of {', '.join(both)} inside a block that holds it already: it would wait for itself. "
                    f"Take all keys in the outer block, and pass its lease on"
                )


async def _let_go(lease: Lease) -> Exception | None:
    """Release a lease and return what went wrong: that it was lost, or that the backend could not be told."""
    cause: Exception | None = None
    try:
        await lease.arelease()
    except PilotisError as error:
        cause = error
    if not lease.lost:
        return cause
    failure = lease.lost_error()
    failure.__cause__ = cause
    return failure


def _task() -> int | None:
    return None if running_loop() is None else id(asyncio.current_task())


def _is_ours(around: _Around) -> bool:
    """Tell whether this task took the lease, or called out to this thread or loop while holding it.

    A task that was begun inside the block inherits its context, and may wait for the block to end.
    """
    task = _task()
    return task is None or around.task is None or task == around.task
