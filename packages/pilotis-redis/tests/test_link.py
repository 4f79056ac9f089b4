"""The link: commands, pipelines, scripts and scans in both colours, and the clients behind them."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from pilotis.bridge import drive
from pilotis.errors import ConfigurationError, InvalidInputError, UnsupportedError
from pilotis_redis import RedisLink, RedisOptions, Script
from pilotis_redis.faults import classify
from pilotis_testing.colours import Colour, together
from pilotis_testing.redis import tell

SOURCE = "return {KEYS[1], ARGV[1]}"


@pytest.fixture
def link(redis_url: str, colour: Colour) -> Iterator[RedisLink]:
    """A link of few connections."""
    link = RedisLink(RedisOptions(url=redis_url, max_connections=4))
    yield link
    drive(link.close())


async def test_commands(link: RedisLink) -> None:
    """Replies are those of redis-py, texts as bytes."""
    assert await link.execute("SET", "k", b"\x00\xff") is True
    assert await link.execute("MGET", "k", "none") == [b"\x00\xff", None]


async def test_a_pipeline_runs_all_and_raises_the_first_error(link: RedisLink) -> None:
    """Commands after one that failed have run."""
    assert await link.pipeline([("SET", "a", 1), ("INCRBY", "a", 2)]) == [True, 3]
    with pytest.raises(redis.ResponseError, match="WRONGTYPE") as caught:
        await link.pipeline([("LPUSH", "a", "secret"), ("GET", "a", "too many"), ("SET", "b", 1)])
    assert "secret" not in str(caught.value)
    assert await link.execute("GET", "b") == b"1"


async def test_a_script_is_sent_once_and_again_when_it_was_flushed(link: RedisLink, redis_url: str) -> None:
    """The caller sees no difference."""
    script = Script(SOURCE, "0" * 40)
    known = Script(SOURCE, tell(redis_url, "SCRIPT", "LOAD", SOURCE).decode())
    for each in (known, script):
        assert [b"key", b"1"] == await link.script(each, ["key"], [1])
    tell(redis_url, "SCRIPT", "FLUSH")
    assert [b"key", b"1"] == await link.script(known, ["key"], [1])
    assert tell(redis_url, "SCRIPT", "EXISTS", known.digest) == [1]


async def test_a_scan_finds_every_key_in_steps(link: RedisLink) -> None:
    """Of the pattern, and ends."""
    await link.pipeline([("SET", f"k{number}", 1) for number in range(300)] + [("SET", "other", 1)])
    steps = [keys async for keys in link.scan("k*", 50)]
    assert {f"k{number}".encode() for number in range(300)} == {key for keys in steps for key in keys}
    assert len(steps) > 3


async def test_blocking_reads_hold_up_no_command(link: RedisLink) -> None:
    """More of them than there are connections, each with one of its own, longer than the time-out of commands."""

    async def wait() -> Any:
        return await link.execute_waiting("BLPOP", "queue", 5)

    async def push() -> Any:
        for _ in range(8):
            await link.execute("RPUSH", "queue", "x")

    replies = await together(*[wait] * 8, push)
    assert [[b"queue", b"x"]] * 8 == [list(reply) for reply in replies[:-1]]


async def test_a_blocking_read_has_no_time_out(redis_url: str, colour: Colour) -> None:
    """Only that which the command says."""
    link = RedisLink(RedisOptions(url=redis_url, timeout=0.05))
    assert await link.execute_waiting("BLPOP", "nothing", 0.15) is None
    with pytest.raises(redis.TimeoutError):
        await link.execute("BLPOP", "nothing", 30)
    await link.close()


async def test_many_callers_wait_for_few_connections(link: RedisLink) -> None:
    """Nobody fails for want of one, and no more are made than the options allow."""

    async def ask() -> Any:
        return await link.execute("INCR", "n")

    assert list(range(1, 301)) == sorted(await together(*[ask] * 300))
    clients = await link.execute("CLIENT LIST")
    assert len([client for client in clients if client["cmd"] == "incr"]) <= 4


async def test_who_waits_too_long_for_a_connection_is_told(redis_url: str, colour: Colour) -> None:
    """By the error of a time-out, after the time-out."""
    link = RedisLink(RedisOptions(url=redis_url, max_connections=1, timeout=0.2))

    async def hold() -> object:
        return await outcome(link.execute("BLPOP", "nothing", 0.19))

    outcomes = await together(*[hold] * 4)
    assert "No connection available." in {str(each) for each in outcomes}
    assert {"OperationTimeoutError"} == {
        kind.__name__ for each in outcomes if isinstance(each, Exception) and (kind := classify(each))
    }
    await link.close()


async def outcome(command: Awaitable[Any]) -> object:
    """Return the reply or the error."""
    try:
        return await command
    except redis.RedisError as error:
        return error


def test_each_event_loop_has_clients_of_its_own(redis_url: str) -> None:
    """One after the other, two at once, and blocking use beside them; their connections end with them."""
    link = RedisLink(RedisOptions(url=redis_url))

    async def count() -> Any:
        return [await link.execute("INCR", "n"), await link.execute("INCR", "n")][-1]

    assert [2, 4] == [asyncio.run(count()), asyncio.run(count())]
    threads = [threading.Thread(target=lambda: asyncio.run(count())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert drive(link.execute("INCR", "n")) == 13
    assert len([client for client in drive(link.execute("CLIENT LIST")) if client["cmd"] == "incr"]) <= 1
    drive(link.close())


def test_closing_ends_every_connection_and_not_the_use(redis_url: str) -> None:
    """Those of running loops too; the next command makes new ones."""
    link = RedisLink(RedisOptions(url=redis_url, client_name="mine"))

    async def use() -> None:
        await link.execute("PING")
        await link.close()
        assert ours(redis_url, "mine") == 0
        await link.execute("PING")

    drive(link.execute("PING"))
    asyncio.run(use())
    drive(link.execute("PING"))
    assert ours(redis_url, "mine") == 1
    drive(link.close())
    drive(link.close())


def ours(url: str, name: str) -> int:
    """Return how many connections of that name there are."""
    return sum(client["name"] == name for client in tell(url, "CLIENT LIST"))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_after_a_fork_parent_and_child_do_not_share_a_connection(redis_url: str) -> None:
    """Each gets its own answers, in both colours, and the parent's connections live on."""
    link = RedisLink(RedisOptions(url=redis_url))

    async def ask(text: str) -> Any:
        return [await link.execute("ECHO", f"{text}{number}") for number in range(50)]

    def asks_right(text: str) -> bool:
        expected = [f"{text}{number}".encode() for number in range(50)]
        return expected == drive(ask(text)) == asyncio.run(ask(text))

    async def fork_inside() -> int:
        await ask("before")
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            threading.Thread(target=lambda: os._exit(0 if asks_right("child") else 1)).start()
            signal.pause()
        await ask("parent")
        return child

    drive(ask("before"))
    child = asyncio.run(fork_inside())
    assert asks_right("parent")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    drive(link.close())


