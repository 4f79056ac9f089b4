"""Very many events that are due at the same time."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from pilotis.modules.event import Message
from pilotis_testing.chaos import FULL, eventually, size
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer

LONGEST_MICROSECONDS = 5_000
MOST_OVERTAKEN = 10
"""A worker that the machine holds up for a second gives back what it has at hand, and others may pass that by."""
LANE = "{pilotis:events}:l:shop/timed timed"

pytestmark = [pytest.mark.campaign, pytest.mark.slow, pytest.mark.timeout(3600 if FULL else 180)]

DUE = """
-- Returns the ids of entries, and when they are due: by rank, from ARGV[1] to ARGV[2].
local found = {}
local members = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2], 'WITHSCORES')
for index = 1, #members, 2 do
    local packed = redis.call('HGET', KEYS[2], members[index])
    found[#found + 1] = {cmsgpack.unpack((cmsgpack.unpack(packed)))[1], members[index + 1]}
end
return found
"""

SOONER = """
-- Has entries be due ARGV[3] milliseconds sooner: by rank, from ARGV[1] to ARGV[2]. Returns how many those are.
local members = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2], 'WITHSCORES')
for index = 1, #members, 2 do
    redis.call('ZADD', KEYS[1], members[index + 1] - ARGV[3], members[index])
end
return #members / 2
"""


def have_due_sooner(url: str, seconds: float) -> None:
    """Have all that is delayed be due so much sooner, some at a time: it may be a million."""
    place = 0
    while changed := tell(url, "EVAL", SOONER, 1, f"{LANE}:z", place, place + 9_999, int(seconds * 1000)):
        place += changed


def due_times(url: str) -> dict[str, float]:
    """Return when what is delayed is due, seconds since 1970, by the id of the event, in order."""
    found: list[list[bytes]] = []
    while chunk := tell(url, "EVAL", DUE, 2, f"{LANE}:z", f"{LANE}:e", len(found), len(found) + 999):
        found += chunk
    return {id.decode(): int(due) / 1000 for id, due in found}


def test_many_that_are_due_at_once_come_in_order_and_not_early(
    set_scene: Callable[..., Any], own_redis: RedisServer
) -> None:
    """And no script takes longer than 5 ms, but for those that the machine itself holds up."""
    count = size(10_000, 1_000_000)
    scene = set_scene(own_redis.url)
    scene.declare()
    for start in range(0, count, 1_000):
        numbers = range(start, start + 1_000)
        delays = [3_600 + number * 7_919 % 1_000 / 1_000 for number in numbers]
        scene.emit_all([Message("timed", n, id=f"{n}", delay=it) for n, it in zip(numbers, delays, strict=True)])
    have_due_sooner(own_redis.url, min(due_times(own_redis.url).values()) - time.time() - 1)
    due = due_times(own_redis.url)
    assert count == len(due)
    tell(own_redis.url, "CONFIG", "SET", "slowlog-log-slower-than", LONGEST_MICROSECONDS, "slowlog-max-len", 100_000)
    tell(own_redis.url, "CONFIG", "RESETSTAT")
    tell(own_redis.url, "SLOWLOG", "RESET")
    if FULL:
        go_first(own_redis.pid)
    scene.start()
    eventually(lambda: scene.succeeded("timed") == [count], size(120, 3_000))
    runs = scene.journal.of("timed", "done")
    assert sorted(due) == sorted(run.id for run in runs)
    overtaken = [run.id for run, next in pairwise(runs) if due[run.id] > due[next.id]]
    assert len(overtaken) <= MOST_OVERTAKEN
    assert [] == [run.id for run in runs if run.at < due[run.id]]
    assert slow_script(own_redis.url) < LONGEST_MICROSECONDS


def go_first(process: int) -> None:
    """Have a process run before all others, where that is allowed: else its log tells of them too."""
    with contextlib.suppress(AttributeError, PermissionError):
        os.sched_setscheduler(process, os.SCHED_RR, os.sched_param(1))


def slow_script(url: str) -> float:
    """Return how long scripts took, in microseconds: all but the slowest hundredth in a campaign, in which the server
    goes first, and else the usual one.
    """
    slow = [entry[2] for entry in tell(url, "SLOWLOG", "GET", 100_000) if entry[3][0].startswith(b"EVAL")]
    percentiles = tell(url, "INFO", "latencystats")["latency_percentiles_usec_evalsha"]
    print("scripts, microseconds:", percentiles, "slow:", sorted(slow))
    return percentiles["p99" if FULL else "p50"]
