"""A worker in a process of its own: it does what entries say, and what it reads from its standard input.

Arguments: the URL, the bus, the liveness, the stall limit, the capacity, and lanes. On its standard output it tells, in
lines of JSON, of each entry that it took and of what became of those that it settled.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from pilotis.bridge import Latch, drive
from pilotis.context import Context
from pilotis_redis import RedisLink, RedisOptions
from pilotis_redis.lanes import Ending, Lanes, Taken, Worker
from redis.exceptions import RedisError

_lock = threading.Lock()


def say(**facts: Any) -> None:
    """Write one line, whole."""
    with _lock:
        os.write(1, json.dumps(facts).encode() + b"\n")


def repeat(call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Repeat a call until Redis lets it succeed."""
    while True:
        try:
            return drive(call())
        except RedisError as error:
            say(error=str(error))
            time.sleep(0.05)


class Process:
    """The worker and what it holds."""

    def __init__(self, url: str, bus: str, liveness: float, stall: float) -> None:
        self.context = Context(name="shop")
        self.link = RedisLink(RedisOptions(url=url, timeout=2, connect_timeout=1))
        lanes = Lanes(self.link, bus, runtime=lambda: self.context.runtime)
        self.worker = Worker(self.link, lanes.keys, self.context, restore=lanes.restore, liveness=liveness, stall=stall)
        self.held: list[Taken] = []

    def work(self, capacity: dict[str, int]) -> None:
        while True:
            taken: list[Taken] = repeat(lambda: self.worker.receive(capacity, Latch()))
            self.held += [it for it in taken if it.body == b"hold"]  # before it is told: a line may come at once
            for entry in taken:
                say(taken=entry.head.id, stream=entry.stream, crashes=entry.head.crashes, worker=entry.worker)
            for entry in sorted(taken, key=lambda entry: entry.body == b"abort"):
                self.handle(entry)
            self.log([entry for entry in taken if entry.body == b"log"])

    def handle(self, entry: Taken) -> None:
        match entry.body:
            case b"abort":
                os.abort()
            case b"hold" | b"log":
                return
            case b"wedge":
                self.context.runtime.loop.call_soon_threadsafe(time.sleep, 5)
            case _:
                self.settle([entry])

    def log(self, entries: list[Taken]) -> None:
        """Note in Redis, for all to see, that entries were handled, and settle them."""
        for entry in entries:
            repeat(partial(self.link.execute, "RPUSH", f"handled:{entry.lane}", entry.head.id))
        if entries:
            self.settle(entries)

    def settle(self, entries: list[Taken]) -> None:
        settled = repeat(lambda: self.worker.settle([Ending(entry, "done") for entry in entries]))
        say(settled=dict(zip([entry.head.id for entry in entries], settled, strict=True)), worker=self.worker.id)

    def obey(self) -> None:
        """Settle what is held whenever a line comes."""
        for _ in sys.stdin:
            held, self.held = self.held, []
            self.settle(held)


if __name__ == "__main__":
    url, bus, liveness, stall, most, *lanes = sys.argv[1:]
    process = Process(url, bus, float(liveness), float(stall))
    threading.Thread(target=process.obey, daemon=True).start()
    process.work(dict.fromkeys(lanes, int(most)))