async def test_lent_clients_are_used_and_never_closed(redis_url: str, colour: Colour) -> None:
    """In the colour that each is of; `native` hands them out."""
    mine, theirs = redis.Redis.from_url(redis_url), redis.asyncio.Redis.from_url(redis_url)  # pyright: ignore[reportUnknownMemberType]
    link = RedisLink(RedisOptions(), client=mine, async_client=theirs)
    assert await link.execute("INCR", "n") == 1
    assert await link.pipeline([("INCR", "n")]) == [2]
    assert (mine, theirs) == (link.native(redis.Redis), link.native(redis.asyncio.Redis))
    await link.close()
    assert await link.execute("INCR", "n") == 3
    mine.close()
    if colour is Colour.ASYNC:
        await theirs.aclose()


async def test_a_lent_blocking_client_serves_tasks_on_a_thread(redis_url: str, colour: Colour) -> None:
    """Every verb of the link."""
    with redis.Redis.from_url(redis_url) as mine:  # pyright: ignore[reportUnknownMemberType]
        link = RedisLink(RedisOptions(), client=mine)
        assert await together(*[lambda: link.execute("INCR", "n")] * 8)
        assert await link.pipeline([("INCR", "n")]) == [9]
        assert await link.transaction([("DECR", "n"), ("INCR", "n")]) == [8, 9]
        assert [keys async for keys in link.scan("*", 10)] == [[b"n"]]


