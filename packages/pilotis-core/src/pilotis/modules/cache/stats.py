"""What the cache did so far."""

from __future__ import annotations

import msgspec


class CacheStats(msgspec.Struct, kw_only=True, frozen=True):
    """What a cache, with all its namespaces, did in this process since it was made."""

    hits: int = 0
    misses: int = 0
    stale: int = 0
    """Values served although they were no longer fresh. They are no hits."""
    sets: int = 0
    """Values stored, by whatever verb."""
    deletes: int = 0
    """Entries removed by `delete` and `invalidate`."""
    factory_calls: int = 0
    errors: int = 0
    """Failed calls of the provider, taken for a miss or a drop, and factories that failed in the background."""
    bytes_read: int = 0
    bytes_written: int = 0
    near_hits: int = 0
    """Readings that the near cache answered alone, without asking the backend."""
    too_long: int = 0
    """Values that were not kept because of `max_value_bytes`, where the settings say `on_too_long = "miss"`."""
    outages: int = 0
    """How often the circuit breaker opened, because the backend did not answer."""
    refused: int = 0
    """Calls that were not made, because it was open. Where that was a miss or a drop, it is among the errors too."""


class Tally:
    """The running numbers, without a lock of their own.

    CPython switches threads at calls and jumps only: `tally.hits += n` is one step, as long as `n` calls nothing.
    """

    def __init__(self) -> None:
        self.hits = self.misses = self.stale = self.sets = self.deletes = 0
        self.factory_calls = self.errors = self.bytes_read = self.bytes_written = 0
        self.near_hits = self.too_long = self.outages = self.refused = 0

    def taken(self) -> CacheStats:
        """Return the numbers as they are now."""
        return CacheStats(**vars(self))
