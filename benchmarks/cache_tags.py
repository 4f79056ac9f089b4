"""What it costs to invalidate a tag, by how many entries have it: python benchmarks/cache_tags.py

There are 100,000 entries, each with a tag of its own, a tag that a thousand have, and tags that all have. Every one of
those tags is invalidated once, in mixed order. The cost is not to grow with the entries under a tag, and the last
invalidations are not to cost more than the first.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from contextlib import closing

from cache_peers import DJANGO, Addresses, pilotis_cache
from harness import heading, machine, size, started, table
from pilotis import Cache
from pilotis_testing.servers import MemcachedServer, RedisServer

ENTRIES = size(100_000, 2_000)
GROUP = size(1_000, 100)
SHARED = 9
"""Tags that all entries have: enough for a median."""
CHUNK = 1_000
MEGABYTES = "1024"

Kind = int
"""How many entries have a tag."""


def tags_of(entry: int) -> list[str]:
    return [f"one:{entry}", f"group:{entry // GROUP}", *shared()]


def shared() -> list[str]:
    return [f"all:{number}" for number in range(SHARED)]


def tags() -> list[tuple[Kind, str]]:
    """Return every tag, in the order of invalidation."""
    found = [(1, f"one:{entry}") for entry in range(ENTRIES)]
    found += [(GROUP, f"group:{number}") for number in range(ENTRIES // GROUP)]
    found += [(ENTRIES, tag) for tag in shared()]
    random.shuffle(found)
    return found


def fill(cache: Cache) -> None:
    for entry in range(ENTRIES):
        cache.set(key_of(entry), entry, ttl=None, tags=tags_of(entry))
    there = sum(len(cache.get_many(chunk)) for chunk in chunks())
    assert there == ENTRIES, f"{there} of {ENTRIES} entries are there"


def key_of(entry: int) -> str:
    return f"entry:{entry}"


def chunks() -> list[list[str]]:
    return [[key_of(entry) for entry in range(start, start + CHUNK)] for start in range(0, ENTRIES, CHUNK)]


def invalidate(cache: Cache) -> list[tuple[Kind, float]]:
    """Return how long each invalidation took."""
    times: list[tuple[Kind, float]] = []
    for kind, tag in tags():
        begun = time.perf_counter()
        cache.invalidate_tags(tag)
        times.append((kind, time.perf_counter() - begun))
    assert not any(cache.get_many(chunk) for chunk in chunks())
    return times


def row(backend: str, times: Sequence[tuple[Kind, float]]) -> list[str]:
    by_kind = {kind: [seconds for known, seconds in times if known == kind] for kind in (1, GROUP, ENTRIES)}
    tenth = len(times) // 10
    parts = [*by_kind.values(), [took for _, took in times[:tenth]], [took for _, took in times[-tenth:]]]
    return [backend, *(f"{statistics.median(part) * 1e6:.1f}" for part in parts)]


def main() -> None:
    """Measure all providers, blocking."""
    print(machine())
    heading(f"Microseconds of an invalidation, of {ENTRIES + ENTRIES // GROUP + SHARED:,} in all")
    rows: list[list[str]] = []
    with started(RedisServer) as redis, started(MemcachedServer, "-m", MEGABYTES) as memcached:
        at = Addresses(redis.port, memcached.port)
        for backend in DJANGO:
            with closing(pilotis_cache(backend, at)) as cache:
                fill(cache)
                rows.append(row(backend, invalidate(cache)))
    titles = ["", *(f"{kind:,} under the tag" for kind in (1, GROUP, ENTRIES)), "first tenth", "last tenth"]
    table(titles, rows)


if __name__ == "__main__":
    main()
