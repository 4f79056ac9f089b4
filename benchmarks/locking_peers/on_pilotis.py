"""Pilotis. BENCH_OPTIONS are further settings of `[locking]`, as JSON."""

from __future__ import annotations

import functools
import json
import os

from contest import main
from pilotis import Lease, Locking, Pilotis


class OurLock:
    """A lease after the other."""

    def __init__(self, locking: Locking, key: str) -> None:
        self._locking = locking
        self._key = key
        self._lease: Lease | None = None

    def acquire(self) -> None:
        self._lease = self._locking.acquire(self._key, wait=60)

    def release(self) -> None:
        assert self._lease is not None
        self._lease.release()


@functools.cache
def locking_of(url: str, pid: int) -> Locking:
    """Return the locks of this process."""
    options = json.loads(os.environ.get("BENCH_OPTIONS", "{}"))
    return Pilotis({"name": "bench", "locking": {"url": url, **options}}).locking


def make(url: str, key: str) -> OurLock:
    return OurLock(locking_of(url, os.getpid()), key)


if __name__ == "__main__":
    main(make)
