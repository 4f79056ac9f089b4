"""What a stampede costs: python benchmarks/cache_stampede.py

Four processes with 25 callers each, all at once, want a key that nobody has, from a factory that takes 300 ms. Of
several rounds, each on a new key, the table has the median and in brackets the worst:

- how often the factory was called;
- how long after its first end the slowest caller had the value;
- how many commands a process that waited sent to Redis while it did, beside the one look that each of its callers
  takes, and without the set-up of connections: of several such processes, the busiest;
- how many commands all processes sent, from the first caller to the last. On Memcached, which tells less, these are
  the keys that were read and written.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import multiprocessing
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from statistics import median
from typing import Any, NamedTuple

import aiocache  # pyright: ignore[reportMissingTypeStubs]
import cashews
import dogpile.cache
import psutil
import pymemcache  # pyright: ignore[reportMissingTypeStubs]
import redis
from cache_peers import Addresses, django_cache, pilotis_cache, set_up_django
from harness import both_servers, machine, size, table
from pilotis_testing.redis import empty
from pilotis_testing.servers import empty_memcached

PROCESSES = 4
CALLERS = 25
FACTORY_SECONDS = 0.3
TTL = 60
ROUNDS = size(7, 1)
PATIENCE = 60
"""Seconds that a process may take to get ready, and for a round."""
SET_UP = {"AUTH", "CLIENT", "HELLO", "SELECT"}
LATENESS, COMMANDS = 0.020, 3
"""The goals: seconds after the factory, and commands of a process that waits."""

_aiocache: Any = aiocache
_dogpile: Any = dogpile.cache
_pymemcache: Any = pymemcache
_redis: Any = redis


class Sight(NamedTuple):
    """What one process saw of a round, by the clock of the machine."""

    start: float
    begins: list[float]
    """When its factory was called."""
    ends: list[float]
    returns: list[float]
    """When each of its callers had the value."""
    ports: set[int]
    """Its ends of the connections that it has."""


class Command(NamedTuple):
    """What Redis was sent, when, and from which port."""

    time: float
    port: int


class Outcome(NamedTuple):
    """What became of a round."""

    calls: int
    lateness: float
    waiting: int | None
    """Commands of the busiest process that waited, where that can be told."""
    commands: int


class Factory:
    """What takes long, in both colours, with notes on when it ran."""

    def __init__(self) -> None:
        self.begins: list[float] = []
        self.ends: list[float] = []

    def plain(self) -> str:
        self.begins.append(time.time())
        time.sleep(FACTORY_SECONDS)
        self.ends.append(time.time())
        return "value"

    async def awaited(self) -> str:
        self.begins.append(time.time())
        await asyncio.sleep(FACTORY_SECONDS)
        self.ends.append(time.time())
        return "value"

    def clear(self) -> None:
        self.begins, self.ends = [], []


Call = Callable[[str], Any]
"""Return the value of a key, by the factory where there is none."""

# Candidates


def pilotis(backend: str, at: Addresses, factory: Factory) -> Call:
    cache = pilotis_cache(backend, at)
    return lambda key: cache.get_or_set(key, factory.plain, ttl=TTL)


def dogpile_lock(at: Addresses, factory: Factory) -> Call:
    arguments = {"url": at.redis, "distributed_lock": True, "thread_local_lock": False, "lock_timeout": PATIENCE}
    region = _dogpile.make_region().configure("dogpile.cache.redis", arguments=arguments, expiration_time=TTL)
    return lambda key: region.get_or_create(key, factory.plain)


def django(at: Addresses, factory: Factory) -> Call:
    set_up_django(at)
    cache = django_cache("redis")
    return lambda key: cache.get_or_set(key, factory.plain, TTL)


def apilotis(backend: str, at: Addresses, factory: Factory, stack: AsyncExitStack) -> Call:
    cache = pilotis_cache(backend, at)
    stack.push_async_callback(cache.aclose)
    return lambda key: cache.aget_or_set(key, factory.awaited, ttl=TTL)


def cashews_cached(how: Mapping[str, Any], at: Addresses, factory: Factory, stack: AsyncExitStack) -> Call:
    cache: Any = cashews.Cache()
    cache.setup(at.redis)
    stack.push_async_callback(cache.close)
    kind, options = how.get("kind", "cache"), {name: value for name, value in how.items() if name != "kind"}

    @getattr(cache, kind)(ttl=TTL, key="{key}", **options)
    async def cached(key: str) -> str:
        return await factory.awaited()

    return cached


def aiocache_stampede(at: Addresses, factory: Factory, stack: AsyncExitStack) -> Call:
    def key_of(_: object, key: str) -> str:
        return key

    decorator = _aiocache.cached_stampede(
        lease=2, ttl=TTL, key_builder=key_of, cache=_aiocache.RedisCache, port=at.redis_port
    )

    @decorator
    async def cached(key: str) -> str:
        return await factory.awaited()

    stack.push_async_callback(cached.cache.close)
    return cached


BLOCKING: Mapping[str, Callable[[Addresses, Factory], Call]] = {
    "pilotis, Redis, threads": functools.partial(pilotis, "redis"),
    "pilotis, Memcached, threads": functools.partial(pilotis, "memcached"),
    "dogpile, distributed_lock": dogpile_lock,
    "Django, get_or_set": django,
}
ASYNC: Mapping[str, Callable[[Addresses, Factory, AsyncExitStack], Call]] = {
    "pilotis, Redis, tasks": functools.partial(apilotis, "redis"),
    "pilotis, Memcached, tasks": functools.partial(apilotis, "memcached"),
    "cashews": functools.partial(cashews_cached, {}),
    "cashews, lock": functools.partial(cashews_cached, {"lock": True}),
    "cashews, early": functools.partial(cashews_cached, {"kind": "early"}),
    "cashews, soft": functools.partial(cashews_cached, {"kind": "soft"}),
    "aiocache, cached_stampede": aiocache_stampede,
}

# In each process


def work(name: str, at: Addresses, gate: Any, sights: Any) -> None:
    """Take part in every round. `gate` opens when all processes are ready for the next."""
    logging.disable(logging.WARNING)
    if name in ASYNC:
        asyncio.run(awork(ASYNC[name], at, gate, sights))
        return
    factory, ports = Factory(), set[int]()
    call = BLOCKING[name](at, factory)
    call(f"warm-{multiprocessing.current_process().name}")

    def caller(key: str) -> float:
        return returned(call(key))

    with ThreadPoolExecutor(CALLERS) as pool:
        for number in range(ROUNDS):
            factory.clear()
            start = opened(gate)
            returns = list(pool.map(caller, [f"key-{number}"] * CALLERS))
            sights.put(Sight(start, factory.begins, factory.ends, returns, ports := ports | open_ports()))
    gate.wait(PATIENCE)


async def awork(make: Callable[[Addresses, Factory, AsyncExitStack], Call], at: Addresses, *shared: Any) -> None:
    gate, sights = shared
    factory, ports = Factory(), set[int]()
    async with AsyncExitStack() as stack:
        call = make(at, factory, stack)
        await call(f"warm-{multiprocessing.current_process().name}")

        async def caller(key: str) -> float:
            return returned(await call(key))

        for number in range(ROUNDS):
            factory.clear()
            start = opened(gate)
            returns = await asyncio.gather(*(caller(f"key-{number}") for _ in range(CALLERS)))
            sights.put(Sight(start, factory.begins, factory.ends, returns, ports := ports | open_ports()))
        gate.wait(PATIENCE)


def opened(gate: Any) -> float:
    gate.wait(PATIENCE)
    return time.time()


def returned(value: object) -> float:
    """Return the time at which a caller had the value."""
    assert value == "value"
    return time.time()


def open_ports() -> set[int]:
    """Return this process's ends of its connections."""
    return {connection.laddr.port for connection in psutil.Process().net_connections("tcp") if connection.raddr}


