"""What the benchmarks have in common: rounds in turns, medians, tables, and servers of their own.

Figures of one run are comparable, as whatever disturbs the machine disturbs all candidates alike; figures of two runs
are not. `PILOTIS_BENCH=quick` makes every run short: enough to see that it works, and for no figure to be quoted.
"""

from __future__ import annotations

import os
import platform
import random
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

from pilotis_testing.servers import MemcachedServer, RedisServer, Server, running

K = TypeVar("K")
S = TypeVar("S", bound=Server)

QUICK = os.environ.get("PILOTIS_BENCH") == "quick"


def size(full: int, quick: int) -> int:
    """Return how much to do."""
    return quick if QUICK else full


# Timing


class Task(NamedTuple):
    """What is measured: a call, and how often it is made in each round."""

    call: Callable[[], Any]
    calls: int


def in_turns(names: Collection[K], rounds: int) -> Iterator[K]:
    """Return every name once in each round, in another order each time."""
    for _ in range(rounds):
        yield from random.sample(list(names), len(names))


def medians(tasks: Mapping[K, Task], rounds: int) -> dict[K, float]:
    """Return the seconds of one call of each task: the median of its rounds."""
    times: dict[K, list[float]] = {name: [] for name in tasks}
    for name in in_turns(tasks, rounds):
        times[name].append(seconds(*tasks[name]))
    return _medians(times)


async def amedians(tasks: Mapping[K, Task], rounds: int) -> dict[K, float]:
    """Return the same of calls that are awaited."""
    times: dict[K, list[float]] = {name: [] for name in tasks}
    for name in in_turns(tasks, rounds):
        times[name].append(await aseconds(*tasks[name]))
    return _medians(times)


def seconds(call: Callable[[], object], calls: int) -> float:
    """Return how long one call takes, in the mean of several."""
    begun = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - begun) / calls


async def aseconds(call: Callable[[], Awaitable[object]], calls: int) -> float:
    """Return the same of calls that are awaited."""
    begun = time.perf_counter()
    for _ in range(calls):
        await call()
    return (time.perf_counter() - begun) / calls


def _medians(times: Mapping[K, list[float]]) -> dict[K, float]:
    return {name: statistics.median(rounds) for name, rounds in times.items()}


# Printing


def heading(text: str) -> None:
    print(f"\n### {text}\n")


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table in Markdown; all but the first column stand to the right."""
    cells = [list(titles), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    ruler = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    for row in (cells[0], ruler, *cells[1:]):
        first, *others = zip(row, widths, strict=True)
        print("|", " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]), "|")


def machine() -> str:
    """Return what the figures of this run depend on, in general words."""
    versions = [_version("redis-server", "--version"), _version("memcached", "--version")]
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return ", ".join([f"{os.cpu_count()} cores", python, *versions])


def _version(*command: str) -> str:
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    number = next(word for word in told if word.removeprefix("v=")[0].isdigit())
    return f"{told[0].capitalize()} {number.removeprefix('v=')}"


# Servers


@contextmanager
def started(kind: type[S], *options: str) -> Generator[S]:
    """Run a server with a directory of its own for the length of a block."""
    with TemporaryDirectory() as directory:
        server = kind(Path(directory), *options)
        with running(server):
            yield server


@contextmanager
def both_servers() -> Generator[tuple[RedisServer, MemcachedServer]]:
    """Run a Redis and a Memcached for the length of a block."""
    with started(RedisServer) as redis, started(MemcachedServer) as memcached:
        yield redis, memcached
