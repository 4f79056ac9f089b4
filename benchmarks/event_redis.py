"""Events on Redis beside their peers: python benchmarks/event_redis.py [CANDIDATE...]

For each candidate, each on the same Redis: events sent one at a time and many at once; a backlog drained by one worker
process; a backlog of which each event fails once and succeeds when it is repeated; and, at 200 events a second, the
time from sending an event until its handler has it. The candidates take turns; the medians of the rounds are printed.
`bare` is the limit: a loop around the client's stream commands, which does nothing else. Needs uv, which makes an
environment for each peer, and for BullMQ Node and npm.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from event_candidates import Bench, Candidate, node_peers, ours_and_limit, python_peers, versions
from harness import heading, in_turns, machine, size, started, table
from pilotis_testing.servers import RedisServer

ROUNDS = size(3, 1)
SENT = size(2_000, 200)
SENT_AT_PACE = size(1_000, 50)
OURS, LIMIT, NODE = "pilotis", "bare", "BullMQ"
NOT_PYTHON_PEERS = (OURS, LIMIT, NODE)
EMIT, AEMIT, MANY, DRAIN, REPEAT, P50, P99 = "emit", "await emit", "emit_many", "drain", "fail once", "p50", "p99"
RATES = (EMIT, AEMIT, MANY, DRAIN, REPEAT)
LATENCIES = (P50, P99)

Figures = Mapping[tuple[str, str], float]
"""Events a second, or seconds, by candidate and what was measured."""


def measure(bench: Bench, candidate: Candidate) -> dict[str, float]:
    """Return the figures of one round."""
    backlog = size(candidate.backlog, candidate.backlog // 50)
    found: dict[str, float] = {}
    bench.clear()
    found[EMIT] = bench.send(candidate, EMIT, SENT)
    if candidate.has_two_colours:
        bench.clear()
        found[AEMIT] = bench.send(candidate, "aemit", SENT)
    sent, found[DRAIN] = drained(bench, candidate, backlog)
    if candidate.sends_many:
        found[MANY] = sent
    if candidate.repeats:
        found[REPEAT] = drained(bench, candidate, backlog // 2, fails=True)[1]
    return found | latencies(bench, candidate)


def drained(bench: Bench, candidate: Candidate, backlog: int, *, fails: bool = False) -> tuple[float, float]:
    """Return how many events a second were sent, and handled."""
    bench.clear()
    sent = bench.send(candidate, "emit-many" if candidate.sends_many else "emit", backlog)
    with bench.working(candidate, backlog, fails=fails) as worker:
        return sent, bench.seen_by(worker).rate


def latencies(bench: Bench, candidate: Candidate) -> dict[str, float]:
    bench.clear()
    with bench.working(candidate, SENT_AT_PACE) as worker:
        bench.send(candidate, "latency", SENT_AT_PACE)
        delays = sorted(bench.seen_by(worker).delays)
    return {P50: statistics.median(delays), P99: delays[int(len(delays) * 0.99)]}


def medians(bench: Bench, candidates: Iterable[Candidate]) -> Figures:
    known = {candidate.name: candidate for candidate in candidates}
    rounds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for name in in_turns(known, ROUNDS):
        found = measure(bench, known[name])
        print(name, {what: round(figure, 5) for what, figure in found.items()}, file=sys.stderr)
        for what, figure in found.items():
            rounds[name, what].append(figure)
    return {which: statistics.median(figures) for which, figures in rounds.items()}


# The tables


def show(found: Figures, names: list[str]) -> None:
    heading("Events a second")
    table(["", *RATES], [[name, *(rate(found, name, what) for what in RATES)] for name in names])
    heading("Milliseconds from sending to the handler")
    table(["", *LATENCIES], [[name, *(f"{found[name, what] * 1000:.2f}" for what in LATENCIES)] for name in names])
    heading("Goals")
    table(["goal", "measured", ""], list(goals(found, names)))


def rate(found: Figures, name: str, what: str) -> str:
    return f"{found[name, what]:,.0f}" if (name, what) in found else "-"


def goals(found: Figures, names: list[str]) -> Iterable[tuple[str, str, str]]:
    """Return what ours is to reach, as a multiple of another's figure, where both were measured."""
    peers = [name for name in names if name not in NOT_PYTHON_PEERS]
    for what, others, said, least in (
        (DRAIN, peers, "the fastest peer in Python", 8),
        (DRAIN, [NODE], NODE, 1.5),
        (MANY, [*peers, NODE], "the fastest peer", 1),
        (EMIT, [LIMIT], LIMIT, 0.85),
        (AEMIT, [LIMIT], LIMIT, 0.85),
        (REPEAT, [NODE], NODE, 2),
    ):
        ratio = over(found, what, others)
        yield told(f"{what}, over {said}: at least {least}", ratio, is_reached=ratio >= least)
    for what, most in ((P50, 2), (P99, 3)):
        ratio = over(found, what, [LIMIT])
        yield told(f"{what}, over {LIMIT}: at most {most}", ratio, is_reached=ratio <= most)


def over(found: Figures, what: str, others: Iterable[str]) -> float:
    """Return our figure as a multiple of the highest of the others; not a number where something was not measured."""
    highest = max((found[name, what] for name in others if (name, what) in found), default=math.nan)
    return found.get((OURS, what), math.nan) / highest


def told(goal: str, ratio: float, *, is_reached: bool) -> tuple[str, str, str]:
    if math.isnan(ratio):
        return goal, "-", ""
    return goal, f"{ratio:.2f}", "reached" if is_reached else "not reached"


def main(names: list[str]) -> None:
    """Measure the candidates named, or all."""
    with started(RedisServer) as redis, TemporaryDirectory() as told_in, TemporaryDirectory() as node:
        everyone = [*ours_and_limit(), *python_peers(), *node_peers(Path(node))]
        chosen = [candidate for candidate in everyone if not names or candidate.name in names]
        print(f"{machine()}; {versions(chosen, Path(node))}")
        show(medians(Bench(redis.url, Path(told_in)), chosen), [candidate.name for candidate in chosen])


if __name__ == "__main__":
    main(sys.argv[1:])
