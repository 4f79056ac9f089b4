"""A server whose memory is full: nothing more goes in, and what is there comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pilotis_redis.lanes import LaneSpec
from pilotis_testing import Colour
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer
from redis.exceptions import OutOfMemoryError

Hands = Callable[..., Any]


def fill(server: RedisServer) -> None:
    tell(server.url, "CONFIG", "SET", "maxmemory", "1")


async def test_a_new_worker_empties_a_full_server(make_hand: Hands, own_redis: RedisServer, colour: Colour) -> None:
    """It declares its lanes, begins, takes, puts off, lets die and settles, and is alive meanwhile."""
    emitter, hand = make_hand(own_redis.url), make_hand(own_redis.url, liveness=0.6)
    await emitter.declare("a")
    await emitter.emit("a", *map(str, range(6)))
    await emitter.emit("a", "later", delay=0.001)
    fill(own_redis)
    with pytest.raises(OutOfMemoryError):
        await emitter.emit("a", "more")
    await hand.declare("a")
    await hand.lanes.declare([LaneSpec("a", "a", max_crashes=9)])
    taken = await hand.take("a", most=4)
    id = hand.worker.id
    assert [True] == await hand.settle(taken[:1], "retry")
    assert [True] == await hand.settle(taken[1:2], "dead", cause="failed")
    assert [True, True] == await hand.settle(taken[2:])
    left = 4
    while left:
        taken = await hand.take("a", most=4)
        left -= sum(await hand.settle(taken))
    [state] = await hand.lanes.states(["a"])
    assert (0, 0, 1) == (state.queued, state.in_flight, state.dead)
    assert id == hand.worker.id


async def test_lanes_of_a_full_server_are_paused_and_resumed(make_hand: Hands, own_redis: RedisServer) -> None:
    """A read that waits for one lane is ended when another is wanted too."""
    hand = make_hand(own_redis.url)
    await hand.declare("a", "b")
    await hand.emit("b", "1")
    await hand.look("a")
    fill(own_redis)
    await hand.lanes.pause(["b"], paused=True)
    assert [] == await hand.look("a", "b")
    await hand.lanes.pause(["b"], paused=False)
    assert ["1"] == [entry.head.id for entry in await hand.take("a", "b")]


async def test_the_stale_are_refused_by_a_full_server(make_hand: Hands, own_redis: RedisServer) -> None:
    """And counted, as ever."""
    hand = make_hand(own_redis.url)
    await hand.declare("a")
    await hand.emit("a", "1", "2")
    taken = await hand.take("a")
    tell(own_redis.url, "DEL", hand.lanes.keys.workers)
    fill(own_redis)
    assert [False, False] == [it for entry in taken for it in await hand.settle([entry])]
    [state] = await hand.lanes.states(["a"])
    assert state.counters["fenced"] == 2