# Around them


def measured(name: str, at: Addresses, watched: Watched) -> list[Outcome]:
    """Return what became of each round of a candidate."""
    context = multiprocessing.get_context("spawn")
    gate, sights = context.Barrier(PROCESSES + 1), context.Queue()
    workers = [context.Process(target=work, args=(name, at, gate, sights)) for _ in range(PROCESSES)]
    for worker in workers:
        worker.start()
    outcomes: list[Outcome] = []
    for _ in range(ROUNDS):
        gate.wait(PATIENCE)
        before = watched.memcached_keys()
        seen = [sights.get(timeout=PATIENCE) for _ in range(PROCESSES)]
        keys = watched.memcached_keys() - before
        outcomes.append(outcome(seen, keys if "Memcached" in name else watched.commands()))
    gate.wait(PATIENCE)
    for worker in workers:
        worker.join(PATIENCE)
    return outcomes


def outcome(seen: Sequence[Sight], told: int | Sequence[Command]) -> Outcome:
    """Judge a round, with what the server told: keys in all, or every command."""
    first_end = min(end for sight in seen for end in sight.ends)
    last = max(time for sight in seen for time in sight.returns)
    calls = sum(len(sight.begins) for sight in seen)
    if isinstance(told, int):
        return Outcome(calls, last - first_end, None, told)
    begun = min(sight.start for sight in seen)
    sent = [command for command in told if begun <= command.time <= last]
    while_waiting = [command.port for command in sent if command.time <= first_end]
    waiting = [
        max(0, sum(port in sight.ports for port in while_waiting) - CALLERS) for sight in seen if not sight.begins
    ]
    return Outcome(calls, last - first_end, max(waiting, default=None), len(sent))