async def test_a_lent_asyncio_client_cannot_block(redis_url: str) -> None:
    """It is told, and what to pass in."""
    theirs = redis.asyncio.Redis.from_url(redis_url)  # pyright: ignore[reportUnknownMemberType]
    link = RedisLink(RedisOptions(), async_client=theirs)
    assert await link.execute("INCR", "n") == 1

    def block() -> None:
        with pytest.raises(UnsupportedError, match="pass client="):
            drive(link.execute("INCR", "n"))

    await asyncio.to_thread(block)
    await theirs.aclose()


@pytest.mark.parametrize("client", [object(), redis.Redis(decode_responses=True)], ids=["foreign", "decoding"])
def test_a_client_that_cannot_be_used_is_refused(client: object) -> None:
    """At once: one of something else, and one that makes text of bytes."""
    with pytest.raises(ConfigurationError, match="expected a client"):
        RedisLink(RedisOptions(), client=client)


NATIVE: dict[type, Callable[[RedisLink], object]] = {
    redis.Redis: lambda link: link.native(redis.Redis),
    redis.asyncio.Redis: lambda link: link.native(redis.asyncio.Redis),
}


async def test_native_clients(link: RedisLink, colour: Colour) -> None:
    """The blocking one always, the asyncio one under a loop, and nothing else."""
    found = [kind for kind, find in NATIVE.items() if isinstance(find(link), kind)]
    assert list(NATIVE)[: 1 if colour is Colour.BLOCKING else 2] == found
    assert link.native(InvalidInputError) is None


async def test_a_transaction_runs_as_one(link: RedisLink, redis_url: str) -> None:
    """Nobody comes between its commands; what fails keeps none of the others back, and is raised then."""
    assert await link.transaction([("SET", "a", 1), ("INCRBY", "a", 2), ("GET", "a")]) == [True, 3, b"3"]
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        await link.transaction([("LPUSH", "a", "x"), ("SET", "b", 1)])
    assert await link.execute("GET", "b") == b"1"
    tell(redis_url, "CONFIG", "RESETSTAT")
    await link.transaction([("INCR", "n"), ("INCR", "n")])
    assert tell(redis_url, "INFO", "commandstats")["cmdstat_exec"]["calls"] == 1


async def test_scripts_together_bring_the_script_along(link: RedisLink, redis_url: str) -> None:
    """Also one that the server was made to forget; replies stand in the order of the calls."""
    known = Script(SOURCE, tell(redis_url, "SCRIPT", "LOAD", SOURCE).decode())
    calls = [([f"k{number}"], [number]) for number in range(3)]
    for _ in range(2):
        tell(redis_url, "SCRIPT", "FLUSH")
        assert [[f"k{n}".encode(), str(n).encode()] for n in range(3)] == await link.script_together(known, calls)


def test_several_files_make_one_script() -> None:
    """What stands first can be used by what follows."""
    whole = Script.load("pilotis_redis", "entries", "bury")
    first, last = (Script.load("pilotis_redis", name).source for name in ("entries", "bury"))
    assert first + last == whole.source
    assert len({whole.digest, Script.load("pilotis_redis", "bury").digest}) == 2
