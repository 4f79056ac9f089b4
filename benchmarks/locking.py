"""Locks: a pair of taking and releasing, handing off, and crowds, beside peers and limits.

    python benchmarks/locking.py [memory] [redis] [postgres]

Without arguments all three are measured. Candidates run in processes and environments of their own, beside this in
`locking_peers/`, one at a time. `PILOTIS_BENCH=quick` shows that it works.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness import Task, amedians, heading, in_turns, machine, medians, size, started, table
from pilotis import Pilotis
from pilotis.modules.locking import Locking
from pilotis_locking_memory import MemoryLocking
from pilotis_testing.clock import until
from pilotis_testing.postgres import running_postgres
from pilotis_testing.postgres import tell as ask
from pilotis_testing.redis import empty, tell
from pilotis_testing.servers import RedisServer

PROGRAMS = Path(__file__).parent / "locking_peers"
ROUNDS = size(5, 1)
CALLS = size(20_000, 200)
PAIR_SECONDS, HANDOFF_SECONDS, CROWD_SECONDS = size(2, 1), size(15, 1), size(5, 1)
CROWDS = (10, 50)


class Candidate(NamedTuple):
    """A program that locks, and what it is to know."""

    name: str
    program: str
    options: str = "{}"
    """Further settings of ours, as JSON."""
    is_isolated: bool = True

    @property
    def command(self) -> list[str]:
        runner = ["uv", "run", "--quiet", "--script"] if self.is_isolated else [sys.executable]
        return [*runner, self.program]


def ours(name: str, options: str = "{}") -> Candidate:
    return Candidate(name, "on_pilotis.py", options, is_isolated=False)


ON_REDIS = (
    ours("pilotis"),
    Candidate("redis-py", "on_redis_py.py"),
    Candidate("python-redis-lock", "on_python_redis_lock.py"),
    Candidate("pottery", "on_pottery.py"),
    Candidate("sherlock", "on_sherlock.py"),
    Candidate("tooz", "on_tooz.py"),
)
ON_POSTGRES = (
    ours("pilotis, transaction"),
    ours("pilotis, session", '{"mode": "session"}'),
    ours("pilotis, table", '{"mode": "table"}'),
    Candidate("advisory locks alone", "on_advisory.py", is_isolated=False),
    Candidate("tooz", "on_tooz.py"),
    Candidate("sqlalchemy-dlock", "on_sqlalchemy_dlock.py"),
)


def result_of(candidate: Candidate, part: str, url: str, seconds: float, contenders: int = 0) -> Any:
    """Have a candidate do a part, and return what it tells. Raises `RuntimeError` with its words where it cannot."""
    told = {"URL": url, "SECONDS": seconds, "CONTENDERS": contenders, "OPTIONS": candidate.options}
    variables = os.environ | {f"BENCH_{name}": str(value) for name, value in told.items()}
    done = subprocess.run(
        [*candidate.command, part], cwd=PROGRAMS, env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{candidate.name} cannot do {part}: {done.stderr[-1500:]}")
    return json.loads(done.stdout.splitlines()[-1])


# Parts


def pairs(candidates: Sequence[Candidate], url: str) -> None:
    heading("A free lock: taking and releasing it")
    times: dict[str, list[float]] = {candidate.name: [] for candidate in candidates}
    for candidate in in_turns(candidates, ROUNDS):
        times[candidate.name].append(result_of(candidate, "pair", url, PAIR_SECONDS))
    best = min(statistics.median(rounds) for rounds in times.values())
    rows = [
        (name, f"{statistics.median(rounds) * 1e6:,.0f}", f"{statistics.median(rounds) / best:.2f}")
        for name, rounds in times.items()
    ]
    table(["candidate", "µs a pair", "times the fastest"], rows)


def handoffs(candidates: Sequence[Candidate], url: str) -> None:
    heading("Handing off: from a release until another process has the lock")
    rows: list[tuple[object, ...]] = []
    for candidate in candidates:
        delays = sorted(delay * 1000 for delay in result_of(candidate, "handoff", url, HANDOFF_SECONDS))
        p99 = delays[min(len(delays) - 1, len(delays) * 99 // 100)]
        rows.append((candidate.name, f"{statistics.median(delays):.2f}", f"{p99:.2f}", len(delays)))
    table(["candidate", "p50 ms", "p99 ms", "hand-offs"], rows)


def crowds(candidates: Sequence[Candidate], url: str, unit: str, count: Callable[[], int]) -> None:
    heading("Crowds: contenders on threads that all want one lock, again and again")
    rows: list[tuple[object, ...]] = []
    for candidate in candidates:
        row: list[object] = [candidate.name]
        for contenders in CROWDS:
            before = count()
            grants, seconds = result_of(candidate, "crowd", url, CROWD_SECONDS, contenders)
            row += [f"{seconds / grants * 1000:.2f}", f"{(count() - before) / grants:.1f}"]
        rows.append(tuple(row))
    measures = ["ms a grant", f"{unit} a grant"]
    table(["candidate", *(f"{number}: {measure}" for number in CROWDS for measure in measures)], rows)


# Backends


def on_memory() -> None:
    heading("In memory: µs of taking and releasing a free lock")
    locking, plain = Locking(MemoryLocking()), threading.Lock()

    def ours_plain() -> None:
        locking.acquire("a").release()

    def theirs_plain() -> None:
        with plain:
            pass

    blocking = medians({"pilotis": Task(ours_plain, CALLS), "the limit": Task(theirs_plain, CALLS)}, ROUNDS)
    awaited = asyncio.run(_on_memory_awaited(locking))
    rows = [(name, *(f"{times[name] * 1e6:.2f}" for times in (blocking, awaited))) for name in blocking]
    table(["candidate", "blocking (threading.Lock)", "async (asyncio.Lock)"], rows)
    locking.close()


async def _on_memory_awaited(locking: Locking) -> dict[str, float]:
    lock = asyncio.Lock()

    async def ours_awaited() -> None:
        await (await locking.aacquire("a")).arelease()

    async def theirs_awaited() -> None:
        async with lock:
            pass

    tasks = {"pilotis": Task(ours_awaited, CALLS), "the limit": Task(theirs_awaited, CALLS)}
    return await amedians(tasks, ROUNDS)


def on_redis() -> None:
    with started(RedisServer) as server:
        heading("Redis")
        empty(server.url)
        pairs(ON_REDIS, server.url)
        handoffs(ON_REDIS, server.url)
        crowds(ON_REDIS, server.url, "requests", lambda: tell(server.url, "INFO", "stats")["total_reads_processed"])


def on_postgres() -> None:
    with running_postgres() as server:
        heading("PostgreSQL")
        _migrate(server.url)
        pairs(ON_POSTGRES, server.url)
        handoffs(ON_POSTGRES, server.url)
        crowds(ON_POSTGRES, server.url, "transactions", lambda: _transactions(server.url))


def _transactions(url: str) -> int:
    """Return how many there were, once the server has ended the connections of all others, which tell then."""
    until(lambda: ask(url, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'") == [(1,)], 30)
    ((count,),) = ask(url, "SELECT sum(xact_commit + xact_rollback)::bigint FROM pg_stat_database")
    return count


def _migrate(url: str) -> None:
    app = Pilotis({"name": "bench", "locking": {"url": url, "mode": "table"}})
    app.locking.migrate()
    app.close()


BACKENDS = {"memory": on_memory, "redis": on_redis, "postgres": on_postgres}

if __name__ == "__main__":
    print(machine())
    for backend in sys.argv[1:] or BACKENDS:
        BACKENDS[backend]()
