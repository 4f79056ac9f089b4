"""Many entries, many workers, and everything that may go wrong meanwhile."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pilotis.bridge import drive
from pilotis_redis.lanes import LaneSpec, Push
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer, running
from redis.exceptions import RedisError

pytestmark = [pytest.mark.campaign, pytest.mark.slow]

FULL = os.environ.get("PILOTIS_CAMPAIGN") == "full"
COUNT, KILLS, PATIENCE = (100_000, 40, 1_800.0) if FULL else (3_000, 4, 50.0)
WORKERS, KEYS, MOST = 4, 20, 50
LANES = ("a", "b", "c")


def handled(url: str, lane: str) -> list[str]:
    return [id.decode() for id in tell(url, "LRANGE", f"handled:{lane}", 0, -1)]


def emit(hand: Any, numbers: range) -> None:
    """Put entries into every lane; those of one key stay in order. Repeated until it is known to have succeeded."""
    pushes = [Push(f"{n:06}", "x", b"log", key=f"{n % KEYS}" if n % 2 else None, remember=3_600) for n in numbers]
    while True:
        try:
            drive(hand.lanes.emit(pushes))
        except RedisError:
            time.sleep(0.05)
        else:
            return


def test_nothing_is_lost_while_workers_are_killed_and_redis_restarts(
    make_hand: Callable[..., Any], start_worker: Callable[..., Any], tmp_path: Path
) -> None:
    """Each lane handles all, twice at most what was in flight at a kill; what has a key in its order."""
    server = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "everysec")
    dice = random.Random(11)
    with running(server):
        hand = make_hand(server.url, timeout=2)
        drive(hand.lanes.declare([LaneSpec(lane, "x") for lane in LANES]))
        workers = [start_worker(server.url, *LANES, liveness=1, most=MOST) for _ in range(WORKERS)]
        for step in range(KILLS):
            share = COUNT // KILLS
            emit(hand, range(step * share, (step + 1) * share))
            victim = dice.randrange(WORKERS)
            workers[victim].signal(signal.SIGKILL)
            workers[victim] = start_worker(server.url, *LANES, liveness=1, most=MOST)
            if step in (KILLS // 3, 2 * KILLS // 3):
                server.restart()
        wait_until_handled(server.url)
        for lane in LANES:
            check(handled(server.url, lane))


def wait_until_handled(url: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while any(len(set(handled(url, lane))) < COUNT for lane in LANES):
        assert time.monotonic() < deadline, {lane: len(set(handled(url, lane))) for lane in LANES}
        time.sleep(0.2)


def check(ids: list[str]) -> None:
    times = Counter(ids)
    assert {f"{number:06}" for number in range(COUNT)} == times.keys()
    assert sum(times.values()) - COUNT <= KILLS * MOST + 2 * WORKERS * MOST
    first = list(dict.fromkeys(ids))
    for key in range(1, KEYS, 2):
        of_key = [id for id in first if int(id) % KEYS == key]
        assert sorted(of_key) == of_key
