"""What waiting costs, who is woken, and what becomes of those who die while they wait."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import pytest
import redis.asyncio
from pilotis.bridge import drive
from pilotis.errors import LockNotAcquiredError
from pilotis.modules.locking import Locking
from pilotis.providers import Context, LockRequest
from pilotis_locking_redis import RedisLocks, RedisLocksOptions
from pilotis_locking_redis.scripts import LOCKS, TAKE, keys_of, microseconds
from pilotis_locking_redis.taking import Taking
from pilotis_testing.chaos import eventually
from pilotis_testing.colours import together
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer

LONG = 120.0
"""Seconds: more than any of these tests takes, however slow the machine is."""
WAIT = microseconds(LONG)

WAITER = """
import json, sys
from pilotis.modules.locking import Locking
from pilotis.providers import Context
from pilotis_locking_redis import RedisLocks, RedisLocksOptions
url, keys, hold = sys.argv[1], json.loads(sys.argv[2]), len(sys.argv) > 3
locking = Locking(RedisLocks(RedisLocksOptions(url=url)), context=Context(name="shop"))
lease = locking.acquire(keys, ttl=120, wait=120)
print(lease.token, flush=True)
sys.stdin.read() if hold else lease.release()
"""

Make = Callable[..., Locking]
WaitAndDie = Callable[..., AbstractContextManager[None]]


@pytest.fixture
def make() -> Iterator[Make]:
    """What makes the locking of one more process."""
    with ExitStack() as stack:

        def made(url: str, **options: Any) -> Locking:
            context = Context(name="shop")
            locking = Locking(RedisLocks(RedisLocksOptions(url=url, **options)), context=context)
            stack.callback(context.runtime.stop)
            stack.callback(locking.close)
            return locking

        yield made


@pytest.fixture
def start(redis_url: str) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """What starts a process that waits for keys, says its token, and lets go at once or when its input ends."""
    with ExitStack() as stack:

        def started(*keys: str, hold: bool = False) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-c", WAITER, redis_url, json.dumps(keys), *["hold"] * hold]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield started


def waiters(locking: Locking, key: str) -> int:
    state = locking.inspect(key)
    return 0 if state is None else state.waiters


def commands(url: str) -> Counter[str]:
    """Return what was asked of a server since its figures were reset; what scripts ask is counted, too."""
    stats = tell(url, "INFO", "commandstats")
    return Counter({name.removeprefix("cmdstat_"): counted["calls"] for name, counted in stats.items()})


def asked(url: str) -> int:
    """Return how often it was asked for anything about locks, or to say something."""
    calls = commands(url)
    return sum(calls[name] for name in ("evalsha", "eval", "subscribe", "unsubscribe"))


def until_nobody_listens(url: str) -> None:
    """Wait until the server has heard that nobody waits any more: that is said without waiting for its answer."""
    eventually(lambda: not tell(url, "PUBSUB CHANNELS", "{pilotis:locks:*"))


def warm_up(*lockings: Locking) -> None:
    """Have the server know the scripts, and everybody be connected."""
    lease = lockings[0].acquire("warm", ttl=LONG)
    for locking in lockings:
        locking.inspect("warm")
        with pytest.raises(LockNotAcquiredError):
            locking.acquire("warm", wait=0.01)
    lease.release()


# What it costs


def test_nothing_is_sent_while_waiting(make: Make, own_redis: RedisServer) -> None:
    """Whoever stands in line is silent, as long as no lease in the way may have run out."""
    locking, other = make(own_redis.url), make(own_redis.url)
    mine = locking.acquire("a", ttl=LONG)
    threads = [threading.Thread(target=lambda: other.acquire("a", ttl=LONG, wait=LONG).release()) for _ in range(5)]
    for thread in threads:
        thread.start()
    eventually(lambda: waiters(locking, "a") == 5)
    tell(own_redis.url, "CONFIG", "RESETSTAT")
    time.sleep(0.5)
    assert 0 == asked(own_redis.url)
    mine.release()
    for thread in threads:
        thread.join(LONG)


@pytest.mark.parametrize("contenders", [5, 20])
def test_commands_for_a_grant_are_constant(make: Make, own_redis: RedisServer, contenders: int) -> None:
    """Six: try, listen, stand in line, look when woken, listen no more, let go."""
    locking, other = make(own_redis.url), make(own_redis.url)
    warm_up(locking, other)
    until_nobody_listens(own_redis.url)
    mine = locking.acquire("a", ttl=LONG)
    tell(own_redis.url, "CONFIG", "RESETSTAT")
    threads = [
        threading.Thread(target=lambda: other.acquire("a", ttl=LONG, wait=LONG).release()) for _ in range(contenders)
    ]
    for thread in threads:
        thread.start()
    inspections = 0

    def all_wait() -> bool:
        nonlocal inspections
        inspections += 1
        return waiters(locking, "a") == contenders

    eventually(all_wait)
    mine.release()
    for thread in threads:
        thread.join(LONG)
    until_nobody_listens(own_redis.url)
    assert 6 * contenders + 1 == asked(own_redis.url) - inspections


def test_only_the_head_is_woken(make: Make, own_redis: RedisServer) -> None:
    """A release says one word, to one of the many who wait."""
    locking, other = make(own_redis.url), make(own_redis.url)
    mine = locking.acquire("a", ttl=LONG)
    served: list[int] = []
    gate = threading.Event()

    def wait(number: int) -> None:
        with other.hold("a", ttl=LONG, wait=LONG):
            served.append(number)
            gate.wait(LONG)

    threads: list[threading.Thread] = []
    for number in range(4):
        threads.append(threading.Thread(target=wait, args=(number,)))
        threads[-1].start()
        eventually(lambda: waiters(locking, "a") == len(threads))
    tell(own_redis.url, "CONFIG", "RESETSTAT")
    mine.release()
    eventually(lambda: served)
    assert 1 == commands(own_redis.url)["publish"]
    gate.set()
    for thread in threads:
        thread.join(LONG)
    assert [0, 1, 2, 3] == served


# Who dies


@pytest.fixture
def wait_and_die(redis_url: str) -> Iterator[WaitAndDie]:
    """What has some stand in line for keys, one after the other, who are dead when the block ends."""
    provider = RedisLocks(RedisLocksOptions(url=redis_url))
    client: Any = redis.Redis.from_url(redis_url)  # pyright: ignore[reportUnknownMemberType]
    keys = keys_of("shop")

    @contextmanager
    def dying(*names: str, count: int = 1) -> Generator[None]:
        channels = {f"dead-{number}": f"{keys[LOCKS]}:dead-{number}" for number in range(count)}

        def heard() -> int:
            return sum(tell(redis_url, "PUBSUB", "NUMSUB", *channels.values())[1::2])

        with client.pubsub() as listener:
            listener.subscribe(*channels.values())
            eventually(lambda: heard() == count)
            for name in channels:
                drive(provider.link.script(TAKE, keys, (name, name, WAIT, 0, 0, WAIT, 0, *names)))
            yield
        eventually(lambda: heard() == 0)

    yield dying
    client.close()
    drive(provider.close())


def test_more_dead_than_one_script_serves_are_skipped(make: Make, redis_url: str, wait_and_die: WaitAndDie) -> None:
    """However many waited in a process that was killed, whoever stands behind them is woken."""
    locking = make(redis_url)
    mine = locking.acquire("a", ttl=LONG)
    alive = threading.Thread(target=lambda: locking.acquire("a", ttl=LONG, wait=LONG).release())
    with wait_and_die("a", count=130):
        alive.start()
        eventually(lambda: waiters(locking, "a") == 131)
    mine.release()
    alive.join(LONG / 4)
    assert not alive.is_alive()


def test_what_the_dead_had_reserved_is_free_for_who_comes(make: Make, redis_url: str, wait_and_die: WaitAndDie) -> None:
    """Though what they waited for is held, and will be."""
    locking = make(redis_url)
    locking.acquire("b", ttl=LONG)
    with wait_and_die("a", "b"):
        assert waiters(locking, "b") == 1
    locking.acquire("a", wait=LONG / 4).release()
    assert waiters(locking, "b") == 0


@pytest.mark.slow
def test_a_waiter_that_was_killed_is_skipped(
    make: Make, redis_url: str, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """Those behind it have not to wait for any time to pass, and what it had reserved is free."""
    locking = make(redis_url)
    mine = locking.acquire("b", ttl=LONG)
    dead = start("a", "b")
    eventually(lambda: waiters(locking, "b") == 1)
    alive = start("b")
    eventually(lambda: waiters(locking, "b") == 2)
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    eventually(lambda: b"0" in tell(redis_url, "EVAL", HEARD, 0))
    mine.release()
    assert alive.stdout is not None
    assert int(alive.stdout.readline()) > mine.token
    alive.wait(LONG)
    locking.acquire(["a", "b"], wait=LONG).release()


HEARD = """
local count = 0
for _, channel in ipairs(redis.call('PUBSUB', 'CHANNELS', '{pilotis:locks:*')) do
    count = count + 1
