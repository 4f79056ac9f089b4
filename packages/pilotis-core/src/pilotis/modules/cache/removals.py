"""Removals win: what was computed before a key was removed or set is not kept after it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager


class Removals:
    """The keys that are being computed in this process, and how often each was removed meanwhile."""

    def __init__(self) -> None:
        self.after_fork()

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[str, int] = {}
        """How many computations of each key are under way."""
        self._removed: dict[str, int] = {}

    def count(self, key: str) -> int:
        """Return how often a key was removed since its oldest computation began; zero where there is none."""
        return self._removed.get(key, 0)

    @contextmanager
    def watching(self, keys: Iterable[str]) -> Generator[Mapping[str, int], None, None]:
        """Surround a computation. Gives the counts of its keys from before it."""
        keys = list(keys)
        with self._lock:
            for key in keys:
                self._begun[key] = self._begun.get(key, 0) + 1
            before = {key: self.count(key) for key in keys}
        try:
            yield before
        finally:
            with self._lock:
                for key in keys:
                    self._end(key)

    def note(self, keys: Iterable[str]) -> None:
        """Count a removal. To be called before the entries are removed, so that no late one slips through."""
        if self._begun:
            with self._lock:
                self._count(keys)

    def note_matching(self, matches: Callable[[str], bool]) -> None:
        """Count a removal of all keys that match."""
        with self._lock:
            self._count([key for key in self._begun if matches(key)])

    def _count(self, keys: Iterable[str]) -> None:
        for key in keys:
            if key in self._begun:
                self._removed[key] = self.count(key) + 1

    def _end(self, key: str) -> None:
        self._begun[key] -= 1
        if not self._begun[key]:
            del self._begun[key]
            self._removed.pop(key, None)
