"""Whoever is cancelled or interrupted, wherever that is, leaves no lock and no place in a queue."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from types import FrameType, coroutine
from typing import Any

import pytest
from pilotis.bridge import drive, run_blocking
from pilotis.modules.locking import Locking
from pilotis.providers import Context, LockRequest
from pilotis_locking_redis import RedisLocks, RedisLocksOptions
from pilotis_locking_redis.scripts import keys_of
from pilotis_locking_redis.taking import Taking
from pilotis_testing.chaos import eventually, size
from pilotis_testing.redis import tell

TTL, LONG = 0.03, 60.0
"""Seconds: how long another one holds what is waited for; and more than any test takes."""
TRIES = size(1, 20)
"""How often each moment is tried: 20 times some 50 moments are a thousand."""
MOST_MOMENTS = 500

WAITS = {"send_packed_command", "read_response", "_wait_on_thread"}
"""Where a blocking call may stand for long, in redis-py and in the bridge."""


@pytest.fixture
def locking(redis_url: str) -> Iterator[Locking]:
    context = Context(name="shop")
    locking = Locking(RedisLocks(RedisLocksOptions(url=redis_url)), context=context)
    locking.open()
    yield locking
    locking.close()
    context.runtime.stop()


# The moments


@coroutine
def cancelled_at(moment: int, work: Coroutine[Any, Any, Any]) -> Generator[Any, Any, bool]:
    """Do some work, cancel its task when it waits for the time that is named, and tell whether it came to that."""
    value: Any = None
    for number in range(MOST_MOMENTS):
        try:
            awaited = work.send(value)
        except StopIteration:
            return False
        except asyncio.CancelledError:
            return True
        if number == moment:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        try:
            value = yield awaited
        except asyncio.CancelledError as error:
            try:
                awaited = work.throw(error)
            except asyncio.CancelledError:
                return True
            yield from _rest(work, awaited)
            return True
    raise AssertionError("it never ends")


def _rest(work: Coroutine[Any, Any, Any], awaited: Any) -> Generator[Any, Any, None]:
    """Let a cancelled work clean up."""
    while True:
        try:
            value = yield awaited
            awaited = work.send(value)
        except (StopIteration, asyncio.CancelledError):
            return


@contextmanager
def interrupting(moment: int) -> Generator[list[bool]]:
    """Raise KeyboardInterrupt in this thread at the wait that is named, at its beginning or its end."""
    seen, happened = 0, list[bool]()

    def note(frame: FrameType, event: str, _: object) -> Any:
        nonlocal seen
        if frame.f_code.co_name not in WAITS:
            return None
        if event in ("call", "return"):
            seen += 1
            if seen == moment + 1:
                happened.append(True)
                raise KeyboardInterrupt
        return note

    before = sys.gettrace()
    sys.settrace(note)
    try:
        yield happened
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)


def interrupted_at(moment: int, work: Any) -> bool:
    """Do some blocking work, interrupt it there, and tell whether it came to that."""
    with interrupting(moment) as happened:
        work()
    return bool(happened)


# What is tried


def each_moment() -> Iterator[int]:
    return (moment for moment in range(MOST_MOMENTS) for _ in range(TRIES))


def is_clean(url: str) -> None:
    """Fail unless nobody holds anything or waits; who was cancelled may be remembered for a while."""
    left = tell(url, "HKEYS", "{pilotis:locks:shop}:l")
    assert [] == [key for key in left if not key.startswith(b"\0")]
    assert 0 == tell(url, "EXISTS", "{pilotis:locks:shop}:q", "{pilotis:locks:shop}:o")


class Works:
    """Things to do with locks, in both colours. Done once before they are tried, they find a connection."""

    def __init__(self, locking: Locking) -> None:
        self.locking = locking

    def take(self) -> None:
        self.locking.acquire(["a", "b"], ttl=LONG).release()

    async def atake(self) -> None:
        await (await self.locking.aacquire(["a", "b"], ttl=LONG)).arelease()

    def hold(self) -> None:
        with self.locking.hold("a", "b", ttl=LONG):
            pass

    async def ahold(self) -> None:
        async with self.locking.hold("a", "b", ttl=LONG):
            await asyncio.sleep(0)

    def wait(self) -> None:
        with self.locking.hold("a", "b", ttl=LONG, wait=LONG):
            pass

    async def await_(self) -> None:
        async with self.locking.hold("a", "b", ttl=LONG, wait=LONG):
            await asyncio.sleep(0)


@pytest.mark.parametrize("name", ["take", "hold"])
def test_nothing_is_left_of_what_was_free(locking: Locking, redis_url: str, name: str) -> None:
    """Acquiring, holding and releasing are interrupted at every wait."""
    work = getattr(Works(locking), name)
    for moment in each_moment():
        work()
        if not _tried(redis_url, interrupted_at(moment, work)):
            return
    raise AssertionError("it was never done")


@pytest.mark.parametrize("name", ["atake", "ahold"])
async def test_nothing_is_left_of_what_was_free_under_a_loop(locking: Locking, redis_url: str, name: str) -> None:
    """Acquiring, holding and releasing are cancelled at every wait."""
    work = getattr(Works(locking), name)
    for moment in each_moment():
        await work()
        if not _tried(redis_url, await _in_task(cancelled_at(moment, work()))):
            return
    raise AssertionError("it was never done")


@pytest.mark.slow
def test_nothing_is_left_of_what_was_waited_for(
    locking: Locking, redis_url: str, hold_shortly: Callable[..., None]
) -> None:
    """Interrupted at every wait for a holder that dies."""
    for moment in each_moment():
        hold_shortly("b", ttl=TTL)
        came_to_it = interrupted_at(moment, Works(locking).wait)
        eventually(lambda: locking.inspect("b") is None)
        if not _tried(redis_url, came_to_it):
            break


@pytest.mark.slow
def test_nothing_is_left_of_what_was_released_to_a_waiter(locking: Locking, redis_url: str) -> None:
    """Interrupted at every wait for a holder that lets go."""
    for moment in each_moment():
        timer = threading.Timer(TTL, locking.acquire("b", ttl=LONG).release)
        timer.start()
        came_to_it = interrupted_at(moment, Works(locking).wait)
        timer.join()
        if not _tried(redis_url, came_to_it):
            break


async def test_nothing_is_left_of_what_was_waited_for_under_a_loop(
    locking: Locking, redis_url: str, hold_shortly: Callable[..., None]
) -> None:
    """Cancelled at every wait for a holder that dies."""
    for moment in each_moment():
        await run_blocking(hold_shortly, "b", ttl=TTL)
        await locking.ainspect("b")  # there is a connection
        came_to_it = await _in_task(cancelled_at(moment, Works(locking).await_()))
        while await locking.ainspect("b") is not None:
            await asyncio.sleep(TTL / 10)
        if not _tried(redis_url, came_to_it):
            break


async def test_nothing_is_left_of_what_was_released_to_a_waiter_under_a_loop(locking: Locking, redis_url: str) -> None:
    """Cancelled at every wait for a holder that lets go."""
    for moment in each_moment():
        holder = await locking.aacquire("b", ttl=LONG)
        task = asyncio.ensure_future(_in_task(cancelled_at(moment, Works(locking).await_())))
        await asyncio.sleep(TTL)
        await holder.arelease()
        if not _tried(redis_url, await task):
            break


async def _in_task(work: Any) -> bool:
    async def run() -> bool:
        return await work

    return await asyncio.ensure_future(run())


def _tried(url: str, came_to_it: bool) -> bool:
    is_clean(url)
    return came_to_it


def test_what_the_owner_had_before_stays(locking: Locking, redis_url: str) -> None:
    """Whoever is interrupted while it takes more keeps what it held."""
    for moment in each_moment():
        mine = locking.acquire("a", owner="job-7", ttl=LONG)
        came_to_it = interrupted_at(moment, lambda: locking.acquire(["a", "b"], owner="job-7", ttl=LONG))
        assert came_to_it is (locking.inspect("b") is None)
        assert locking.inspect("a") is not None
        assert mine.release() is came_to_it or not came_to_it
        locking.release_all("job-7")
        if not _tried(redis_url, came_to_it):
            break


def test_what_the_owner_was_granted_meanwhile_stays(redis_url: str) -> None:
    """Whoever gives up does not take away what another task of the same owner was told that it holds."""
    provider = RedisLocks(RedisLocksOptions(url=redis_url))
    request = LockRequest(keys=("a",), owner="job-7", ttl=LONG)
    keys = keys_of(provider.context.name)
    taking = Taking(provider.link, keys, provider.context.clock, request)
    assert drive(taking.take(None)) is not None
    other = drive(provider.acquire(request))
    assert other is not None
    drive(taking.undo(ValueError()))
    assert [True] == drive(provider.renew([other]))
    assert drive(provider.release(other)) is True
    drive(provider.close())


def test_a_request_that_arrives_after_it_was_given_up_comes_to_nothing(locking: Locking, redis_url: str) -> None:
    """A server that was asked on one connection may read it after it was told on another."""
    provider = RedisLocks(RedisLocksOptions(url=redis_url))
    request = LockRequest(keys=("a",), owner="o", ttl=LONG, wait=LONG)
    taking = Taking(provider.link, keys_of("shop"), provider.context.clock, request)
    drive(taking.undo(ValueError()))
    assert drive(taking.take(None)) is None
    assert drive(taking.take(LONG)) is None
    is_clean(redis_url)
    drive(provider.close())
