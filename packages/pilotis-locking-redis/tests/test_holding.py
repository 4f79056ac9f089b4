"""Holders that fork, that hold inside of holding, and whose server goes away while they are at work."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pilotis.bridge import run_blocking
from pilotis.errors import LockLostError, LockNotAcquiredError, ReentrantCallError
from pilotis.modules.locking import Locking
from pilotis.providers import Context
from pilotis_locking_redis import RedisLocks, RedisLocksOptions
from pilotis_testing import Colour
from pilotis_testing.chaos import eventually
from pilotis_testing.servers import RedisServer

LONG = 120.0

FORKING = """
import os, sys, time
from pilotis.errors import LockLostError, LockNotAcquiredError
from pilotis.modules.locking import Locking
from pilotis.providers import Context
from pilotis_locking_redis import RedisLocks, RedisLocksOptions
locking = Locking(RedisLocks(RedisLocksOptions(url=sys.argv[1])), context=Context(name="shop"))

def child(lease):
    told = [bool(lease.lost), lease.release()]
    try:
        locking.acquire("a")
    except LockNotAcquiredError:
        told.append("refused")
    locking.acquire("b", ttl=120)
    print(os.getpid(), *told, flush=True)
    time.sleep(120)

with locking.hold("a", ttl=3) as lease:
    if os.fork() == 0:
        child(lease)
    time.sleep(120)
"""
"""Holds a, and has a child that says what it finds, holds b, and stays."""

Make = Callable[..., Locking]


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


@pytest.mark.slow
def test_a_forked_child_neither_renews_nor_releases(make: Make, redis_url: str) -> None:
    """What its parent holds stays held and renewed by that alone; what the child takes is its own."""
    locking = make(redis_url)

    def expires() -> float:
        state = locking.inspect("a")
        assert state is not None
        assert state.expires is not None
        return state.expires.timestamp()

    with subprocess.Popen([sys.executable, "-c", FORKING, redis_url], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child, *told = parent.stdout.readline().split()
        try:
            assert [b"True", b"False", b"refused"] == told
            before = expires()
            eventually(lambda: expires() > before)
            parent.kill()
            parent.wait()
            locking.acquire("a", wait=LONG / 4).release()
            assert locking.inspect("b") is not None
        finally:
            parent.kill()
            os.kill(int(child), signal.SIGKILL)


async def test_a_block_inside_a_block_of_the_same_key_is_found_out(make: Make, redis_url: str, colour: Colour) -> None:
    """In one task, and on threads that it calls out to, at once and without asking the server; other keys are fine."""
    locking = make(redis_url)
    voice = colour.voice(locking)

    def on_a_thread() -> None:
        with locking.hold("a", wait=LONG):
            pass

    async with voice.hold("a", "b", ttl=LONG) as lease:
        with pytest.raises(ReentrantCallError, match="hold of a inside a block"):
            await voice.hold("a", "c", wait=LONG).__aenter__()
        with pytest.raises(ReentrantCallError):
            await run_blocking(on_a_thread)
        assert await voice.inspect("c") is None
        async with voice.hold("c", ttl=LONG) as inner:
            assert inner.token > lease.token
    assert [] == await voice.held()


async def test_others_wait_for_a_block_even_if_they_were_begun_inside(make: Make, redis_url: str) -> None:
    """A task and a thread that were started there hold nothing, and get the key when the block has ended."""
    locking = make(redis_url)

    async def hold(wait: float) -> int:
        async with locking.hold("a", ttl=LONG, wait=wait) as lease:
            return lease.token

    async with locking.hold("a", ttl=LONG) as lease:
        with pytest.raises(LockNotAcquiredError):
            await asyncio.ensure_future(hold(0))
        task = asyncio.ensure_future(hold(LONG / 2))
        while (state := await locking.ainspect("a")) is None or state.waiters == 0:
            pass
    assert await task > lease.token


@pytest.mark.slow
@pytest.mark.parametrize(
    ("is_killed", "is_suppressed"), [(False, False), (True, True)], ids=["paused", "killed and suppressed"]
)
async def test_a_block_ends_with_its_lease_in_an_outage(
    make: Make, own_redis: RedisServer, is_killed: bool, is_suppressed: bool
) -> None:
    """It is cancelled before the server lets go, and told of the loss, even if it goes on all the same."""
    locking = make(own_redis.url, timeout=0.2, connect_timeout=0.2, reconnects=0)
    told: list[str] = []

    async def block() -> None:
        async with locking.hold("a", ttl=1, cancel_on_loss=True) as lease:
            (own_redis.kill if is_killed else own_redis.pause)()
            with contextlib.ExitStack() as stack:
                if is_suppressed:
                    stack.enter_context(contextlib.suppress(asyncio.CancelledError))
                try:
                    await asyncio.Event().wait()
                finally:
                    told.append(f"lost: {bool(lease.lost)}")
            told.append("went on")

    with pytest.raises(LockLostError):
        await asyncio.ensure_future(block())
    assert ["lost: True", "went on"][: 1 + is_suppressed] == told
    (own_redis.start if is_killed else own_redis.resume)()
    await (await locking.aacquire("a", wait=LONG / 4)).arelease()
