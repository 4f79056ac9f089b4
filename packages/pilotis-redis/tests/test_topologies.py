"""Sockets, sentinels and clusters: the same link in front of each, in both colours."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pilotis.bridge import drive, pause
from pilotis.errors import ConnectionFailedError, OperationError, OperationTimeoutError
from pilotis_redis import Eviction, RedisLink, RedisOptions, Script, startup
from pilotis_redis.faults import classify
from pilotis_testing import Colour
from pilotis_testing.clock import until
from pilotis_testing.colours import together
from pilotis_testing.redis import SLOTS, RedisNode, tell
from pilotis_testing.redis_groups import Sentinel
from pilotis_testing.servers import START_SECONDS, RedisServer, running
from redis.exceptions import RedisClusterException, RedisError

FAILOVER_SECONDS = 45.0
SCRIPT = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])", "1" * 40)


@pytest.fixture
def socket_url(tmp_path: Path) -> Iterator[str]:
    """The URL of a socket."""
    server = RedisServer(tmp_path, "--unixsocket", str(tmp_path / "s"))
    with running(server):
        yield f"unix://{tmp_path / 's'}?db=1"


@pytest.fixture
def sentinel(own_redis: RedisServer, tmp_path: Path) -> Iterator[Sentinel]:
    """A sentinel that knows a Redis as `main`."""
    (tmp_path / "sentinel.conf").write_text(
        f"sentinel monitor main 127.0.0.1 {own_redis.port} 1\nsentinel down-after-milliseconds main 1000\n"
    )
    server = Sentinel(tmp_path)
    with running(server):
        yield server


@pytest.fixture
def replica(own_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A copy of a Redis, in step with it."""
    tell(own_redis.url, "CONFIG", "SET", "repl-diskless-sync-delay", 0)
    server = RedisServer(tmp_path_factory.mktemp("replica"), "--replicaof", "127.0.0.1", str(own_redis.port))
    with running(server):
        until(lambda: tell(server.url, "ROLE")[3] == b"connected", START_SECONDS)
        yield server


async def works(link: RedisLink) -> None:
    """Assert that every verb of the link does its work."""
    keys = [f"key{number}" for number in range(30)]
    await startup.check(link, Eviction.WELCOME)
    assert await link.execute("PING") is True
    assert [True] * 30 == await link.pipeline([("SET", key, key) for key in keys])
    assert [key.encode() for key in keys] == await link.pipeline([("GET", key) for key in keys])
    assert [2, 4] == [await link.script(SCRIPT, ["n"], [2]), await link.script(SCRIPT, ["n"], [2])]
    found = [key async for step in link.scan("key*", 10) for key in step]
    assert {key.encode() for key in keys} == set(found)
    assert await link.execute_waiting("BLPOP", "nothing", 0.01) is None
    assert sorted(await together(*[lambda: link.execute("INCR", "m")] * 100)) == list(range(1, 101))


async def test_a_socket(socket_url: str, colour: Colour) -> None:
    """With the database that the URL names."""
    link = RedisLink(RedisOptions(url=socket_url))
    await works(link)
    assert tell(socket_url, "GET", "n") == b"4"
    await link.close()


async def test_sentinels_name_the_master(sentinel: Sentinel, own_redis: RedisServer, colour: Colour) -> None:
    """Callers wait for a connection there too."""
    link = RedisLink(RedisOptions(url=f"redis+sentinel://{sentinel.address}/main/2", max_connections=3))
    await works(link)
    assert tell(f"redis://{own_redis.address}/2", "GET", "n") == b"4"
    await link.close()


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_commands_go_on_where_sentinels_promote_a_replica(
    own_redis: RedisServer, replica: RedisServer, sentinel: Sentinel, colour: Colour
) -> None:
    """Meanwhile each fails as one whose server cannot be reached; the link needs no help to find the new master."""
    until(lambda: len(tell(sentinel.url, "SENTINEL", "REPLICAS", "main")) == 1, START_SECONDS)
    link = RedisLink(RedisOptions(url=f"redis+sentinel://{sentinel.address}/main", timeout=1, connect_timeout=1))
    await link.execute("SET", "n", 41)
    assert await link.execute("WAIT", 1, 10_000) == 1
    own_redis.kill()
    failures = await counted_on(link, "n")
    assert failures
    assert failures <= {ConnectionFailedError, OperationTimeoutError}
    assert (b"42", b"master") == (tell(replica.url, "GET", "n"), tell(replica.url, "ROLE")[0])
    await link.close()


