"""What becomes of entries whose worker died, and of suspects: those on their last chance."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from pilotis.bridge import drive
from pilotis_redis.lanes import Taken, life, reading
from pilotis_testing.colours import soon, together

pytestmark = pytest.mark.slow

PATIENCE = 40.0
"""Seconds after which a test has failed, however slow the machine is."""

Start = Callable[..., Any]


def have_one_chance_more(hand: Any, *lanes: str) -> None:
    """Have what lost one worker be suspects already."""
    for lane in lanes:
        hand.worker.know(lane, max_crashes=2)


async def test_what_has_more_chances_is_taken_together(make_hand: Start, redis_url: str) -> None:
    """What lost a worker once waits for nothing: it may be long, and one more death makes no dead letter of it."""
    hand, dead = make_hand(redis_url), make_hand(redis_url)
    await hand.declare("a", "b")
    await hand.emit("a", "1", "2")
    await hand.emit("b", "3")
    assert 3 == len(await dead.look("a", "b"))
    await hand.link.execute("ZREM", hand.lanes.keys.workers, dead.worker.id)
    taken: list[Taken] = []
    while len(taken) < 3:
        taken += await hand.take("a", "b")
    assert [("1", "h", 1), ("2", "h", 1), ("3", "h", 1)] == sorted(
        (entry.head.id, entry.stream, entry.head.crashes) for entry in taken
    )


async def test_suspects_are_taken_one_at_a_time(make_hand: Start, redis_url: str) -> None:
    """Of all lanes together, by `take` and by the read that waits; the others come when that is settled."""
    hand = make_hand(redis_url)
    lanes = ["a", "b", "c"]
    have_one_chance_more(hand, *lanes)
    await hand.declare(*lanes)
    for lane in lanes:
        await hand.emit(lane, f"{lane}1", f"{lane}2")
    dead = make_hand(redis_url)
    assert 6 == len(await dead.look(*lanes))
    await hand.link.execute("ZREM", hand.lanes.keys.workers, dead.worker.id)
    seen: list[str] = []
    while len(seen) < 6:
        taken = await hand.take(*lanes)
        assert ["s"] == [entry.stream for entry in taken]
        assert [] == await hand.look(*lanes)
        seen += [entry.head.id for entry in taken]
        assert [True] == await hand.settle(taken)
    assert sorted(f"{lane}{number}" for lane in lanes for number in (1, 2)) == sorted(seen)


async def test_the_next_suspect_comes_when_the_one_before_is_settled(
    make_hand: Start, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and not when the read that waits without suspects is over."""
    for module in (life, reading):
        monkeypatch.setattr(module, "LONGEST", 2 * PATIENCE)
    hand, dead = make_hand(redis_url), make_hand(redis_url)
    have_one_chance_more(hand, "a", "b")
    await hand.declare("a", "b")
    await hand.emit("a", "1")
    await hand.emit("b", "2")
    assert 2 == len(await dead.look("a", "b"))
    await hand.link.execute("ZREM", hand.lanes.keys.workers, dead.worker.id)
    first = await hand.take("a", "b")

    async def settle() -> float:
        await soon(lambda: hand.worker._life.reader.is_waiting, PATIENCE)
        assert [True] == await hand.settle(first)
        return time.monotonic()

    async def wait() -> float:
        assert ["s"] == [entry.stream for entry in await hand.take("a", "b")]
        return time.monotonic()

    settled, came = await together(settle, wait)
    assert came - settled < PATIENCE / 2


async def test_max_crashes_belongs_to_a_lane(make_hand: Start, redis_url: str) -> None:
    """One that knows no forgiveness makes a dead letter of the first crash."""
    hand, dead = make_hand(redis_url), make_hand(redis_url)
    await hand.declare("a")
    await hand.emit("a", "1")
    hand.worker.know("a", max_crashes=1)
    await dead.look("a")
    await hand.link.execute("ZREM", hand.lanes.keys.workers, dead.worker.id)
    assert [] == await hand.look("a")
    await soon(lambda: drive(hand.lanes.states(["a"]))[0].dead == 1, PATIENCE)
