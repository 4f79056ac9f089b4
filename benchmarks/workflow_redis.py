"""Workflows on Redis beside their peers: python benchmarks/workflow_redis.py [CANDIDATE...]

A run has three steps that do nothing. For each candidate: runs a second with 50 in flight, and the time of a run, from
its start to its result, with one and with 50. What is stored is stored as in production: Redis writes its log to the
disk every second, and PostgreSQL at each commit. Ours and Celery have a process that works and one that starts runs and
waits for them; DBOS does both in one. `bare` is the limit: a loop that writes the same records and could not go on
after a crash. The candidates take turns; the medians of the rounds are printed. Needs uv, which makes an environment
for each peer, and PostgreSQL for DBOS.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from harness import heading, in_turns, machine, size, started, table
from pilotis_testing.postgres import PostgresServer
from pilotis_testing.redis import empty
from pilotis_testing.servers import RedisServer, running

ROUNDS = size(3, 1)
AT_ONCE = 50
OURS, LIMIT = "pilotis", "bare"
RATE, ALONE, CROWDED = "runs/s", "alone", "crowded"
PROGRAMS = Path(__file__).parent / "workflow_peers"

Figures = Mapping[tuple[str, str], float]


class Candidate(NamedTuple):
    """A program to measure: see `workflow_peers/pace.py`."""

    name: str
    command: list[str]
    runs: int
    """How many take it some seconds."""
    has_worker: bool = True
    on_postgres: bool = False


def candidates() -> list[Candidate]:
    here, isolated = [sys.executable], ["uv", "run", "--quiet", "--script"]
    return [
        Candidate(OURS, [*here, "on_pilotis.py"], 3_000),
        Candidate("Celery", [*isolated, "on_celery.py"], 1_000),
        Candidate("DBOS", [*isolated, "on_dbos.py"], 500, has_worker=False, on_postgres=True),
        Candidate(LIMIT, [*here, "on_bare.py"], 10_000, has_worker=False),
    ]


def measure(candidate: Candidate, url: str) -> dict[str, float]:
    """Return the figures of one round."""
    runs = size(candidate.runs, candidate.runs // 20)
    with working(candidate, url):
        alone = driven(candidate, url, runs // 10, 1)
        crowded = driven(candidate, url, runs, AT_ONCE)
    return {RATE: crowded["rate"], ALONE: alone["median"], CROWDED: crowded["median"]}


@contextmanager
def working(candidate: Candidate, url: str) -> Generator[None]:
    """Run the worker of a candidate that has one, for the length of a block."""
    if not candidate.has_worker:
        yield
        return
    command = [*candidate.command, "work", url]
    with subprocess.Popen(command, cwd=PROGRAMS, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        try:
            yield
        finally:
            worker.terminate()


def driven(candidate: Candidate, url: str, runs: int, in_flight: int) -> dict[str, float]:
    command = [*candidate.command, "drive", url, str(runs), str(in_flight)]
    told = subprocess.run(command, cwd=PROGRAMS, check=True, capture_output=True, text=True)
    return json.loads(told.stdout.splitlines()[-1])


def medians(known: Mapping[str, Candidate], urls: Mapping[bool, str]) -> Figures:
    """Return the figures of all; `urls` says where a server is, by whether it is PostgreSQL."""
    rounds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for name in in_turns(known, ROUNDS):
        empty(urls[False])
        found = measure(known[name], urls[known[name].on_postgres])
        print(name, {what: round(figure, 5) for what, figure in found.items()}, file=sys.stderr)
        for what, figure in found.items():
            rounds[name, what].append(figure)
    return {which: statistics.median(figures) for which, figures in rounds.items()}


def show(found: Figures, names: list[str]) -> None:
    heading("Runs of three steps")
    titles = ["", f"runs/s, {AT_ONCE} in flight", "ms of one alone", f"ms of one, {AT_ONCE} in flight"]
    rows = [
        [name, f"{found[name, RATE]:,.0f}", *(f"{found[name, what] * 1000:.1f}" for what in (ALONE, CROWDED))]
        for name in names
    ]
    table(titles, rows)
    if OURS in names:
        heading("Goals")
        rows = [[*goal, "reached" if ok else "not reached"] for *goal, ok in goals(found, names)]
        table(["goal", "measured", ""], rows)


def goals(found: Figures, names: list[str]) -> Iterator[tuple[str, str, bool]]:
    """Return each goal, what was measured, and whether it is reached: absolute ones, and those beside each peer."""
    rate, alone = found[OURS, RATE], found[OURS, ALONE]
    yield f"runs/s, {AT_ONCE} in flight: at least 500", f"{rate:,.0f}", rate >= 500
    yield "ms of one alone: under 6", f"{alone * 1000:.1f}", alone < 0.006
    for name in names:
        if name not in {OURS, LIMIT}:
            more, quicker = rate / found[name, RATE], found[name, ALONE] / alone
            yield f"runs/s, {AT_ONCE} in flight, as a multiple of {name}'s: above 1", f"{more:.1f}", more > 1
            yield f"how many times as quick as {name} one alone is: above 1", f"{quicker:.1f}", quicker > 1


@contextmanager
def durable_postgres() -> Generator[PostgresServer]:
    """Run a PostgreSQL that has on its disk what it has committed."""
    server = PostgresServer("-c", "fsync=on", "-c", "synchronous_commit=on")
    try:
        with running(server):
            yield server
    finally:
        server.remove()


def main(names: list[str]) -> None:
    """Measure the candidates named, or all."""
    chosen = {each.name: each for each in candidates() if not names or each.name in names}
    with started(RedisServer, "--appendonly", "yes", "--appendfsync", "everysec") as redis:
        if not any(candidate.on_postgres for candidate in chosen.values()):
            found = medians(chosen, {False: redis.url})
        else:
            with durable_postgres() as postgres:
                found = medians(chosen, {False: redis.url, True: postgres.url})
    print(machine())
    show(found, list(chosen))


if __name__ == "__main__":
    main(sys.argv[1:])