async def counted_on(link: RedisLink, key: str) -> set[type[OperationError] | None]:
    """Count once a master lets us, and return the kinds of the failures until then."""
    failures = set[type[OperationError] | None]()
    deadline = time.monotonic() + FAILOVER_SECONDS
    while time.monotonic() < deadline:
        try:
            await link.execute("INCR", key)
        except RedisError as error:
            failures.add(classify(error))
            await pause(0.05)
        else:
            return failures
    raise AssertionError(f"no master after {FAILOVER_SECONDS} s; failures until then: {failures}")


async def test_a_sentinel_is_no_server(sentinel: Sentinel, colour: Colour) -> None:
    """Who writes its address as that of a server is told how it is written."""
    link = RedisLink(RedisOptions(url=f"redis://{sentinel.address}"))
    with pytest.raises(OperationError, match=r"is a sentinel.*redis\+sentinel://"):
        await startup.check(link, Eviction.WELCOME)
    await link.close()


async def test_a_cluster(redis_cluster_url: str, colour: Colour) -> None:
    """Keys of all nodes, by way of any."""
    link = RedisLink(RedisOptions(url=redis_cluster_url, max_connections=3))
    await works(link)
    await link.close()


def test_a_node_of_a_cluster_that_is_gone_is_a_lost_connection(tmp_path: Path) -> None:
    """With an error that says so, also where a connection to it was open."""
    node = RedisNode(tmp_path)
    with running(node):
        tell(node.url, "CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        until(lambda: tell(node.url, "CLUSTER INFO")["cluster_state"] == "ok", START_SECONDS)
        link = RedisLink(RedisOptions(url=f"redis+cluster://{node.address}"))
        drive(link.execute("SET", "n", 1))
        node.kill()
        with pytest.raises((RedisError, RedisClusterException)) as caught:
            drive(link.execute("GET", "n"))
        assert classify(caught.value) is ConnectionFailedError
        drive(link.close())


async def test_transactions_on_a_cluster(redis_cluster_url: str, colour: Colour) -> None:
    """Of keys with one hash tag, on the node that has them, also as the first thing that is asked."""
    source = SCRIPT.source
    script = Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
    for tag in ("{a}", "{b}", "{c}"):
        link = RedisLink(RedisOptions(url=redis_cluster_url))
        assert await link.transaction([("INCR", f"{tag}n"), ("INCR", f"{tag}m"), ("INCR", f"{tag}n")]) == [1, 1, 2]
        assert await link.script_together(script, [([f"{tag}n"], [5]), ([f"{tag}m"], [7])]) == [7, 8]
        with pytest.raises(redis.ResponseError, match="not an integer"):
            await link.transaction([("SET", f"{tag}x", "x"), ("INCR", f"{tag}x"), ("SET", f"{tag}y", "y")])
        assert await link.execute("GET", f"{tag}y") == b"y"
        await link.close()


async def test_many_are_the_first_to_use_a_cluster(redis_cluster_url: str, colour: Colour) -> None:
    """One finds out which node has what; nobody's connection breaks over it."""
    link = RedisLink(RedisOptions(url=redis_cluster_url))
    assert list(range(1, 31)) == sorted(await together(*[lambda: link.execute("INCR", "n")] * 30))
    await link.close()
