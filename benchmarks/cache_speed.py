"""What a cache costs beside its peers: python benchmarks/cache_speed.py [memory] [redis] [memcached]

A hit by `get`, a `set`, a `get_many` of 100 and a hit of a decorated function, one after the other, in both colours.
The limit is the bare client with the same encoding: on Memcached under an event loop, on a worker thread; in memory it
is a dict. Beside the memory stands a near cache, which keeps at hand what it has read from Redis. Each cell has the
median of a call in microseconds, and its ratio to the limit.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from typing import Any

from cache_peers import (
    DJANGO,
    TTL,
    VALUE,
    Addresses,
    Candidate,
    async_candidates,
    candidates,
    pilotis_cache,
    set_up_django,
)
from harness import Task, amedians, both_servers, heading, machine, medians, size, table
from pilotis import Cache
from pilotis.settings.model import CacheSettings, NearSettings

ROUNDS = size(101, 3)
CALLS = {"memory": size(100, 50), "redis": size(20, 10), "memcached": size(20, 10)}
MANY = 100
OURS, NEAR = "pilotis", "pilotis near Redis"
OVERHEAD = 1.15
"""What ours may cost on a server, as a multiple of the limit."""
ISOLATING = ("Django", "dogpile memory_pickle", "cashews")
"""Peers in memory that ours is to be twice as fast as on a hit: those whose values are copies, and cashews."""
FASTER = 2
NEARLY = 1.5
"""What a hit of the near cache may cost, as a multiple of one in memory."""
VERBS = ("get", "set", f"get_many({MANY})", "cached")

Medians = Mapping[tuple[str, str], float]
"""Seconds of a call, by candidate and verb."""


def keys_of(name: str) -> list[str]:
    """Return keys that no other candidate uses on the same server."""
    return [f"{name.replace(' ', '_')}:product:{number}" for number in range(MANY)]


def tasks(found: Mapping[str, Candidate], calls: int) -> dict[tuple[str, str], Task]:
    """Return what is measured, by candidate and verb."""
    return {
        (name, verb): Task(call, max(1, calls // 20) if verb.startswith("get_many") else calls)
        for name, candidate in found.items()
        for verb, call in calls_of(name, candidate).items()
    }


def calls_of(name: str, candidate: Candidate) -> dict[str, Callable[[], Any]]:
    keys = keys_of(name)
    calls: tuple[Callable[[], Any] | None, ...] = (
        partial(candidate.get, keys[17]),
        partial(candidate.set, f"{keys[17]}:set", VALUE),  # what others look at is not changed
        partial(candidate.get_many, keys),
        partial(candidate.cached, 17) if candidate.cached else None,
    )
    return {verb: call for verb, call in zip(VERBS, calls, strict=True) if call}


def our_caches(backend: str, at: Addresses) -> dict[str, Cache]:
    caches = {OURS: pilotis_cache(backend, at)}
    if backend == "memory":
        caches[NEAR] = pilotis_cache("redis", at, settings=CacheSettings(near=NearSettings(ttl=TTL)))
    return caches


def is_kept(cache: Cache) -> bool:
    """Tell whether a near cache is told of changes by now, and keeps what it reads."""
    return cache.stats().near_hits > 0


def measured(backend: str, at: Addresses) -> Medians:
    """Return the medians of blocking use."""
    with ExitStack() as stack:
        ours = our_caches(backend, at)
        for cache in ours.values():
            stack.callback(cache.close)
        found = candidates(backend, at, ours)
        for name, candidate in found.items():
            for key in keys_of(name):
                candidate.set(key, VALUE)
            while name == NEAR and not is_kept(ours[NEAR]):
                candidate.get(keys_of(NEAR)[0])
            check(name, [call() for call in calls_of(name, candidate).values() for _ in range(2)])
        return medians(tasks(found, CALLS[backend]), ROUNDS)


async def ameasured(backend: str, at: Addresses) -> Medians:
    """Return the medians under an event loop."""
    async with AsyncExitStack() as stack:
        ours = our_caches(backend, at)
        for cache in ours.values():
            stack.push_async_callback(cache.aclose)
        found = async_candidates(backend, at, ours, stack)
        for name, candidate in found.items():
            for key in keys_of(name):
                await candidate.set(key, VALUE)
            while name == NEAR and not is_kept(ours[NEAR]):
                await candidate.get(keys_of(NEAR)[0])
            check(name, [await call() for call in calls_of(name, candidate).values() for _ in range(2)])
        return await amedians(tasks(found, CALLS[backend]), ROUNDS)


def check(name: str, answers: list[Any]) -> None:
    """Raise for a candidate that does not do its work: a miss is fast."""
    got, many, cached = answers[1], answers[5], answers[7:]
    assert VALUE == got, name
    assert len(many) == MANY, name
    assert cached in ([], [VALUE]), name


# The tables


def show(title: str, found: Medians) -> None:
    heading(title)
    names = list(dict.fromkeys(name for name, _ in found))
    table(["microseconds (ratio)", *VERBS], [[name, *(cell(found, name, verb) for verb in VERBS)] for name in names])


def cell(found: Medians, name: str, verb: str) -> str:
    if (name, verb) not in found:
        return "-"
    return f"{found[name, verb] * 1e6:.1f} ({ratio(found, name, verb):.2f})"


def ratio(found: Medians, name: str, verb: str) -> float:
    """Return the cost as a multiple of the limit, which stands behind ours."""
    limit = next(name for name, _ in found if not name.startswith(OURS))
    return found[name, verb] / found[limit, verb]


def goals(backend: str, found: Medians) -> list[tuple[str, str, str]]:
    """Return what was to be reached, what was, and whether that is enough."""
    if backend != "memory":
        costs = {verb: ratio(found, OURS, verb) for verb in VERBS}
        return [(f"{verb}, at most {OVERHEAD}", f"{cost:.2f}", told(cost <= OVERHEAD)) for verb, cost in costs.items()]
    hits = {name: found[name, verb] / found[OURS, verb] for name, verb in found if verb == "get"}
    faster = {name: hits[name] for name in ISOLATING if name in hits}
    return [
        *(
            (f"get, {name} over ours, at least {FASTER}", f"{by:.2f}", told(by >= FASTER))
            for name, by in faster.items()
        ),
        (f"get, near over memory, at most {NEARLY}", f"{hits[NEAR]:.2f}", told(hits[NEAR] <= NEARLY)),
    ]


def told(is_reached: bool) -> str:
    return "reached" if is_reached else "not reached"


def main(backends: list[str]) -> None:
    """Measure the backends named, or all."""
    logging.disable(logging.WARNING)
    print(machine())
    reached: list[Sequence[str]] = []
    with both_servers() as (redis, memcached):
        at = Addresses(redis.port, memcached.port)
        set_up_django(at)
        for backend in backends or list(DJANGO):
            for colour, found in (
                ("blocking", measured(backend, at)),
                ("asyncio", asyncio.run(ameasured(backend, at))),
            ):
                show(f"{backend.capitalize()}, {colour}", found)
                reached += [(f"{backend}, {colour}: {goal}", *rest) for goal, *rest in goals(backend, found)]
    heading("Goals")
    table(["goal", "measured", ""], reached)


if __name__ == "__main__":
    main(sys.argv[1:])
