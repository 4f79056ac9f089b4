"""Entries at hand: what a process keeps of a backend that other processes change, too."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence

from pilotis.bridge import reset_after_fork
from pilotis.clock import Clock
from pilotis.modules.cache.provider import CLAIM_MARK, Entry

_NOTHING = object()

Fetch = tuple[dict[str, "tuple[_Fetching, int]"], float]
"""What is fetched, each with the number of changes from before it; and since when, by the monotonic clock."""


class _Fetching:
    """A key that somebody fetches, or several at once."""

    __slots__ = ("changes", "count", "last")

    def __init__(self) -> None:
        self.count = 0
        self.changes = 0
        self.last: object = _NOTHING
        """What the last one of them has got."""


class Tier:
    """Bounded, the least recently used out first. It keeps something only while it is told of changes.

    Nothing that was read before a change is kept once that is told: who fetches remembers how many there were before.
    It is told a little late. So of several who fetch at once, and get different values, nobody knows who was last; then
    none of these is kept, and no reader sees a value that is older than what he saw before.
    """

    def __init__(self, max_entries: int, ttl: float, clock: Clock) -> None:
        self._most = max_entries
        self._ttl = ttl
        self._clock = clock
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        """Each value, and until when it may be served, by the monotonic clock."""
        self._fetching: dict[str, _Fetching] = {}
        self.is_live = False

    def __len__(self) -> int:
        return len(self._entries)

    # Reading: without the lock, as each step is one of the dict's own

    def known(self, keys: Sequence[str]) -> list[bytes | None] | None:
        """Return the values of all keys, in order; None unless all of them are at hand."""
        entries, now = self._entries, self._clock.monotonic()
        values: list[bytes | None] = []
        try:
            for key in keys:
                value, deadline = entries[key]
                if deadline <= now:
                    return None
                values.append(value)
                entries.move_to_end(key)
        except KeyError:  # it never was there, or was dropped at this moment
            return None
        return values

    def found(self, keys: Iterable[str]) -> dict[str, bytes | None]:
        """Return those values that are at hand."""
        known = {key: self.known((key,)) for key in keys}
        return {key: values[0] for key, values in known.items() if values is not None}

    # Fetching

    def begin_fetch(self, keys: Iterable[str]) -> Fetch:
        """Return what `end_fetch` needs to know. To be called before the backend is asked."""
        with self._lock:
            begun = {key: self._begun(key) for key in keys}
        return begun, self._clock.monotonic()

    def _begun(self, key: str) -> tuple[_Fetching, int]:
        fetching = self._fetching.setdefault(key, _Fetching())
        fetching.count += 1
        return fetching, fetching.changes

    def end_fetch(self, fetch: Fetch, fetched: Mapping[str, Entry | None]) -> None:
        """Keep what was fetched and is not known to be out of date: for its own ttl, and no longer than for ours.

        A key that is not among `fetched` could not be.
        """
        begun, since = fetch
        with self._lock:
            for key, (fetching, changes) in begun.items():
                fetching.count -= 1
                if not fetching.count:
                    self._fetching.pop(key, None)
                if key in fetched:
                    self._settle(key, fetching, fetched[key], since, is_current=fetching.changes == changes)

    def _settle(self, key: str, fetching: _Fetching, entry: Entry | None, since: float, *, is_current: bool) -> None:
        value = None if entry is None else entry.value
        if fetching.last not in (_NOTHING, value):
            self._entries.pop(key, None)
            fetching.changes += 1
        elif is_current and self.is_live:
            self._keep(key, entry, since)
        fetching.last = value

    def _keep(self, key: str, entry: Entry | None, since: float) -> None:
        if entry is None or entry.value[:1] == CLAIM_MARK:
            return
        ttl = self._ttl if entry.ttl is None else min(self._ttl, entry.ttl)
        self._entries[key] = (entry.value, since + ttl)
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)

    # Forgetting

    def forget(self, keys: Iterable[str]) -> None:
        """Drop entries, and have what is being fetched of them not kept."""
        with self._lock:
            for key in keys:
                self._entries.pop(key, None)
                if key in self._fetching:
                    self._fetching[key].changes += 1

    def forget_matching(self, matches: Callable[[str], bool]) -> None:
        """The same, for all keys that match."""
        with self._lock:
            keys = [*self._entries, *self._fetching]
        self.forget({key for key in keys if matches(key)})

    def begin(self) -> None:
        """Drop everything, and keep entries from now on."""
        self._renew(is_live=True)

    def end(self) -> None:
        """Drop everything, and keep nothing until `begin`."""
        self._renew(is_live=False)

    def _renew(self, *, is_live: bool) -> None:
        with self._lock:
            self.is_live = is_live
            self._entries.clear()
            for fetching in self._fetching.values():
                fetching.changes += 1
