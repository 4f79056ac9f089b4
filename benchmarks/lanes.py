"""What lanes on Redis cost, without anything on top: python benchmarks/lanes.py [redis://host:port/0]

Draining a backlog with one worker that takes and settles in turn; the time from emitting an entry until a worker that
waits has it, at 200 a second; and the processor time of a worker that has nothing to do. Without a URL a Redis is
started from the machine's binary.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from pilotis.bridge import Latch, drive
from pilotis.context import Context
from pilotis_redis import RedisLink, RedisOptions
from pilotis_redis.lanes import Ending, Lanes, LaneSpec, Push, Worker
from pilotis_testing.servers import RedisServer, running

ENTRIES = 100_000
AT_ONCE = 500
BODY = b"x" * 100
RATE = 200
"""Entries a second, for the latency."""
EMITTED = 1_000
IDLE_SECONDS = 10


class Bench:
    """Lanes and a worker on them."""

    def __init__(self, url: str) -> None:
        self.context = Context(name="bench")
        self.link = RedisLink(RedisOptions(url=url))
        self.lanes = Lanes(self.link, "bench", runtime=lambda: self.context.runtime)
        self.worker = Worker(self.link, self.lanes.keys, self.context, restore=self.lanes.restore)

    def declare(self, names: list[str]) -> None:
        drive(self.lanes.declare([LaneSpec(name, name) for name in names]))

    def run(self, job: Callable[[], Awaitable[float]]) -> float:
        """Run where a dispatcher would."""
        return drive(self.context.runtime.run(_awaited(job)))

    def close(self) -> None:
        drive(self.worker.stop())
        drive(self.link.close())
        self.context.runtime.stop()


async def _awaited(job: Callable[[], Awaitable[float]]) -> float:
    return await job()


@contextmanager
def bench(url: str) -> Generator[Bench]:
    made = Bench(url)
    drive(made.link.execute("FLUSHDB"))
    try:
        yield made
    finally:
        made.close()


def drain(url: str) -> float:
    """Return how many entries a second one worker takes and settles."""
    with bench(url) as made:
        made.declare(["a"])
        for start in range(0, ENTRIES, AT_ONCE):
            drive(made.lanes.emit([Push(str(start + number), "a", BODY) for number in range(AT_ONCE)]))

        async def work() -> float:
            began, left = time.perf_counter(), ENTRIES
            while left:
                taken = await made.worker.receive({"a": AT_ONCE}, Latch())
                await made.worker.settle([Ending(entry, "done") for entry in taken])
                left -= len(taken)
            return ENTRIES / (time.perf_counter() - began)

        return made.run(work)


def latencies(url: str) -> list[float]:
    """Return the milliseconds from emitting to having, one by one."""
    found: list[float] = []
    with bench(url) as made:
        made.declare(["a"])

        async def work() -> float:
            while len(found) < EMITTED:
                taken = await made.worker.receive({"a": 10}, Latch())
                now = time.perf_counter()
                found.extend((now - float(entry.body)) * 1000 for entry in taken)
                await made.worker.settle([Ending(entry, "done") for entry in taken])
            return 0.0

        working = threading.Thread(target=made.run, args=(work,))
        working.start()
        time.sleep(0.5)
        for number in range(EMITTED):
            drive(made.lanes.emit([Push(str(number), "a", str(time.perf_counter()).encode())]))
            time.sleep(1 / RATE)
        working.join()
    return found


def idle(url: str, lanes: int) -> float:
    """Return the processor time that a worker takes for itself while nothing happens, in percent of one core."""
    with bench(url) as made:
        names = [f"lane {number}" for number in range(lanes)]
        made.declare(names)
        wake = Latch()

        async def wait() -> float:
            await made.worker.receive(dict.fromkeys(names, 10), wake)
            return 0.0

        waiting = threading.Thread(target=made.run, args=(wait,))
        waiting.start()
        time.sleep(2)
        before = time.process_time()
        time.sleep(IDLE_SECONDS)
        used = time.process_time() - before
        wake.set()
        waiting.join()
        return 100 * used / IDLE_SECONDS


def main(url: str) -> None:
    rates = sorted(drain(url) for _ in range(5))
    print(f"drain: {rates[2]:,.0f} entries a second (median of five, best {rates[-1]:,.0f})")
    found = sorted(latencies(url))
    print(f"latency: p50 {statistics.median(found):.2f} ms, p99 {found[int(len(found) * 0.99)]:.2f} ms")
    for lanes in (3, 1_000):
        print(f"idle, {lanes} lanes: {idle(url, lanes):.2f}% of a core")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        server = RedisServer(Path(tempfile.mkdtemp()))
        with running(server):
            main(server.url)