end
return count < 2 and '0' or '1'
"""
"""Tells whether fewer than two still listen: a server notices the end of a process a moment later."""


@pytest.mark.slow
def test_a_holder_that_was_killed_keeps_the_lock_for_its_ttl(
    make: Make, redis_url: str, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """And not longer: whoever waits looks when it may have run out."""
    locking = make(redis_url)
    holder = start("a", hold=True)
    eventually(lambda: locking.inspect("a") is not None)
    state = locking.inspect("a")
    assert state is not None
    holder.kill()
    holder.wait()
    shorten(redis_url, "a", 300_000)
    with locking.hold("a", wait=LONG) as lease:
        assert lease.token > state.token


def shorten(url: str, key: str, left: int) -> None:
    """Have the lease on a key end after so many microseconds, as if time had passed."""
    script = """
    local lock = cmsgpack.unpack(redis.call('HGET', KEYS[1], ARGV[1]))
    local time = redis.call('TIME')
    lock[1][1][4] = time[1] * 1000000 + time[2] + ARGV[2]
    redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack(lock))
    """
    tell(url, "EVAL", script, 1, "{pilotis:locks:shop}:l", key, left)


@pytest.mark.slow
def test_the_order_is_that_of_arrival_among_processes(
    make: Make, redis_url: str, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """By the server's clock, whatever theirs say."""
    locking = make(redis_url)
    mine = locking.acquire("a", ttl=LONG)
    processes: list[subprocess.Popen[bytes]] = []
    for _ in range(2):
        processes.append(start("a"))
        eventually(lambda: waiters(locking, "a") == len(processes))
    mine.release()
    tokens = [int(process.stdout.readline()) for process in processes if process.stdout is not None]
    assert tokens == sorted(tokens)
    assert all(token > mine.token for token in tokens)


