"""Lease: the handle of a lock that was granted."""

from __future__ import annotations

from datetime import timedelta
from typing import final

from msgspec.structs import replace

from pilotis.bridge import Latch, blocking, finish
from pilotis.durations import seconds
from pilotis.errors import LockLostError
from pilotis.modules.locking.keeper import Keeper
from pilotis.modules.locking.provider import Grant

SHORTEST_TTL = 0.01
"""Seconds. Below that, a lease would be over before its holder knows of it."""

SAFETY = 0.02
"""The part of the ttl by which a lease counts as lost before the backend lets go: clocks do not run quite alike."""


@final
class Lost(Latch):
    """A latch that is true once the lease is lost: `if lease.lost: ...`, `await lease.lost.wait(5)`."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return self.is_set()


@final
class Lease:
    """A lock that is held, until it is released or lost.

    It is lost when its deadline passes without a renewal, when the backend no longer knows it, when its app is closed
    (one from `acquire` lasts until its deadline then, too), and in a forked child, which never holds what its parent
    held. Lost is final.
    """

    def __init__(self, keeper: Keeper, grant: Grant) -> None:
        self.grant = grant
        self.renewing = False
        """Whether a renewal is under way."""
        self._keeper = keeper
        self._epoch = keeper.epoch
        self._lost = Lost()
        self._released = False
        self._renewed = self._retry = grant.since
        self.deadline = grant.since + grant.ttl * (1 - SAFETY)
        """By the app's clock, `clock.monotonic()`: when the lease counts as lost unless it is renewed or extended."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that are held, sorted."""
        return self.grant.keys

    @property
    def owner(self) -> str:
        """Who holds them: the owner that was named, or a fresh one that nobody else knows."""
        return self.grant.owner

    @property
    def token(self) -> int:
        """The fencing token: it grows with every grant of a key. Let what you write to refuse lower ones."""
        return self.grant.token

    @property
    def lost(self) -> Lost:
        """True once the lease is lost, which is before the backend lets go; false while it is held, and once released.

        Can be waited for: `await lease.lost.wait(timeout)`; `lease.lost.on_set(function)` calls back. A lease that is
        not renewed (one from `acquire`) notices that it is over when it is looked at.
        """
        if not self._released and self._is_over():
            self._lost.set()
        return self._lost

    @property
    def held(self) -> bool:
        """Whether it is neither lost nor released."""
        return not self._released and not self.lost

    @property
    def blocking_in_loop(self) -> str:
        return self._keeper.context.blocking_in_loop

    def check(self) -> None:
        """Raise `LockLostError` unless the lease is held."""
        if not self.held:
            raise self.lost_error()

    async def aextend(self, ttl: float | timedelta | None = None) -> None:
        """Have the lease last `ttl` seconds from now, or as long as it was asked for at first.

        It never ends sooner by that. Raises `LockLostError` if it is not held any more, and `InvalidInputError` for a
        ttl below 0.01.
        """
        lasting = self.grant.ttl if ttl is None else seconds(ttl, "ttl", minimum=SHORTEST_TTL)
        self.check()
        sent = self._keeper.now()
        grant = replace(self.grant, ttl=lasting, since=sent)
        if not (await self._keeper.renew([grant]))[0]:
            self.lose()
        self.check()
        self.prolong(sent, lasting)

    extend = blocking(aextend)

    async def arelease(self) -> bool:
        """Let go. Returns whether the lock was held until now: False if it was lost or released before.

        Raises `ConnectionFailedError` and its like if the backend could not be told; then it lets go when the ttl is
        over.
        """
        if self._released or self._is_foreign():
            return False
        was_held = self.held
        self._released = True
        self._keeper.drop(self)
        try:
            freed = await finish(self._keeper.release(self.grant))
        except Exception:
            self._released = False
            raise
        if not freed:
            self._lost.set()
        return freed and was_held

    release = blocking(arelease)

    # What its keeper does with it

    @property
    def due(self) -> float:
        """When it should be renewed: after a third of its ttl, or when the last try failed, a little later."""
        return max(self._renewed + self.grant.ttl / 3, self._retry)

    @property
    def ripe(self) -> float:
        """When it may be renewed along with others: half way to when it should be."""
        return max(self._renewed + self.grant.ttl / 6, self._retry)

    def prolong(self, sent: float, ttl: float) -> None:
        """Note a renewal that was sent at `sent`."""
        self._renewed = sent
        self.deadline = max(self.deadline, sent + ttl * (1 - SAFETY))

    def postpone(self, until: float) -> None:
        """Note a renewal that failed."""
        self._retry = until

    def lose(self) -> None:
        """Note that the lock is gone, unless it was released."""
        if not self._released:
            self._lost.set()

    def lost_error(self) -> LockLostError:
        """Make the error of a lease that is not held."""
        how = "lost before it was released" if self.lost else "released before"
        return self._keeper.error(LockLostError, f"the lock on {', '.join(self.keys)} was {how}", "hold")

    def _is_over(self) -> bool:
        return self._lost.is_set() or self._is_foreign() or self._keeper.now() >= self.deadline

    def _is_foreign(self) -> bool:
        return self._epoch is not self._keeper.epoch

    def __repr__(self) -> str:
        state = "held" if self.held else "lost" if self.lost else "released"
        return f"<Lease of {', '.join(self.keys)}, token {self.token}, {state}>"
