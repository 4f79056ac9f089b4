"""What an author of a locking provider writes: few verbs, each one atomic operation of the backend."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from datetime import datetime
from enum import Flag, auto

import msgspec

from pilotis.errors import UnsupportedError
from pilotis.provider import Provider


class LockingCapability(Flag):
    """What a locking provider may guarantee beyond mutual exclusion of several keys, all or none."""

    EXPIRY = auto()
    """A lease ends by itself when its ttl is over, whatever became of its holder."""
    FENCING = auto()
    """The token of a key's grant is greater than every token granted for that key before."""
    FAIR = auto()
    """Who waits for a key gets it in the order of arrival; several keys are queued for in sorted order."""
    OWNERS = auto()
    """The same owner may acquire again, and locks are released by their owner's name: `release_owner`."""
    INSPECT = auto()
    """Who holds a key can be looked up: `inspect`."""
    SHARED = auto()
    """Holders that ask for `shared` hold a key together, and exclude the others."""
    SEMAPHORE = auto()
    """A shared request may bound how many hold the key together: `permits`."""
    LIST = auto()
    """What is held at this moment can be listed: `held`."""
    BREAK = auto()
    """A lock can be taken away from whoever holds it: `break_lock`."""
    TRANSACTION = auto()
    """A lock can be taken inside the caller's own transaction, and lives until its end: `LockRequest.connection`."""
    CROSS_PROCESS = auto()
    """Locks are seen by other processes that use the same backend."""


class LockRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for. Checked by the portable class."""

    keys: tuple[str, ...]
    """At least one, without repetition, sorted."""
    owner: str
    ttl: float
    """Seconds from the grant, greater than zero."""
    wait: float = 0.0
    """Seconds. Zero tries once."""
    shared: bool = False
    permits: int | None = None
    """With `shared`: how many may hold each key together, this one included. None: any number."""
    connection: object | None = None
    """The caller's own connection, inside whose transaction the lock is taken, and with which it ends.

    Then `ttl` is a hundred years, nothing is renewed, and `release` has only to tell whether the lock is still there.
    Optional: LockingCapability.TRANSACTION.
    """


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What was granted: proof of ownership for `renew` and `release`."""

    keys: tuple[str, ...]
    owner: str
    token: int
    """Greater than zero, and than every token granted for any of the keys before."""
    ttl: float
    since: float
    """A reading of `context.clock.monotonic()`, not later than when the backend began to count the ttl."""
    shared: bool = False
    handle: object | None = None
    """What the provider needs to find the lock again, such as the connection that it lives with. Nobody else looks."""


class LockState(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a key at this moment."""

    key: str
    owner: str
    """Of a shared lock, the holder that came first."""
    token: int
    since: datetime | None = None
    """When the owner got it, in UTC. None where the backend does not tell."""
    expires: datetime | None = None
    """When the lease ends unless it is renewed, in UTC. None where the backend knows no expiry."""
    waiters: int = 0
    """How many stand in its queue. Who waits for several keys stands in one queue at a time, in sorted order."""
    holders: int = 1
    """More than one only where the lock is shared."""
    shared: bool = False


class LockingProvider(Provider):
    """Locks of one backend.

    `capabilities` are a `LockingCapability`. Every verb is one atomic operation of the backend, may be called from
    many threads and event loops at once, and is safe to send again after a lost answer. Keys and owners are text that
    the portable class has checked; two different keys never share a lock. Time is the backend's own, or
    `context.clock`.
    """

    @abstractmethod
    async def acquire(self, request: LockRequest) -> Grant | None:
        """Lock all keys for the owner, or none of them and return None.

        With a `wait` of zero it looks once, and is not held up by anybody. Otherwise it waits up to `wait` seconds,
        woken by whoever lets go: while it waits it sends nothing, except once whenever a lease in its way may have run
        out. It returns None not much later than `wait`. Waiters on a key are served in the order in which they came,
        and nobody who comes later goes before them.

        An owner that holds all of the keys gets them again at once: nothing is counted, the ttl begins anew but never
        ends sooner than before, and the token is the highest of those it has. Keys that it does not hold yet
        are waited for beside those that it holds.

        When the caller is cancelled or interrupted, at whatever moment, nothing stays behind: no lock and no place in
        a queue. What the owner held before stays as it was.
        """

    @abstractmethod
    async def renew(self, grants: Sequence[Grant]) -> list[bool]:
        """Have every grant last its own `ttl` from now, and tell of each, in order, whether it is held.

        One command for all. A grant of which any key has run out or belongs to somebody else is False and stays so:
        renewing never revives it, even where nobody has taken its keys. A lease never ends sooner by being renewed.
        """

    @abstractmethod
    async def release(self, grant: Grant) -> bool:
        """Free the keys that are still held under this grant, and tell whether all of them were.

        A key belongs to the grant while it has the same owner and a token not higher than the grant's: then
        it was held without a break since. Other holders are never touched, so releasing twice returns False.
        """

    async def release_owner(self, owner: str, keys: Sequence[str] | None = None) -> int:
        """Free what the owner holds, of `keys` alone where they are given, and return how many keys that were.

        Optional: LockingCapability.OWNERS.
        """
        raise UnsupportedError("OWNERS", self.name or type(self).__name__)

    async def inspect(self, key: str) -> LockState | None:
        """Return who holds the key, or None where nobody does. Optional: LockingCapability.INSPECT."""
        raise UnsupportedError("INSPECT", self.name or type(self).__name__)

    async def held(self, prefix: str, limit: int) -> list[LockState]:
        """Return up to `limit` of the keys that begin with `prefix` and are held now, sorted by key.

        Never looks at the keys of other namespaces one by one. Optional: LockingCapability.LIST.
        """
        raise UnsupportedError("LIST", self.name or type(self).__name__)

    async def break_lock(self, key: str) -> int:
        """Take the key away from whoever holds it, wake who waits, and return how many holders it was taken from.

        Their leases are lost: renewing and releasing are False. Other keys of theirs stay, where the backend can tell
        them apart. Optional: LockingCapability.BREAK.
        """
        raise UnsupportedError("BREAK", self.name or type(self).__name__)