def test_more_sharers_than_one_script_serves(make: Make, redis_url: str) -> None:
    """Those who share wait for one who does not, and then all have the key together, however many they are."""
    locking, other = make(redis_url), make(redis_url, max_connections=10)
    count = 130
    mine = locking.acquire("a", ttl=LONG)
    gate = threading.Barrier(count + 1)

    def share() -> None:
        lease = other.acquire("a", ttl=LONG, wait=LONG, shared=True)
        gate.wait(LONG)
        lease.release()

    threads = [threading.Thread(target=share) for _ in range(count)]
    for thread in threads:
        thread.start()
    eventually(lambda: waiters(locking, "a") == count)
    mine.release()
    gate.wait(LONG)
    for thread in threads:
        thread.join(LONG)
    assert locking.inspect("a") is None


def test_a_queue_that_was_lost_is_made_again_in_its_order(make: Make, redis_url: str) -> None:
    """Whoever comes back has the number of its place."""
    locking = make(redis_url)
    mine = locking.acquire("a", ttl=LONG)
    provider = RedisLocks(RedisLocksOptions(url=redis_url))
    first, second = (
        Taking(
            provider.link,
            keys_of("shop"),
            provider.context.clock,
            LockRequest(keys=("a",), owner=owner, ttl=LONG, wait=LONG),
        )
        for owner in ("first", "second")
    )
    for taking in (first, second):
        assert drive(taking.take(LONG)) is None
    for field in tell(redis_url, "HKEYS", "{pilotis:locks:shop}:l"):
        if field.startswith(b"\0"):
            tell(redis_url, "HDEL", "{pilotis:locks:shop}:l", field)
    tell(redis_url, "DEL", "{pilotis:locks:shop}:q")
    for taking in (second, first):
        assert drive(taking.take(LONG)) is None
    mine.release()
    assert [False, True] == [drive(taking.take(LONG)) is not None for taking in (second, first)]
    drive(provider.close())


