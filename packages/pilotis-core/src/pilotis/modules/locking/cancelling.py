"""Cancelling the task inside a block whose lease was lost, and telling that from any other cancellation."""

from __future__ import annotations

import asyncio
import contextlib
from typing import final

from pilotis.modules.locking.lease import Lease


@final
class CancelOnLoss:
    """Cancels the running task once when a lease is lost, until `end`. Made and ended by that task.

    Follows `asyncio.Timeout` in how cancellations are counted: one of its own is taken back, and those of others go on.
    """

    def __init__(self, lease: Lease) -> None:
        task = asyncio.current_task()
        assert task is not None, "made outside of a task"
        self._task = task
        self._loop = task.get_loop()
        self._lease = lease
        self._cancelled_before = task.cancelling()
        self._ended = self._has_cancelled = False
        lease.lost.on_set(self._tell)

    def end(self) -> bool:
        """Cancel no more. Returns whether a cancellation that is under way is its own, and nobody else's."""
        self._ended = True
        self._lease.lost.forget(self._tell)
        return self._has_cancelled and self._task.uncancel() <= self._cancelled_before

    def _tell(self) -> None:
        """Called by whoever found the loss, on whatever thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the block over
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if not self._ended:
            self._has_cancelled = True
            self._task.cancel()
