"""What workers cost: connections, commands while nothing happens, and the time that scripts take."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from pilotis.bridge import Latch
from pilotis_redis.lanes import LaneSpec, Push
from pilotis_redis.lanes.entry import HEADS, Head
from pilotis_redis.lanes.taking import MOST_DUE
from pilotis_testing.colours import soon
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer

pytestmark = pytest.mark.slow

FULL = os.environ.get("PILOTIS_CAMPAIGN") == "full"
LONGEST_MICROSECONDS = 5_000
CALM_LANES, STREAMS_OF_A_LANE = 1_000, 4
HURRY = 10
"""How many times the usual a worker's upkeep is done, for a test to be short."""

Hands = Callable[..., Any]


def connections(url: str, name: str) -> int:
    return sum(f"name={name} " in line for line in tell(url, "CLIENT", "LIST").decode().splitlines())


async def let_wait(hand: Any, lanes: list[str], seconds: float) -> list[Any]:
    wake = Latch()
    timer = threading.Timer(seconds, wake.set)
    timer.start()
    try:
        return await hand.worker.receive(dict.fromkeys(lanes, 10), wake)
    finally:
        timer.cancel()


async def test_a_worker_has_three_connections(make_hand: Hands, redis_url: str) -> None:
    """However many lanes it reads, and however busy it is."""
    lanes = [f"lane {number}" for number in range(CALM_LANES)]
    emitter = make_hand(redis_url)
    await emitter.lanes.declare([LaneSpec(lane, lane) for lane in lanes])
    hand = make_hand(redis_url, client_name="worker", liveness=1)
    assert [] == await hand.context.runtime.run(let_wait(hand, lanes, 1.5))
    assert 3 == connections(redis_url, "worker")
    await emitter.emit(lanes[7], *map(str, range(50)))
    await emitter.emit(lanes[99], *map(str, range(50)))
    settled = 0
    while settled < 100:
        taken = await hand.context.runtime.run(hand.take(*lanes))
        settled += sum(await hand.context.runtime.run(hand.settle(taken)))
    assert 3 == connections(redis_url, "worker")


def consumers_asked_for(url: str) -> int:
    """Return of how many streams a worker has asked whether somebody died who held something of it."""
    return tell(url, "INFO", "commandstats").get("cmdstat_xinfo|consumers", {"calls": 0})["calls"]


async def test_a_worker_that_has_nothing_to_do_sends_next_to_nothing(make_hand: Hands, own_redis: RedisServer) -> None:
    """Fewer than five commands a second, those within its scripts too, however many lanes it reads."""
    hand = make_hand(own_redis.url, liveness=15 / HURRY)
    lanes = [f"lane {number}" for number in range(CALM_LANES)]
    await hand.lanes.declare([LaneSpec(lane, lane) for lane in lanes])
    assert [] == await hand.look(*lanes)
    await soon(lambda: consumers_asked_for(own_redis.url) >= STREAMS_OF_A_LANE * CALM_LANES, 60)
    assert [] == await let_wait(hand, lanes, 0.5)
    tell(own_redis.url, "CONFIG", "RESETSTAT")
    began = time.monotonic()
    assert [] == await let_wait(hand, lanes, 4)
    stats = tell(own_redis.url, "INFO", "commandstats")
    calls = sum(counted["calls"] for counted in stats.values())
    assert 0 < calls < 5 * HURRY * (time.monotonic() - began)


@pytest.mark.campaign
async def test_many_that_are_due_at_once_hold_up_nobody(make_hand: Hands, own_redis: RedisServer) -> None:
    """They come in order of due time, none early, a bounded number at a time."""
    count, until_due = (1_000_000, 120.0) if FULL else (10_000, 2.5)
    hand = make_hand(own_redis.url)
    await hand.declare("a")
    began = time.monotonic()
    for start in range(0, count, 1_000):
        left = until_due - (time.monotonic() - began)
        numbers = range(start, start + 1_000)
        await hand.lanes.emit([Push(str(n), "a", b"", delay=left + n * 7919 % 1000 / 1000) for n in numbers])
    due = await due_times(hand, "a")
    assert count == len(due)
    tell(own_redis.url, "CONFIG", "RESETSTAT")
    got: list[str] = []
    while len(got) < count:
        taken = await hand.context.runtime.run(hand.take("a", most=500))
        assert max(due[entry.head.id] for entry in taken) <= server_ms(own_redis.url)
        assert all(await hand.context.runtime.run(hand.settle(taken)))
        got += [entry.head.id for entry in taken]
        if len(got) == len(taken):  # the others have waited until all of them are due
            await soon(lambda: server_ms(own_redis.url) > max(due.values()), 60)
            await move_some(hand, got)
    assert list(due) == got
    assert typical_script(own_redis.url) < LONGEST_MICROSECONDS


async def move_some(hand: Any, got: list[str]) -> None:
    """Take once: that makes a bounded number ready, however many are due."""
    due = hand.lanes.keys.lane("a").due
    before = await hand.link.execute("ZCARD", due)
    taken = await hand.look("a", most=1)
    await hand.settle(taken)
    got += [entry.head.id for entry in taken]
    assert 0 < before - await hand.link.execute("ZCARD", due) <= MOST_DUE


async def due_times(hand: Any, lane: str) -> dict[str, int]:
    """Return when what is delayed is due, by the id of the entry, in order."""
    keys, found = hand.lanes.keys.lane(lane), dict[str, int]()
    for start in range(0, 2**30, 10_000):
        scores = await hand.link.execute("ZRANGE", keys.due, start, start + 9_999, "WITHSCORES")
        if not scores:
            break
        entries = await hand.link.execute("HMGET", keys.entries, *scores[::2])
        found |= {packed_head(entry).id: int(due) for entry, due in zip(entries, scores[1::2], strict=True)}
    return found


def packed_head(entry: bytes) -> Head:
    """Return the head that stands before the body: as a text of fewer than 32 bytes, or of fewer than 256."""
    is_short = entry[0] >> 5 == 0b101
    start, size = (1, entry[0] & 0b11111) if is_short else (2, entry[1])
    return HEADS.decode(entry[start : start + size])


def server_ms(url: str) -> float:
    seconds, micros = tell(url, "TIME")
    return seconds * 1000 + micros / 1000


def typical_script(url: str) -> float:
    """Return how long half of the scripts took at most, in microseconds.

    The others may have been held up by whatever else the machine does.
    """
    return tell(url, "INFO", "latencystats")["latency_percentiles_usec_evalsha"]["p50"]