# Other clients


async def test_waiting_with_an_asyncio_client_of_the_callers(redis_url: str) -> None:
    """Nothing can be heard then, so it is asked now and again."""
    client = redis.asyncio.Redis.from_url(redis_url)  # pyright: ignore[reportUnknownMemberType]
    locking = Locking(RedisLocks(async_client=client), context=Context(name="shop"))
    lease = await locking.aacquire("a", ttl=LONG)

    async def wait() -> None:
        await (await locking.aacquire("a", ttl=LONG, wait=LONG)).arelease()

    async def let_go() -> None:
        while (state := await locking.ainspect("a")) is not None and state.waiters == 0:
            pass
        await lease.arelease()

    await together(wait, let_go)
    assert await locking.ainspect("a") is None
    await locking.aclose()
    await client.aclose()
    locking.context.runtime.stop()


def test_nothing_stays_behind(make: Make, redis_url: str, hold_shortly: Callable[..., None]) -> None:
    """What nobody released is gone with its ttl, save for the last token; what is used meanwhile sweeps it up."""
    locking = make(redis_url)
    for number in range(100):
        hold_shortly(f"k{number}", f"l{number}")
    locking.acquire("a", ttl=LONG)
    keys = tell(redis_url, "KEYS", "*")
    assert [b"{pilotis:locks:shop}:t"] == [key for key in keys if tell(redis_url, "PTTL", key) < 0]

    def is_swept() -> bool:
        for _ in range(20):
            locking.acquire("b").release()
        return tell(redis_url, "HLEN", "{pilotis:locks:shop}:l") < 20

    eventually(is_swept)
    assert 20 > tell(redis_url, "ZCARD", "{pilotis:locks:shop}:o")


def test_what_waits_long_is_kept_as_long(make: Make, redis_url: str) -> None:
    """A lock that is taken meanwhile, for longer than those that are held, does not have the rest end with it."""
    locking = make(redis_url)
    locking.acquire("a", ttl=LONG)
    provider = RedisLocks(RedisLocksOptions(url=redis_url))
    request = LockRequest(keys=("a",), owner="o", ttl=LONG, wait=100 * LONG)
    waiting = Taking(provider.link, keys_of("shop"), provider.context.clock, request)
    assert drive(waiting.take(request.wait)) is None
    locking.acquire("b", ttl=3 * LONG)
    assert tell(redis_url, "PTTL", "{pilotis:locks:shop}:l") > 99_000 * LONG
    assert tell(redis_url, "PTTL", "{pilotis:locks:shop}:o") > 2_000 * LONG
    drive(provider.close())
