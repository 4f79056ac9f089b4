"""Whoever is cancelled or interrupted, wherever that is, leaves no lock and no place in a queue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from pilotis.bridge import drive, pause, run_blocking
from pilotis.modules.locking import Locking
from pilotis.providers import Context, LockRequest
from pilotis_locking_redis import RedisLocks, RedisLocksOptions
from pilotis_locking_redis.scripts import keys_of
from pilotis_locking_redis.taking import Taking
from pilotis_testing import Colour
from pilotis_testing.chaos import FULL, size
from pilotis_testing.locking_cancelling import WORKS, Work, hold, hold_permit, take
from pilotis_testing.moments import WAITS_OF_THE_BRIDGE, Moments, struck_at
from pilotis_testing.redis import tell

TTL, LONG = 0.03, 60.0
"""Seconds: how long another one holds what is waited for; and more than any test takes."""
TRIES = size(1, 1_000)
"""How often each work is struck at least, one wait after the other."""

WAITING = (hold, take, hold_permit)
WAITS = WAITS_OF_THE_BRIDGE | {"send_packed_command", "read_response"}
"""Where a blocking call may stand for long, in redis-py and in the bridge."""

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(1800 if FULL else 60)]

LEFT = """
local left = {}
local fields = redis.call('HGETALL', KEYS[1])
for index = 1, #fields, 2 do
    local is_waiter = string.sub(fields[index], 1, 1) == '\\0'
    if not is_waiter or not cmsgpack.unpack(fields[index + 1]).is_withdrawn then
        left[#left + 1] = fields[index]
    end
end
return left
"""
"""Returns what is held or waits. That a request was given up is remembered for a minute."""


@pytest.fixture
def locking(redis_url: str) -> Iterator[Locking]:
    context = Context(name="shop")
    locking = Locking(RedisLocks(RedisLocksOptions(url=redis_url)), context=context)
    locking.open()
    yield locking
    locking.close()
    context.runtime.stop()


def is_clean(url: str) -> None:
    """Fail unless nobody holds anything or waits."""
    assert [] == tell(url, "EVAL", LEFT, 1, "{pilotis:locks:shop}:l")
    assert 0 == tell(url, "EXISTS", "{pilotis:locks:shop}:q", "{pilotis:locks:shop}:o")


def named(work: Work) -> str:
    return work.__name__


@pytest.mark.slow
@pytest.mark.parametrize("work", WORKS, ids=named)
async def test_nothing_is_left_of_what_was_free(locking: Locking, redis_url: str, colour: Colour, work: Work) -> None:
    """Acquiring, holding and releasing, locks and permits, are struck at every wait."""
    moments = Moments(TRIES)
    for moment in moments:
        await colour.voice(locking).inspect("a")  # there is a connection
        moments.note(await struck_at(moment, work(colour.voice(locking)), WAITS))
        is_clean(redis_url)


@pytest.mark.slow
@pytest.mark.parametrize("work", WAITING[: size(1, 3)], ids=named)
async def test_nothing_is_left_of_what_was_waited_for(
    locking: Locking, redis_url: str, colour: Colour, hold_shortly: Callable[..., None], work: Work
) -> None:
    """Struck at every wait for a holder that dies."""
    voice, moments = colour.voice(locking), Moments(TRIES)
    for moment in moments:
        await run_blocking(hold_shortly, "a", "b", ttl=TTL)
        await voice.inspect("a")
        moments.note(await struck_at(moment, work(voice), WAITS))
        while await voice.inspect("a") is not None or await voice.inspect("b") is not None:
            await pause(TTL / 10)
        is_clean(redis_url)


@pytest.mark.slow
@pytest.mark.parametrize("work", WAITING[-size(1, 3) :], ids=named)
async def test_nothing_is_left_of_what_was_released_to_a_waiter(
    locking: Locking, redis_url: str, colour: Colour, work: Work
) -> None:
    """Struck at every wait for a holder that lets go."""
    voice, moments = colour.voice(locking), Moments(TRIES)
    for moment in moments:
        lease = await run_blocking(locking.acquire, ["a", "b"], ttl=LONG)
        await voice.inspect("a")
        timer = threading.Timer(TTL, lease.release)
        timer.start()
        moments.note(await struck_at(moment, work(voice), WAITS))
        await run_blocking(timer.join)
        is_clean(redis_url)


async def test_what_the_owner_had_before_stays(locking: Locking, redis_url: str, colour: Colour) -> None:
    """Whoever is struck while it takes more keeps what it held."""
    voice, moments = colour.voice(locking), Moments(TRIES)
    for moment in moments:
        mine = await voice.acquire("a", owner="job-7", ttl=LONG)
        was_struck = await struck_at(moment, voice.acquire(["a", "b"], owner="job-7", ttl=LONG), WAITS)
        assert was_struck is (await voice.inspect("b") is None)
        assert (await voice.inspect("a")).token == mine.token
        await voice.release_all("job-7")
        moments.note(was_struck)
        is_clean(redis_url)


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
