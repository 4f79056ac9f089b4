"""Lanes: a single entry takes a short way, on which nobody can tell it from others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pilotis_redis.lanes import Lanes, LaneSpec, Push, Pushed
from pilotis_redis.lanes.entry import HEADS
from pilotis_testing import Colour
from pilotis_testing.clock import until
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer

LANES = [LaneSpec("a", "order.*"), LaneSpec("b", "*")]


def runs(url: str) -> int:
    """Return how many scripts were run."""
    return tell(url, "INFO", "commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]


async def waiting(lanes: Lanes, lane: str, stream: int = 2) -> list[str]:
    entries = await lanes.link.execute("XRANGE", lanes.keys.lane(lane).all[stream], "-", "+")
    return [HEADS.decode(fields[b"h"]).id for _, fields in entries]


async def test_an_entry_is_one_short_script(lanes: Lanes, redis_url: str, colour: Colour) -> None:
    """It reaches all of its lanes, is counted and remembered, in the stream of its priority; others are not."""
    await lanes.declare(LANES)
    await lanes.emit([Push("0", "order.placed", b"")])
    before = runs(redis_url)
    assert [Pushed("1", 2)] == await lanes.emit([Push("1", "order.placed", b"x", remember=9)])
    assert [Pushed("2", 2)] == await lanes.emit([Push("2", "order.placed", b"", priority="l")])
    assert [Pushed("3", 1)] == await lanes.emit([Push("3", "mail", b"")])
    assert 3 == runs(redis_url) - before
    assert (["0", "1"], ["0", "1", "3"], ["2"]) == (
        await waiting(lanes, "a"),
        await waiting(lanes, "b"),
        await waiting(lanes, "a", 3),
    )
    assert [3, 4] == [state.counters["emitted"] for state in await lanes.states(["a", "b"])]
    assert 8_000 < tell(redis_url, "PTTL", lanes.keys.id("1")) <= 9_000
    assert 0 == tell(redis_url, "EXISTS", lanes.keys.id("2"))


async def test_what_nobody_takes_is_not_remembered(lanes: Lanes, redis_url: str, colour: Colour) -> None:
    """So that it can be emitted again once somebody does."""
    await lanes.declare(LANES[:1])
    assert [Pushed("1", 0)] == await lanes.emit([Push("1", "mail", b"", remember=9)])
    assert 0 == tell(redis_url, "EXISTS", lanes.keys.id("1"))


async def test_what_is_delayed_for_later_is_in_nobodys_way(lanes: Lanes, redis_url: str, colour: Colour) -> None:
    """Entries that are due take the short way past it."""
    await lanes.declare(LANES[:1])
    await lanes.emit([Push("later", "order.placed", b"", delay=60)])
    await lanes.emit([Push("0", "order.placed", b"")])
    before = runs(redis_url)
    assert [Pushed("1", 1)] == await lanes.emit([Push("1", "order.placed", b"")])
    assert 1 == runs(redis_url) - before
    assert ["0", "1"] == await waiting(lanes, "a")


async def test_an_entry_comes_behind_what_is_overdue(make_hand: Callable[..., Any], own_redis: RedisServer) -> None:
    """While nobody reads, the order by time holds all the same."""
    hand = make_hand(own_redis.url)
    await hand.declare("a")
    await hand.emit("a", "first", delay=0.001)
    due = float((await hand.link.execute("ZRANGE", hand.lanes.keys.lane("a").due, 0, 0, "WITHSCORES"))[1])
    until(lambda: now(own_redis.url) > due)
    await hand.emit("a", "second")
    assert ["first", "second"] == [entry.head.id for entry in await hand.look("a")]


def now(url: str) -> float:
    seconds, micros = tell(url, "TIME")
    return seconds * 1000 + micros / 1000


async def test_routes_follow_the_registry(
    make_lanes: Callable[..., Lanes], lanes: Lanes, redis_url: str, colour: Colour
) -> None:
    """A lane that somebody else declares meanwhile is reached by the very next entry."""
    await lanes.declare(LANES[:1])
    assert [Pushed("1", 1)] == await lanes.emit([Push("1", "order.placed", b"")])
    await make_lanes(redis_url).declare(LANES[1:])
    assert [Pushed("2", 2)] == await lanes.emit([Push("2", "order.placed", b"")])
    assert (["1", "2"], ["2"]) == (await waiting(lanes, "a"), await waiting(lanes, "b"))
