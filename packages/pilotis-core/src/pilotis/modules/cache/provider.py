"""What an author of a cache provider writes: few verbs, on keys that are mapped and values that are encoded."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Flag, auto
from typing import ClassVar

import msgspec

from pilotis.backoff import Backoff
from pilotis.errors import UnsupportedError
from pilotis.provider import Provider

CLAIM_MARK = b"\x1f"
"""How the mark of a claim begins, and no value."""

POLLS = Backoff.exponential(0.004, factor=1.02, maximum=0.25, jitter=0.2)
"""The pauses between asking whether a claim still stands: each a few hundredths of the wait so far."""

ReadNow = Callable[[Sequence[str]], "list[bytes | None] | None"]


class CacheCapability(Flag):
    """What a cache provider may guarantee beyond keeping bytes for a while."""

    MATCHING = auto()
    """Entries can be removed by a pattern: `remove_matching`. The portable class needs it for `clear` and globs."""
    MATCH_COUNT = auto()
    """`remove_matching` tells how many entries it removed, and removes no other ones."""
    SINGLE_FLIGHT = auto()
    """Processes can claim a key while they compute its value, and wait for one another: `claim`, `settle`,
    `await_change`. Without it `get_or_set` computes once in each process."""
    PUSH = auto()
    """Who waits for the claim of another process is woken at once when that is settled. Without it, but with
    SINGLE_FLIGHT, he asks, with pauses that grow from 4 ms to a quarter of a second."""
    TRACKING = auto()
    """It tells of every change to its keys, whoever makes it: `track`, `read_entries`. The near cache needs it."""
    BOUNDED = auto()
    """It never holds more entries than its option `max_entries`, and evicts what was used least recently."""


class Entry(msgspec.Struct, frozen=True):
    """A value to keep."""

    key: str
    value: bytes
    ttl: float | None
    """Seconds from now, greater than zero. None keeps it until it is removed or evicted."""


class CacheProvider(Provider):
    """A cache of one backend: text in, bytes out.

    Every verb may be called from many threads and event loops at once. Verbs hold nobody up for longer than one round
    trip to the backend, except `remove_matching`. Nothing is retried: a failed call is a miss, or is told to
    the user. Keys are text without control characters; they contain the name of the app and of a namespace, and are
    at most about 3,000 characters long. A key never touches another one. An entry whose ttl is over is absent for every
    verb. Time is the backend's own, or `context.clock`.
    """

    capabilities: ClassVar[CacheCapability]  # pyright: ignore[reportIncompatibleVariableOverride]

    @abstractmethod
    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the value of each key, in the order of `keys`; None for an absent one. There is at least one key.

        All in one round trip. The bytes are those that were written, to the last one. A key may be named twice.
        """

    def read_now(self, keys: Sequence[str]) -> list[bytes | None] | None:
        """Do as `read` where that takes no waiting at all, and no I/O; else return None, and `read` is asked.

        Optional, for what is in the memory of this process: it saves two coroutines for every hit. It does not fail. A
        class that overrides `read` alone has changed all reading: what it inherits of this is not asked then. Nor is
        that of an `asyncio_only` provider.
        """
        return None

    @abstractmethod
    async def write(self, entries: Sequence[Entry], *, only_absent: bool = False) -> list[bool]:
        """Keep each entry for its own ttl, and tell of each, in order, whether it was stored. There is at least one.

        An entry that exists is replaced, with its ttl. With `only_absent` it stays as it is, and False is told; of
        several writers at once one stores. Entries are stored each by itself: there is no transaction around them.
        """

    @abstractmethod
    async def remove(self, keys: Sequence[str]) -> int:
        """Remove the entries, and return how many of them there were. There is at least one key.

        Absent keys are nothing to complain about. A key that is named twice counts once.
        """

    @abstractmethod
    async def count(self, key: str, by: int, ttl: float | None) -> int:
        """Add `by`, which may be negative, to the number under `key`, atomically, and return the sum.

        An absent entry counts from zero and is created with `ttl`; one that exists keeps its own. Numbers are stored as
        decimal text, `b"-12"`, which `read` returns, and which `write` may have stored. Anything else, or a sum outside
        64 bits with sign, is an `InvalidInputError`, or a native error that `classify` takes for one, and the entry
        stays as it is. Not idempotent: never sent again after a lost answer.
        """

    @abstractmethod
    async def expire(self, key: str, ttl: float | None) -> bool:
        """Have the entry last `ttl` seconds from now, None for good, and tell whether there is such an entry.

        Its value stays. For an absent one nothing is created. A claim (below) is no entry here: it stays as it is.
        """

    async def remove_matching(self, pattern: str) -> int | None:
        """Remove the entries whose whole key fits the pattern, and return how many that were.

        `*` stands for any run of characters, also for none; every other character stands for itself. The first star
        comes after the second colon: a pattern is about one namespace of one app. It may take as
        long as it needs, but holds up other callers for milliseconds only. Entries that are written meanwhile may stay.
        Without CacheCapability.MATCH_COUNT it returns None, and may remove more of the same namespace.
        Optional: CacheCapability.MATCHING.
        """
        raise UnsupportedError("MATCHING", self.name or type(self).__name__)

    # Computing once among processes. A claim is an entry like any other, whose value is a mark, which begins with
    # `CLAIM_MARK`: it is read, replaced by `write`, in the way of `only_absent`, removed and over after its ttl; only
    # `expire` does not know it. No two computations have the same mark.

    async def claim(self, keys: Mapping[str, bytes | None], mark: bytes, ttl: float) -> list[Entry | None]:
        """Keep `mark` for `ttl` seconds under each key that has no entry, or exactly the value that is named with it.

        For each key in order: None if it is claimed now, else the entry that is there, with the ttl that it has left.
        There is at least one key. All in one round trip, or in two; each key by itself is atomic, and of several
        claimers at once one succeeds. Optional: CacheCapability.SINGLE_FLIGHT.
        """
        raise UnsupportedError("SINGLE_FLIGHT", self.name or type(self).__name__)

    async def settle(self, results: Mapping[str, Entry | None], mark: bytes) -> list[bool]:
        """Put each entry in the place of `mark`, or, for None, nothing; tell of each whether `mark` was still there.

        Where it is not, what is there stays as it is. In either case those who wait for the key are woken, in other
        processes too; an entry whose value is `mark` itself has the claim last on, and wakes nobody. All in one round
        trip, each key by itself atomic. Optional: CacheCapability.SINGLE_FLIGHT.
        """
        raise UnsupportedError("SINGLE_FLIGHT", self.name or type(self).__name__)

    async def await_change(self, key: str, mark: bytes, timeout: float) -> bool:
        """Wait until `mark` under `key` is settled, at most `timeout` seconds, and tell whether it may have been.

        Returns at once if it is not there any more. A settlement between looking and waiting is not missed. That a
        claim is over, removed or replaced by `write` need not be noticed. Many may wait at once, for the same key and
        for others; waiting takes no connection from other verbs. Optional: CacheCapability.SINGLE_FLIGHT. This one
        reads the key again and again, with growing pauses; a backend that can push overrides it, and declares
        CacheCapability.PUSH.
        """
        if CacheCapability.SINGLE_FLIGHT not in self.capabilities:
            raise UnsupportedError("SINGLE_FLIGHT", self.name or type(self).__name__)
        clock, asked = self.context.clock, 0
        deadline = clock.monotonic() + timeout
        while await self.read([key]) == [mark]:
            left = deadline - clock.monotonic()
            if left <= 0:
                return False
            asked += 1
            await clock.pause(min(left, POLLS.delay(asked)))
        return True

    # Keeping entries at hand, in the memory of each process

    async def read_entries(self, keys: Sequence[str]) -> list[Entry | None]:
        """Do as `read`, and tell of each entry the ttl that it has left, too. Optional: CacheCapability.TRACKING."""
        raise UnsupportedError("TRACKING", self.name or type(self).__name__)

    async def track(self, prefix: str, on_change: Callable[[Collection[str] | None], object]) -> None:
        """Tell of changes to the keys that begin with `prefix`, until that is cancelled; raise once it is not possible.

        Calls `on_change(None)` as soon as every later change will be told, and again where any key may have changed.
        Then `on_change(keys)` for what was written, counted, claimed, settled, removed, or prolonged, by whatever
        process, at the latest a moment after the change is seen by `read`, and never before; an entry whose ttl is
        over need not be told. `on_change` takes no time. A lost connection is noticed within seconds, and raised.
        Called under an event loop, on which it may stay for hours. Optional: CacheCapability.TRACKING.
        """
        raise UnsupportedError("TRACKING", self.name or type(self).__name__)


def now_reader(provider: CacheProvider) -> ReadNow | None:
    """Return the `read_now` of a provider; None where it has none, or where its class overrides `read` alone."""
    for kind in type(provider).__mro__:
        if kind is not CacheProvider and "read_now" in vars(kind):
            return provider.read_now
        if "read" in vars(kind):
            return None
    return None
