"""A Redis that restarts, hangs, forgets, is full or follows another one, and answers that are lost on the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pilotis.bridge import drive
from pilotis.errors import (
    ConnectionFailedError,
    LockLostError,
    LockNotAcquiredError,
    OperationTimeoutError,
    StorageFullError,
)
from pilotis.modules.locking import Locking
from pilotis.providers import Context
from pilotis_locking_redis import RedisLocks, RedisLocksOptions
from pilotis_testing import Colour
from pilotis_testing.chaos import AnswerCutter, eventually
from pilotis_testing.colours import soon, together
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer

LONG = 120.0
LOCKS = "{pilotis:locks:shop}:l"

Make = Callable[..., Any]


@pytest.fixture
def make(colour: Colour) -> Iterator[Make]:
    """What makes the locking of one more process, speaking in the colour of the test."""
    with ExitStack() as stack:

        def made(url: str, **options: Any) -> Any:
            context = Context(name="shop")
            locking = Locking(RedisLocks(RedisLocksOptions(url=url, **options)), context=context)
            stack.callback(context.runtime.stop)
            stack.callback(locking.close)
            return colour.voice(locking)

        yield made


async def waits(locking: Any, key: str, count: int = 1) -> None:
    """Wait until so many stand in line for a key."""
    while (state := await locking.inspect(key)) is None or state.waiters != count:
        pass


# Servers


async def test_a_restart_loses_leases_and_not_the_order_of_tokens(make: Make, own_redis: RedisServer) -> None:
    """One without a memory lets go of all locks; their holders learn it, and later tokens are higher all the same."""
    locking = make(own_redis.url)
    lease = await locking.acquire("a", ttl=LONG)
    own_redis.restart()
    with pytest.raises(LockLostError):
        await lease.extend()
    assert (await locking.acquire("a", ttl=LONG)).token > lease.token
    assert await lease.release() is False
    assert await locking.inspect("a") is not None


@pytest.mark.slow
async def test_a_hold_survives_a_short_outage(make: Make, own_redis: RedisServer) -> None:
    """Renewals are tried again until the lease is nearly over."""
    locking = make(own_redis.url, timeout=0.2, connect_timeout=0.2)
    async with locking.hold("a", ttl=5) as lease:
        deadline = lease.deadline
        own_redis.pause()
        threading.Timer(2, own_redis.resume).start()
        await soon(lambda: lease.deadline > deadline, 60)
        assert not lease.lost
    assert await locking.inspect("a") is None


@pytest.mark.slow
async def test_an_outage_turns_a_lease_lost_before_the_server_lets_go(make: Make, own_redis: RedisServer) -> None:
    """By the same clock its deadline comes first; it is lost then, although nobody could be asked."""
    locking = make(own_redis.url, timeout=0.2, connect_timeout=0.2)
    hold = locking.hold("a", ttl=1)
    lease = await hold.__aenter__()
    own_redis.pause()
    await soon(lease.lost.is_set, 60)
    own_redis.resume()
    with pytest.raises(LockLostError):
        await hold.__aexit__(None, None, None)
    lease = await locking.acquire("a", wait=LONG)
    state = await locking.inspect("a")
    assert lease.deadline + time.time() - time.monotonic() < state.expires.timestamp()


async def test_a_waiter_is_told_of_a_server_that_is_gone(make: Make, own_redis: RedisServer) -> None:
    """At once, and it leaves nothing behind when the server comes back."""
    locking, other = make(own_redis.url), make(own_redis.url, reconnects=0)
    await locking.acquire("a", ttl=LONG)

    async def wait() -> None:
        with pytest.raises(ConnectionFailedError):
            await other.acquire("a", wait=LONG)

    async def end() -> None:
        await waits(locking, "a")
        own_redis.kill()

    await together(wait, end)
    own_redis.start()
    assert await other.inspect("a") is None


async def test_a_server_that_hangs_is_a_time_out(make: Make, own_redis: RedisServer) -> None:
    """What it does of the request when it goes on is taken back."""
    locking = make(own_redis.url, timeout=1)
    await locking.inspect("a")
    own_redis.pause()
    with pytest.raises(OperationTimeoutError):
        await locking.acquire("a", ttl=LONG)
    own_redis.resume()
    await (await locking.acquire("a", ttl=LONG, wait=LONG / 2)).release()


async def test_a_server_that_forgot_the_scripts_is_sent_them_again(make: Make, own_redis: RedisServer) -> None:
    """Nobody notices."""
    locking = make(own_redis.url)
    lease = await locking.acquire("a", ttl=LONG)
    tell(own_redis.url, "SCRIPT", "FLUSH")
    await lease.extend()
    tell(own_redis.url, "SCRIPT", "FLUSH")
    assert await lease.release() is True


async def test_a_full_server_grants_nothing_and_takes_everything_back(make: Make, own_redis: RedisServer) -> None:
    """Acquiring is a typed error; what is held can be renewed, looked at and released."""
    locking = make(own_redis.url)
    lease = await locking.acquire(["a", "b"], ttl=LONG)
    sharers = [await locking.acquire("s", shared=True, ttl=LONG) for _ in range(2)]
    tell(own_redis.url, "CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(StorageFullError):
        await locking.acquire("c")
    with pytest.raises(StorageFullError):
        await locking.acquire("c", wait=1)
    await lease.extend()
    assert await locking.inspect("a") is not None
    assert [True, True] == [await sharer.release() for sharer in sharers]
    assert await lease.release() is True
    assert await locking.inspect("a") is None


async def test_a_server_that_follows_another_one_is_a_lost_connection(make: Make, own_redis: RedisServer) -> None:
    """After a failover the old master refuses, and the error can be retried."""
    locking = make(own_redis.url)
    tell(own_redis.url, "REPLICAOF", "127.0.0.1", "1")
    tell(own_redis.url, "CONFIG", "SET", "replica-serve-stale-data", "yes")
    with pytest.raises(ConnectionFailedError) as caught:
        await locking.acquire("a")
    assert caught.value.retryable


async def test_a_lock_that_somebody_spoilt_is_told_as_such(make: Make, own_redis: RedisServer) -> None:
    """Other locks are not touched by it."""
    locking = make(own_redis.url)
    tell(own_redis.url, "SET", "{pilotis:locks:shop}:l", "x")
    with pytest.raises(Exception, match="WRONGTYPE"):
        await locking.acquire("a")


# Answers


@pytest.fixture
def cutter(own_redis: RedisServer) -> Iterator[AnswerCutter]:
    with AnswerCutter(own_redis.port) as cutter:
        yield cutter


async def test_a_lock_whose_answer_was_lost_is_given_back(
    make: Make, own_redis: RedisServer, cutter: AnswerCutter
) -> None:
    """The caller is told that it failed, and others can have the lock at once."""
    locking = make(f"redis://127.0.0.1:{cutter.port}")
    await (await locking.acquire("a", ttl=LONG)).release()
    cutter.cut_next()
    with pytest.raises((ConnectionFailedError, OperationTimeoutError)) as caught:
        await locking.acquire("a", ttl=LONG)
    assert caught.value.outcome == "unknown"
    assert await make(own_redis.url).inspect("a") is None


async def test_a_release_whose_answer_was_lost_is_sent_again(make: Make, cutter: AnswerCutter) -> None:
    """It has the answer that was lost; releasing once more is False as ever."""
    locking = make(f"redis://127.0.0.1:{cutter.port}")
    for keys in (["a"], ["a", "b"]):
        lease = await locking.acquire(keys, ttl=LONG)
        cutter.cut_next()
        assert await lease.release() is True
        assert await locking.inspect("a") is None
        assert await lease.release() is False


async def test_a_lost_answer_to_a_release_in_vain_is_false_all_the_same(make: Make, cutter: AnswerCutter) -> None:
    """What was lost before is not taken for released."""
    locking = make(f"redis://127.0.0.1:{cutter.port}")
    lease = await locking.acquire("a", owner="job-7", ttl=LONG)
    await locking.release_all("job-7")
    cutter.cut_next()
    assert await lease.release() is False


@pytest.mark.slow
async def test_a_renewal_whose_answer_was_lost_is_tried_again(make: Make, cutter: AnswerCutter) -> None:
    """The lease goes on."""
    locking = make(f"redis://127.0.0.1:{cutter.port}")
    async with locking.hold("a", ttl=3) as lease:
        deadline = lease.deadline
        cutter.cut_next()
        await soon(lambda: lease.deadline > deadline, 60)
        assert not lease.lost


async def test_a_waiter_whose_wake_up_was_lost_keeps_its_place(make: Make, own_redis: RedisServer) -> None:
    """Where the connection that listens is cut, everybody listens anew, in the same order."""
    locking, other = make(own_redis.url), make(own_redis.url)
    lease = await locking.acquire("a", ttl=LONG)
    served: list[int] = []

    def wait(number: int) -> Callable[[], Any]:
        async def waiting() -> None:
            while (state := await locking.inspect("a")) is None or state.waiters != number:
                pass
            mine = await other.acquire("a", wait=LONG)
            served.append(number)
            await mine.release()

        return waiting

    async def cut() -> None:
        await waits(locking, "a", 3)
        assert 0 < tell(own_redis.url, "CLIENT", "KILL", "TYPE", "pubsub")
        await soon(lambda: 3 == len(tell(own_redis.url, "PUBSUB CHANNELS", f"{LOCKS}:*")), 60)
        await waits(locking, "a", 3)
        await lease.release()

    await together(wait(0), wait(1), wait(2), cut)
    assert [0, 1, 2] == served
    assert await locking.inspect("a") is None


@pytest.mark.slow
async def test_waiting_goes_on_where_the_lock_is_renewed_again_and_again(make: Make, own_redis: RedisServer) -> None:
    """Whoever waits looks when the lease may have run out, finds that it has not, and is refused in the end."""
    locking, other = make(own_redis.url), make(own_redis.url)
    async with locking.hold("a", ttl=2):
        with pytest.raises(LockNotAcquiredError):
            await other.acquire("a", wait=2.5)


def test_a_lock_that_is_opened_while_redis_is_down_recovers(own_redis: RedisServer) -> None:
    """Nobody has to start the application again."""
    own_redis.stop()
    context = Context(name="shop")
    locking = Locking(RedisLocks(RedisLocksOptions(url=own_redis.url, reconnects=0)), context=context)
    with pytest.raises(ConnectionFailedError):
        locking.acquire("a")
    own_redis.start()
    locking.acquire("a").release()
    eventually(lambda: 0 == tell(own_redis.url, "EXISTS", LOCKS))
    drive(locking.aclose())
    context.runtime.stop()
