"""What every candidate for locks does, in a process of its own: `python on_x.py PART`.

The variables BENCH_URL and BENCH_SECONDS say where the locks are and how long a part may take, BENCH_CONTENDERS how
many contend. The last line that is printed is the result in JSON.

- `pair`: seconds of taking and releasing a free lock, one pair after the other.
- `handoff`: seconds from a release until another process, which waits, has the lock; each of them.
- `crowd`: how many grants threads had that all want the same lock, and in how many seconds.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Protocol

WARM_UP = 10
LIMIT = 30.0


class Lock(Protocol):
    """A lock of one contender."""

    def acquire(self) -> object: ...

    def release(self) -> object: ...


Make = Callable[[str, str], Lock]


def main(make: Make) -> None:
    """Do the part that the command names, with locks that `make(url, key)` returns, one for each contender."""
    parts: dict[str, Callable[[Make, str, float], Any]] = {"pair": _pair, "handoff": _handoffs, "crowd": _crowd}
    print(json.dumps(parts[sys.argv[1]](make, os.environ["BENCH_URL"], float(os.environ["BENCH_SECONDS"]))))


def _pair(make: Make, url: str, seconds: float) -> float:
    lock = _warm(make(url, "pair"))
    count, begun = 0, time.perf_counter()
    while (now := time.perf_counter()) < begun + seconds:
        take(lock)
        lock.release()
        count += 1
    return (now - begun) / count


def take(lock: Lock) -> None:
    if lock.acquire() is False:
        raise RuntimeError("the lock was not to be had")


def _warm(lock: Lock) -> Lock:
    """Return a lock once connections are made, and whatever else is done the first time."""
    for _ in range(WARM_UP):
        take(lock)
        lock.release()
    return lock


def _handoffs(make: Make, url: str, seconds: float) -> list[float]:
    ours, theirs = multiprocessing.Pipe()
    waiter = multiprocessing.get_context("fork").Process(target=_wait, args=(make, url, theirs), daemon=True)
    waiter.start()
    ours.recv()
    lock = _warm(make(url, "handoff"))
    delays: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        take(lock)
        ours.send("wait")
        time.sleep(random.uniform(0.05, 0.15))
        released = time.monotonic()
        lock.release()
        if not ours.poll(LIMIT):
            raise TimeoutError("nobody took the lock")
        delays.append(ours.recv() - released)
    ours.send("end")
    waiter.join(LIMIT)
    return delays


def _wait(make: Make, url: str, holder: Connection) -> None:
    lock = _warm(make(url, "handoff"))
    holder.send("ready")
    while holder.recv() == "wait":
        take(lock)
        taken = time.monotonic()
        lock.release()
        holder.send(taken)


def _crowd(make: Make, url: str, seconds: float) -> tuple[int, float]:
    locks = [_warm(make(url, "crowd")) for _ in range(int(os.environ["BENCH_CONTENDERS"]))]
    grants: list[float] = []
    begun = time.monotonic()
    crowd = [threading.Thread(target=_contend, args=(lock, begun + seconds, grants), daemon=True) for lock in locks]
    for contender in crowd:
        contender.start()
    for contender in crowd:
        contender.join(LIMIT)
    return len(grants), max(grants) - begun


def _contend(lock: Lock, end: float, grants: list[float]) -> None:
    while time.monotonic() < end:
        take(lock)
        grants.append(time.monotonic())
        lock.release()
