"""Semaphore: a key that a bounded number may hold together."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from pilotis.bridge import blocking
from pilotis.modules.locking.hold import Hold
from pilotis.modules.locking.lease import Lease
from pilotis.modules.locking.requests import Duration

if TYPE_CHECKING:
    from pilotis.modules.locking.portable import Locking


@final
class Semaphore:
    """`permits` of one key: `with app.locking.semaphore("api", permits=5).hold() as lease`.

    Everybody should name the same number for a key: each request looks whether fewer than its own number hold it.
    Who asks for the key alone, by `locking.hold`, waits until all permits are back.
    """

    def __init__(self, locking: Locking, key: str, permits: int) -> None:
        self._locking = locking
        self.key = key
        self.permits = permits

    @property
    def blocking_in_loop(self) -> str:
        return self._locking.blocking_in_loop

    def hold(
        self,
        *,
        ttl: Duration | None = None,
        wait: Duration | None = None,
        owner: str | None = None,
        cancel_on_loss: bool = False,
    ) -> Hold:
        """Hold a permit around a block, as `locking.hold` does.

        A block inside a block of the same task that has a permit raises `ReentrantCallError`: it could wait for itself.
        """
        return self._locking.hold(
            self.key, ttl=ttl, wait=wait, owner=owner, permits=self.permits, cancel_on_loss=cancel_on_loss
        )

    async def aacquire(self, *, owner: str | None = None, ttl: Duration | None = None, wait: Duration = 0) -> Lease:
        """Take a permit and return its lease, which is not renewed, as `locking.acquire` does.

        An owner has one permit: when it acquires again, the ttl of that one begins anew.
        """
        return await self._locking.aacquire(self.key, owner=owner, ttl=ttl, wait=wait, permits=self.permits)

    acquire = blocking(aacquire)

    def __repr__(self) -> str:
        return f"<Semaphore {self.key}, {self.permits} permits>"
