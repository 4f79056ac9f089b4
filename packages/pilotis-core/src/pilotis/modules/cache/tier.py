"""Entries at hand: what a process keeps of a backend that other processes change, too."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from pilotis.bridge import reset_after_fork
from pilotis.clock import Clock
from pilotis.modules.cache.provider import CLAIM_MARK, Entry


class Tier:
    """Bounded, the least recently used out first. It keeps something only while it is told of changes.

    Nothing that was read before a change is kept after it: whoever fetches marks his keys beforehand, a change takes
    the marks away with the entries, and without its mark nothing is kept.
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
        self._marks: dict[str, object] = {}
        """Who fetches which key: the first of several, so that they do not keep one another from keeping it."""
        self.is_live = False

    def __len__(self) -> int:
        return len(self._entries)

    # Reading: without the lock, as each step is one of the dict's own

    def known(self, keys: Sequence[str]) -> list[bytes] | None:
        """Return the values of all keys, in order; None unless all of them are at hand."""
        entries, now = self._entries, self._clock.monotonic()
        values: list[bytes] = []
        for key in keys:
            kept = entries.get(key)
            if kept is None or kept[1] <= now:
                return None
            values.append(kept[0])
            _use(entries, key)
        return values

    def found(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return those values that are at hand."""
        return {key: value for key in keys if (known := self.known((key,))) is not None for value in known}

    # Fetching

    def mark(self, keys: Iterable[str]) -> tuple[object, float]:
        """Begin to fetch: return what `keep` needs to know of it."""
        mine = object()
        with self._lock:
            if self.is_live:
                for key in keys:
                    self._marks.setdefault(key, mine)
        return mine, self._clock.monotonic()

    def keep(self, fetched: Mapping[str, Entry | None], mark: tuple[object, float]) -> None:
        """End fetching: keep what nobody changed meanwhile, each for its own ttl and no longer than for ours."""
        mine, since = mark
        with self._lock:
            for key, entry in fetched.items():
                if self._marks.get(key) is mine:
                    del self._marks[key]
                    self._keep(key, entry, since)

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
        """Drop entries, and what is being fetched of them."""
        with self._lock:
            for key in keys:
                self._entries.pop(key, None)
                self._marks.pop(key, None)

    def forget_matching(self, matches: Callable[[str], bool]) -> None:
        """Drop the entries whose keys match."""
        with self._lock:
            keys: Collection[str] = [*self._entries, *self._marks]
        self.forget([key for key in keys if matches(key)])

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
            self._marks.clear()


def _use(entries: OrderedDict[str, tuple[bytes, float]], key: str) -> None:
    try:
        entries.move_to_end(key)
    except KeyError:  # dropped at this moment, and read before that
        return
