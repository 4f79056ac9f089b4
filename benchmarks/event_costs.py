"""What events on Redis cost ours: python benchmarks/event_costs.py [idle] [backlog] [due]

A worker that has nothing to do: its processor time, its commands and its connections. A backlog, small and large: what
an event of it costs Redis and the worker, and what is left in memory when it is drained. Many delayed events that are
due at once: how long the longest script took by Redis' own clock (its slow log).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, cast

from harness import heading, machine, size, started, table
from pilotis import Event, Message, Pilotis
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer
from redis import Redis

SUBSCRIPTIONS = 1_000
OWN_COMMANDS = 2
"""How many of those that are counted ask for the number: a connection begins with one."""
IDLE_SECONDS = size(60, 2)
SETTLING_SECONDS = 3
BACKLOGS = (size(10_000, 1_000), size(1_000_000, 10_000))
FIRST = BACKLOGS[0]
"""How many events of a backlog are looked at, so that backlogs can be compared."""
DUE = size(1_000_000, 10_000)
AT_ONCE = 1_000
CONCURRENCY = 100
SLOW_MICROSECONDS, LONG_MILLISECONDS = 500, 5
PATIENCE = 900
PAYLOAD = {"id": 7, "name": "lamp", "price": 12.5, "tags": ["new", "light"]}
MEGABYTE = 2**20


class Count:
    """The handler: it counts, and tells when it has seen so many."""

    def __init__(self, *marks: int) -> None:
        self.count = 0
        self.marks = {mark: threading.Event() for mark in marks}
        self.times: dict[int, float] = {}
        self.earliest = float("inf")

    async def __call__(self, event: Event[Any]) -> None:
        self.count += 1
        if self.count == 1:
            self.times[0] = time.perf_counter()
            self.earliest = time.time()
        if self.count in self.marks:
            self.times[self.count] = time.perf_counter()
            self.marks[self.count].set()

    def wait(self, mark: int) -> None:
        assert self.marks[mark].wait(PATIENCE), f"{self.count} of {mark} after {PATIENCE} s"


def app_on(url: str, role: Any, handlers: dict[str, Callable[..., Any]]) -> Pilotis:
    app = Pilotis({"name": "bench", "event": {"url": url}}, role=role)
    for name, handler in handlers.items():
        app.event.on(name, id=name, concurrency=CONCURRENCY)(handler)
    return app


def emit(app: Pilotis, count: int, delay_until: float | None = None) -> None:
    for first in range(0, count, AT_ONCE):
        delay = None if delay_until is None else max(0, delay_until - time.time())
        app.event.emit_many([Message("order.placed", PAYLOAD, delay=delay)] * min(AT_ONCE, count - first))


# Nothing to do


def idle(url: str) -> None:
    heading("A worker with nothing to do")
    rows = [[f"{count:,} subscriptions", *quiet(url, count)] for count in (3, SUBSCRIPTIONS)]
    table(["", "of a core, goal 1%", "commands a second, in scripts too, goal 5", "connections, goal 3"], rows)


def quiet(url: str, subscriptions: int) -> tuple[str, str, int]:
    """Return what a process of its own, which works and does nothing else, needs."""
    tell(url, "FLUSHALL")
    command = [sys.executable, __file__, "worker", url, str(subscriptions)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        sent = commands(url)
        share = float(process.stdout.readline()) / IDLE_SECONDS
        sent = commands(url) - sent - OWN_COMMANDS
        connected = connections(url)
        process.terminate()
    return f"{share:.2%}", f"{sent / IDLE_SECONDS:.1f}", connected


def work(url: str, subscriptions: int) -> None:
    """Be a worker, and tell how many seconds of a processor doing nothing takes."""

    def tell_time() -> None:
        time.sleep(SETTLING_SECONDS)
        print("quiet", flush=True)
        used = time.process_time()
        time.sleep(IDLE_SECONDS)
        print(time.process_time() - used, flush=True)

    threading.Thread(target=tell_time, daemon=True).start()
    app_on(url, "work", {f"order.{number}": Count() for number in range(subscriptions)}).run_worker()


def commands(url: str) -> int:
    return tell(url, "INFO", "stats")["total_commands_processed"]


def connections(url: str) -> int:
    """Return how many there are beside the one that asks."""
    return len(tell(url, "CLIENT", "LIST").splitlines()) - 1


# A backlog


def backlogs(url: str) -> None:
    heading("An event of a backlog")
    rows = [[f"{backlog:,} events", *costs(url, backlog)] for backlog in BACKLOGS]
    titles = ["Redis, taking it in", "Redis, handing it out", f"worker, the first {FIRST:,}", "worker, all of them"]
    table(["microseconds an event", *titles], [row[:5] for row in rows])
    heading("Memory of Redis")
    table(["megabytes", "before", "full", "drained", "ids forgotten"], [[row[0], *row[5:]] for row in rows])


def costs(url: str, backlog: int) -> list[str]:
    tell(url, "FLUSHALL")
    count = Count(*{FIRST, backlog})
    with app_on(url, "emit", {"order.placed": count}) as emitter:
        emit(emitter, 1)
        emitter.event.purge("order.placed")
        memory = [megabytes(url)]
        taking_in = with_processor_time(url, lambda: emit(emitter, backlog))
        memory.append(megabytes(url))
        with app_on(url, "work", {"order.placed": count}) as worker:
            handing_out = with_processor_time(url, lambda: count.wait(backlog))
            assert worker.event.drain(PATIENCE)
            memory.append(megabytes(url))
        forget_ids(url)
        memory.append(megabytes(url))
    walls = [(count.times[mark] - count.times[0]) / mark for mark in (FIRST, backlog)]
    each = [taking_in / backlog, handing_out / backlog, *walls]
    return [f"{seconds * 1e6:.1f}" for seconds in each] + [f"{figure:.1f}" for figure in memory]


def forget_ids(url: str) -> None:
    """Do what Redis does by itself once ids have been remembered for long enough."""
    with cast("Any", Redis).from_url(url) as client:
        ids = list(client.scan_iter(match="{*}:i:*", count=AT_ONCE))
        for first in range(0, len(ids), AT_ONCE):
            client.unlink(*ids[first : first + AT_ONCE])


def with_processor_time(url: str, work: Callable[[], object]) -> float:
    """Return how many seconds of a processor Redis needed meanwhile."""
    before = processor_time(url)
    work()
    return processor_time(url) - before


def processor_time(url: str) -> float:
    used = tell(url, "INFO", "cpu")
    return used["used_cpu_user_main_thread"] + used["used_cpu_sys_main_thread"]


def megabytes(url: str) -> float:
    return tell(url, "INFO", "memory")["used_memory"] / MEGABYTE


# Due at once


def due_at_once(redis: RedisServer) -> None:
    heading(f"{DUE:,} delayed events that are due at once")
    url = redis.url
    tell(url, "FLUSHALL")
    goes_first = go_first(redis.pid)
    count = Count(DUE)
    with app_on(url, "emit", {"order.placed": count}) as emitter:
        due = time.time() + expected_seconds(emitter)
        emit(emitter, DUE, due)
        late = max(0, time.time() - due)
        with app_on(url, "work", {"order.placed": count}), slow_log(url) as slow:
            count.wait(DUE)
    took = sorted(slow())
    rows = [
        ("Redis runs before all else", "yes" if goes_first else "no"),
        ("emitted after they were due", f"{late:.1f} s"),
        ("the first handled after it was due", f"{count.earliest - due:.3f} s"),
        ("from the first to the last", f"{count.times[DUE] - count.times[0]:.1f} s"),
        (f"commands of more than {SLOW_MICROSECONDS} microseconds", f"{len(took):,}"),
        ("their median", f"{statistics.median(took):.2f} ms" if took else "-"),
        ("the longest", f"{took[-1]:.2f} ms" if took else "-"),
        (f"longer than {LONG_MILLISECONDS} ms (goal: none)", sum(each > LONG_MILLISECONDS for each in took)),
    ]
    table(["", "measured"], rows)


def go_first(process: int) -> bool:
    """Have a process run before all others, whom its slow log would tell of otherwise; tell whether that is allowed."""
    try:
        os.sched_setscheduler(process, os.SCHED_RR, os.sched_param(1))
    except (AttributeError, PermissionError):
        return False
    return True


def expected_seconds(app: Pilotis) -> float:
    """Return for how long to delay, so that all are emitted before the first is due."""
    share = DUE // 50
    began = time.monotonic()
    emit(app, share, time.time() + PATIENCE)
    app.event.purge("order.placed")
    return 1.5 * (time.monotonic() - began) * DUE / share + SETTLING_SECONDS


@contextmanager
def slow_log(url: str) -> Generator[Callable[[], Iterable[float]]]:
    """Have Redis note what is slow during the block, and return what tells how many milliseconds each took."""
    tell(url, "CONFIG", "SET", "slowlog-log-slower-than", SLOW_MICROSECONDS)
    tell(url, "CONFIG", "SET", "slowlog-max-len", 100_000)
    tell(url, "SLOWLOG", "RESET")
    found: list[float] = []
    yield lambda: found
    found += [entry["duration"] / 1000 for entry in tell(url, "SLOWLOG GET", 100_000)]


SECTIONS: dict[str, Callable[[RedisServer], None]] = {
    "idle": lambda redis: idle(redis.url),
    "backlog": lambda redis: backlogs(redis.url),
    "due": due_at_once,
}


def main(names: list[str]) -> None:
    """Measure what is named, or everything."""
    if names[:1] == ["worker"]:
        work(names[1], int(names[2]))
        return
    print(machine())
    with started(RedisServer) as redis:
        for name in names or SECTIONS:
            SECTIONS[name](redis)


if __name__ == "__main__":
    main(sys.argv[1:])
