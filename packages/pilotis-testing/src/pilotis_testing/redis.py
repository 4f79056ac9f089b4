"""What tests do to a Redis behind the provider's back. Needs redis-py, which every provider on Redis brings along."""

from __future__ import annotations

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
_NOT_TIMED = {"CLIENT", "CONFIG", "HELLO", "SELECT", "SLOWLOG"}
"""What watching takes, and connections."""

_AGE = """
local cursor = '0'
repeat
    local step = redis.call('SCAN', cursor, 'COUNT', 1000)
    cursor = step[1]
    for _, key in ipairs(step[2]) do
        local left = redis.call('PTTL', key)
        if left >= 0 then
            redis.call('PEXPIRE', key, left - tonumber(ARGV[1]))
        end
    end
until cursor == '0'
"""


class RedisClock(ManualClock):
    """A manual clock that takes the entries of a Redis along: `advance` takes from each ttl what it moves on by.

    So suites see real expiry, decided by the server, and wait for nothing.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def advance(self, seconds: float) -> None:
        age(self._url, seconds)
        super().advance(seconds)


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
    """Have every key of a database come nearer to its end; those that reach it are gone."""
    for server in each_server(url):
        tell(server, "EVAL", _AGE, 0, int(seconds * 1000))


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
    from redis import Redis

    with cast("Any", Redis).from_url(url) as client:
        return client.execute_command(*command)
