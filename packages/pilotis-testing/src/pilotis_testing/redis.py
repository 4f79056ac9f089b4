"""What tests do to a Redis behind the provider's back. Needs redis-py, which every provider on Redis brings along."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

from pilotis_testing.clock import ManualClock, until
from pilotis_testing.servers import START_SECONDS, RedisServer, free_port, running

SLOTS = 16384
CLUSTER = "redis+cluster://"

_MOST_TIMED = 1_000_000
_LONGEST = 60.0
"""Seconds for an answer: a campaign asks for much at once."""
_NOT_TIMED = {"CLIENT", "CONFIG", "HELLO", "SELECT", "SLOWLOG"}
"""What watching takes, and connections."""

_AGE = """
local by = tonumber(ARGV[1])

local function age_scores(key)
    local entries = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for index = 1, #entries, 2 do
        redis.call('ZADD', key, entries[index + 1] - by, entries[index])
    end
    return #entries > 0
end

-- What lanes pack begins with a head, whose seventh field is a time, or 0; some of it ends with a time.
local function age_packed(key, ends_with_time)
    local packed = redis.call('HGETALL', key)
    for index = 1, #packed, 2 do
        local parts = {cmsgpack.unpack(packed[index + 1])}
        local head = cmsgpack.unpack(parts[1])
        head[7] = head[7] > 0 and head[7] - by or 0
        parts[1] = cmsgpack.pack(head)
        parts[#parts] = ends_with_time and parts[#parts] - by or parts[#parts]
        redis.call('HSET', key, packed[index], cmsgpack.pack(unpack(parts)))
    end
end

-- Only where nobody has read yet: whoever has something in their hands knows it by its id.
local function age_stream(key)
    local group = redis.call('XINFO', 'GROUPS', key)[1]
    local entries = redis.call('XRANGE', key, '-', '+')
    if not group or group[4] > 0 or #entries == 0 then
        return
    end
    redis.call('DEL', key)
    for _, entry in ipairs(entries) do
        local ms, number = string.match(entry[1], '(%d+)-(%d+)')
        redis.call('XADD', key, string.format('%.0f-%s', ms - by, number), unpack(entry[2]))
    end
    redis.call('XGROUP', 'CREATE', key, group[2], '0')
end

local function age_lane(key, bus, lane, part)
    if string.match('shnl', part) then
        age_stream(key)
    elseif part == 'd' then
        age_scores(key)
    elseif part == 'z' and age_scores(key) then
        redis.call('XADD', bus .. ':news', '*', 'w', lane)
    elseif part == 'e' or part == 'q' or part == 'x' then
        age_packed(key, part ~= 'e')
    end
end

-- The timers of runs; who waits for them is rung, to see that they are due.
local function age_timers(key, bus)
    if age_scores(key) then
        for _, worker in ipairs(redis.call('ZRANGE', bus .. ':w', 0, -1)) do
            redis.call('XADD', bus .. ':b:' .. worker, 'NOMKSTREAM', 'MAXLEN', 1, '*', 'w', '')
        end
    end
end

-- What ends with the process that it belongs to, in real time: it is renewed, or not.
local function is_alive(key)
    local name = string.match(key, '^{[^}]+}:(.*)$') or ''
    return string.match(name, '^[gb]:') or name == 'tail' or name == 'listened'
end

local cursor = '0'
repeat
    local step = redis.call('SCAN', cursor, 'COUNT', 1000)
    cursor = step[1]
    for _, key in ipairs(step[2]) do
        local left = redis.call('PTTL', key)
        local bus, lane, part = string.match(key, '^({[^}]+}):l:(.+):(%l)$')
        local timed = string.match(key, '^({[^}]+}):tm$')
        if bus then
            age_lane(key, bus, lane, part)
        elseif timed then
            age_timers(key, timed)
        elseif left >= 0 and not is_alive(key) then
            redis.call('PEXPIRE', key, left - by)
        end
    end
until cursor == '0'
"""


class RedisClock(ManualClock):
    """A manual clock that takes what is in a Redis along: `advance` makes it older by what it moves on by.

    That is each ttl, and in lanes the times of what is delayed, held or dead; readers are told. So suites see what the
    server decides, and wait for nothing.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self._clients = [_client(server) for server in each_server(url)]

    def advance(self, seconds: float) -> None:
        self.age(seconds)
        super().advance(seconds)

    def age(self, seconds: float) -> None:
        """Make all that is in the database older. Keys that reach their end are gone."""
        for client in self._clients:
            _age(client, seconds)

    def wait_for_waiters(self, count: int = 1) -> None:
        """Return at once: who waits for the server need not be there before it has something."""


class RedisRunClock(RedisClock):
    """The same for runs, whose workers ask it what time it is: it has moved on before they are told what is due."""

    def advance(self, seconds: float) -> None:
        ManualClock.advance(self, seconds)
        self.age(seconds)


class RedisWallClock(RedisClock):
    """The same beginning with the server's wall time, and going on with it."""

    def time(self) -> float:
        return time.time() + self.monotonic()


class RedisNode(RedisServer):
    """A node of a cluster."""

    def command(self) -> list[str]:
        return [*super().command(), "--cluster-enabled", "yes", "--cluster-port", str(self.bus_port)]

    @cached_property
    def bus_port(self) -> int:
        """Where the nodes talk to one another."""
        return free_port()

    def knows_all(self, count: int) -> bool:
        """Tell whether it knows who has which slot, and is in contact with them."""
        nodes = tell(self.url, "CLUSTER NODES")
        is_well = tell(self.url, "CLUSTER INFO")["cluster_state"] == "ok"
        return is_well and len(nodes) == count and all(node["connected"] and node["slots"] for node in nodes.values())


@contextmanager
def running_cluster(directories: Iterable[Path]) -> Generator[str]:
    """Run a cluster with a node in each directory, for the length of a block, and return its URL."""
    nodes = [RedisNode(directory) for directory in directories]
    with ExitStack() as stack:
        for index, node in enumerate(nodes):
            stack.enter_context(running(node))
            first, after = (number * SLOTS // len(nodes) for number in (index, index + 1))
            tell(node.url, "CLUSTER", "ADDSLOTSRANGE", first, after - 1)
            tell(node.url, "CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for node in nodes[1:]:
            tell(nodes[0].url, "CLUSTER", "MEET", "127.0.0.1", node.port, node.bus_port)
        until(lambda: all(node.knows_all(len(nodes)) for node in nodes), START_SECONDS)
        yield CLUSTER + ",".join(node.address for node in nodes)


def each_server(url: str) -> list[str]:
    """Return the URL of each server: of a cluster, all of its nodes."""
    if not url.startswith(CLUSTER):
        return [url]
    return [f"redis://{node}" for node in url.removeprefix(CLUSTER).split(",")]


def age(url: str, seconds: float) -> None:
    """Make all that is in a database older. Keys that reach their end are gone."""
    for server in each_server(url):
        with _client(server) as client:
            _age(client, seconds)


def _age(client: Any, seconds: float) -> None:
    client.execute_command("EVAL", _AGE, 0, int(seconds * 1000))


def empty(url: str) -> None:
    """Remove every key of a database."""
    for server in each_server(url):
        tell(server, "FLUSHDB")


def keys_in(url: str) -> int:
    """Return how many keys a database has."""
    return tell(url, "DBSIZE")


class Timed(NamedTuple):
    """A command that a server ran."""

    seconds: float
    """Of the server, from beginning to end. Where the system lets others run meanwhile, their time is in it."""
    words: list[str]
    """The command and its arguments, at most 32 of them; the last one then says how many more there were."""

    @property
    def name(self) -> str:
        return self.words[0].upper()


@contextmanager
def timing(url: str) -> Generator[list[Timed]]:
    """Have a server time every command of a block, and return a list that holds them when the block has ended.

    The server keeps them in its slow log, which is empty afterwards.
    """
    timed: list[Timed] = []
    before = tell(url, "CONFIG GET", "slowlog-*")
    for name, value in {"slowlog-max-len": _MOST_TIMED, "slowlog-log-slower-than": 0}.items():
        tell(url, "CONFIG", "SET", name, value)
    tell(url, "SLOWLOG", "RESET")
    try:
        yield timed
        timed += [_timed(*entry[2:4]) for entry in reversed(tell(url, "SLOWLOG", "GET", -1))]
        timed[:] = [one for one in timed if one.name not in _NOT_TIMED]
    finally:
        for name, value in before.items():
            tell(url, "CONFIG", "SET", name, value)
        tell(url, "SLOWLOG", "RESET")


def _timed(microseconds: int, words: list[bytes]) -> Timed:
    return Timed(microseconds / 1e6, [word.decode(errors="replace") for word in words])


def tell(url: str, *command: Any) -> Any:
    """Run one command on a connection of its own, and return its reply, texts as bytes."""
    with _client(url) as client:
        return client.execute_command(*command)


def _client(url: str) -> Any:
    from redis import Redis

    return cast("Any", Redis).from_url(url, socket_timeout=_LONGEST)
