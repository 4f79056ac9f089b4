"""How long a cache holds up the Redis that it shares: python benchmarks/cache_scan.py

The database has a million keys of somebody else's, and 50,000 of ours. Every verb is called, those that remove many
entries among them. For each the table has the commands that it took, the longest of them by Redis's own clock, and how
long the caller waited. A longest one is the best of several attempts, as what else the machine does can only add to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, NamedTuple

from cache_peers import VALUE, Addresses, pilotis_cache
from harness import machine, size, started, table
from pilotis import Cache
from pilotis_testing.redis import tell, timing
from pilotis_testing.servers import RedisServer

FOREIGN = size(1_000_000, 10_000)
OURS = size(50_000, 1_000)
ATTEMPTS = size(5, 1)
GOAL = 0.005
"""Seconds that the longest command may take."""
TTL = 3600

KEYS = [f"product:{number}" for number in range(OURS)]

Verb = Callable[[Cache], object]

VERBS: dict[str, Verb] = {
    "get": lambda cache: cache.get("product:1"),
    "set": lambda cache: cache.set("product:1", VALUE, tags=["t"]),
    "add": lambda cache: cache.add("product:new", VALUE),
    "increment": lambda cache: cache.increment("number"),
    "touch": lambda cache: cache.touch("product:1", TTL),
    "delete": lambda cache: cache.delete("product:1"),
    f"get_many of {OURS:,}": lambda cache: cache.get_many(KEYS),
    f"set_many of {OURS:,}": lambda cache: cache.set_many(dict.fromkeys(KEYS, VALUE)),
    f"delete of {OURS:,}": lambda cache: cache.delete(*KEYS),
    "get_or_set": lambda cache: cache.get_or_set("product:1", lambda: VALUE, tags=["t"]),
    f"get_or_set_many of {OURS:,}": lambda cache: cache.get_or_set_many(KEYS, lambda keys: dict.fromkeys(keys, VALUE)),
    "invalidate_tags": lambda cache: cache.invalidate_tags("t"),
    'invalidate("product:*7")': lambda cache: cache.invalidate("product:*7"),
    'invalidate("none:*")': lambda cache: cache.invalidate("none:*"),
    "clear": lambda cache: cache.clear(),
}


class Cost(NamedTuple):
    """What a verb cost."""

    commands: int
    longest: float
    """Seconds of the server's time."""
    name: str
    """Of the command that took it."""
    elapsed: float


def crowd(url: str) -> None:
    """Fill the database with what is not ours."""
    tell(url, "DEBUG", "POPULATE", FOREIGN, "theirs")


def fill(cache: Cache) -> None:
    """Bring in what is ours."""
    cache.set_many(dict.fromkeys(KEYS, VALUE), ttl=TTL)


def measured(cache: Cache, url: str, verb: Verb) -> Cost:
    """Return the cost of the attempt whose longest command was the shortest."""
    return min((attempted(cache, url, verb) for _ in range(ATTEMPTS)), key=lambda cost: cost.longest)


def attempted(cache: Cache, url: str, verb: Verb) -> Cost:
    fill(cache)
    with timing(url) as commands:
        begun = time.perf_counter()
        verb(cache)
        elapsed = time.perf_counter() - begun
    longest = max(commands)
    return Cost(len(commands), longest.seconds, longest.name, elapsed)


def row(name: str, cost: Cost) -> list[Any]:
    verdict = "reached" if cost.longest < GOAL else "not reached"
    longest = f"{cost.longest * 1000:.2f} ms ({cost.name})"
    return [name, f"{cost.commands:,}", longest, f"{cost.elapsed * 1000:.1f} ms", verdict]


def main() -> None:
    """Measure every verb."""
    print(machine(), end="\n\n")
    with started(RedisServer, "--enable-debug-command", "yes") as server:
        crowd(server.url)
        with closing(pilotis_cache("redis", Addresses(server.port, 0))) as cache:
            rows = [row(name, measured(cache, server.url, verb)) for name, verb in VERBS.items()]
        assert tell(server.url, "EXISTS", "theirs:0", f"theirs:{FOREIGN - 1}") == 2
    table(["", "commands", "longest", "took", f"goal: {GOAL * 1000:.0f} ms"], rows)


if __name__ == "__main__":
    main()