class Watched:
    """What the servers tell."""

    def __init__(self, at: Addresses) -> None:
        self._memcached = _pymemcache.Client(("127.0.0.1", at.memcached_port))
        self._redis = _redis.Redis(port=at.redis_port, protocol=2, socket_timeout=None)
        self._commands: list[Command] = []
        self._marked = threading.Semaphore(0)

    def memcached_keys(self) -> int:
        stats = self._memcached.stats()
        return stats[b"cmd_get"] + stats[b"cmd_set"]

    def commands(self) -> list[Command]:
        """Return every command of clients since the last time."""
        self._redis.echo("so far")
        assert self._marked.acquire(timeout=PATIENCE)
        commands, self._commands = self._commands, []
        return commands

    @contextmanager
    def watching(self) -> Generator[None]:
        """Listen to all that Redis is sent, on a thread."""
        with self._redis.monitor() as monitor:
            thread = threading.Thread(target=self._listen, args=(monitor,))
            thread.start()
            try:
                yield
            finally:
                self._redis.echo("the end")
                thread.join()

    def _listen(self, monitor: Any) -> None:
        while True:
            told = monitor.next_command()
            word, _, rest = told["command"].partition(" ")
            if word == "ECHO" and rest == "the end":
                return
            if word == "ECHO":
                self._marked.release()
            elif told["client_type"] == "tcp" and word.upper() not in SET_UP:
                self._commands.append(Command(told["time"], int(told["client_port"])))


def row(name: str, found: Sequence[Outcome]) -> list[object]:
    calls = [outcome.calls for outcome in found]
    lateness = [outcome.lateness for outcome in found]
    waiting = [outcome.waiting for outcome in found if outcome.waiting is not None]
    told = [
        shown(calls),
        shown([round(seconds * 1000, 1) for seconds in lateness]) + " ms",
        shown(waiting) if waiting else "-",
        shown([outcome.commands for outcome in found]),
    ]
    is_reached = max(calls) == 1 and median(lateness) <= LATENESS and median(waiting or [0]) <= COMMANDS
    return [name, *told, ("reached" if is_reached else "not reached") if name.startswith("pilotis") else ""]


def shown(numbers: Sequence[float]) -> str:
    return f"{median(numbers):g} ({max(numbers):g})"


def main() -> None:
    """Measure every candidate, one after the other."""
    print(machine(), end="\n\n")
    rows: list[list[object]] = []
    with both_servers() as (redis_server, memcached_server):
        at = Addresses(redis_server.port, memcached_server.port)
        watched = Watched(at)
        for name in (*BLOCKING, *ASYNC):
            empty(redis_server.url)
            empty_memcached(memcached_server.address)
            with watched.watching():
                rows.append(row(name, measured(name, at, watched)))
    goals = f"goals: 1 call, {LATENESS * 1000:.0f} ms, {COMMANDS} commands"
    table(["", "factory calls", "slowest after it", "commands while waiting", "commands in all", goals], rows)


if __name__ == "__main__":
    main()
