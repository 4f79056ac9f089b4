"""Entries that are kept back until their group is released or cleared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pilotis.bridge import drive, pause
from pilotis_redis import RedisLink
from pilotis_redis.lanes import Lanes, LaneSpec, Push, Pushed
from pilotis_testing import Colour
from pilotis_testing.colours import soon, together
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer

PATIENCE = 30.0
ORDERS = LaneSpec("shop/order.*", "order.*")


def push(id: str, name: str = "order.placed", **options: Any) -> Push:
    return Push(id, name, b"\xff body", **options)


async def waiting(lanes: Lanes) -> int:
    """Return how many entries wait in the lane."""
    [state] = await lanes.states([ORDERS.name])
    return state.queued


async def test_a_group_is_released_as_a_whole(
    make_lanes: Callable[..., Lanes], lanes: Lanes, redis_url: str, colour: Colour
) -> None:
    """In order, by whatever process, once; nothing leaves before."""
    await lanes.declare([ORDERS])
    await lanes.stage({"g": [push("1", priority="h"), push("2", "mail")]})
    await lanes.stage({"g": [push("3", delay=5.0, key="k")]})
    await lanes.stage({"other": [push("4")]})
    assert await waiting(lanes) == 0
    releaser = make_lanes(redis_url)
    assert [Pushed("1", 1), Pushed("2", 0), Pushed("3", 1)] == await releaser.release("g")
    assert ([], []) == (await lanes.release("g"), await lanes.release("unknown"))
    assert tell(redis_url, "EXISTS", lanes.keys.group("g")) == 0
    assert await waiting(lanes) == 1


async def test_several_groups_are_staged_as_a_whole(
    make_lanes: Callable[..., Lanes], own_redis: RedisServer, colour: Colour
) -> None:
    """In one transaction; each is released by itself."""
    lanes = make_lanes(own_redis.url)
    await lanes.declare([ORDERS])
    tell(own_redis.url, "CONFIG", "RESETSTAT")
    await lanes.stage({"g": [push("1"), push("2")], "h": [push("3")], "empty": []})
    assert 1 == tell(own_redis.url, "INFO", "commandstats")["cmdstat_exec"]["calls"]
    assert [Pushed("3", 1)] == await lanes.release("h")
    assert [Pushed("1", 1), Pushed("2", 1)] == await lanes.release("g")


async def test_a_large_group_is_released_as_a_whole(lanes: Lanes, colour: Colour) -> None:
    """Also where it takes several pages to read and several scripts to release."""
    await lanes.declare([ORDERS])
    await lanes.stage({"g": [push(str(number)) for number in range(1_000)]})
    assert [Pushed(str(number), 1) for number in range(1_000)] == await lanes.release("g")
    assert await waiting(lanes) == 1_000


async def test_a_group_is_cleared_wholly_or_in_part(lanes: Lanes, colour: Colour) -> None:
    """By names; what is left is released later."""
    await lanes.declare([ORDERS])
    await lanes.stage({"g": [push("1"), push("2", "order.paid"), push("3", "order.paid"), push("4")]})
    assert [2, 0] == [await lanes.clear("g", ["order.paid", "x"]), await lanes.clear("unknown", None)]
    assert [Pushed("1", 1), Pushed("4", 1)] == await lanes.release("g")
    await lanes.stage({"g": [push("5")]})
    assert (1, []) == (await lanes.clear("g", None), await lanes.release("g"))


async def test_releases_at_once_share_one_group(
    make_lanes: Callable[..., Lanes], lanes: Lanes, redis_url: str, colour: Colour
) -> None:
    """Of many, one gets it; the others find nothing."""
    await lanes.declare([ORDERS])
    await lanes.stage({"g": [push(str(number)) for number in range(10)]})
    releasers = [make_lanes(redis_url) for _ in range(4)]
    released = await together(*(lambda it=it: it.release("g") for it in releasers))
    assert [0, 0, 0, 10] == sorted(map(len, released))
    assert await waiting(lanes) == 10


async def test_what_is_staged_while_a_group_is_released_is_never_lost(
    make_lanes: Callable[..., Lanes], lanes: Lanes, redis_url: str, colour: Colour
) -> None:
    """It leaves with this release or with the next one, once."""
    await lanes.declare([ORDERS])
    releaser = make_lanes(redis_url)
    released: list[Pushed] = []

    async def stage() -> None:
        for number in range(40):
            await lanes.stage({"g": [push(f"{number}-{part}") for part in range(3)]})

    async def release() -> None:
        for _ in range(40):
            released.extend(await releaser.release("g"))

    await together(stage, release)
    released += await releaser.release("g")
    assert [f"{number}-{part}" for number in range(40) for part in range(3)] == [it.id for it in released]
    assert await waiting(lanes) == 120


async def test_a_group_that_changed_while_it_was_read_is_read_again(
    lanes: Lanes, make_lanes: Callable[..., Lanes], redis_url: str, colour: Colour
) -> None:
    """As many entries are not the same entries: what was cleared is not sent, and what came instead is."""
    await lanes.declare([ORDERS])
    releaser: Any = make_lanes(redis_url)
    read = releaser._groups.read
    changes: list[list[Any]] = [
        [lambda: lanes.clear("g", ["order.paid"])],
        [lambda: lanes.clear("g", None), lambda: lanes.stage({"g": [push("3")]})],
    ]

    async def read_and_lose_time(group: str) -> Any:
        staged = await read(group)
        for change in changes.pop(0) if changes else ():
            await change()
        return staged

    releaser._groups.read = read_and_lose_time
    await lanes.stage({"g": [push("1", "order.paid"), push("2")]})
    assert ["3"] == [it.id for it in await releaser.release("g")]
    assert await waiting(lanes) == 1


@pytest.mark.slow
async def test_a_group_lasts_as_long_as_its_process(
    make_lanes: Callable[..., Lanes], redis_url: str, colour: Colour
) -> None:
    """It is renewed while that lives, and ends by itself soon after."""
    lanes = make_lanes(redis_url, kept=2)
    await lanes.declare([ORDERS])
    await lanes.stage({"g": [push("1")]})
    key = lanes.keys.group("g")
    for _ in range(2):
        await soon(lambda: 0 < tell(redis_url, "PTTL", key) < 1_700, PATIENCE)
        await soon(lambda: 1_800 < tell(redis_url, "PTTL", key) <= 2_000, PATIENCE)
    await lanes.close()
    await soon(lambda: not tell(redis_url, "EXISTS", key), PATIENCE)
    assert await lanes.release("g") == []


@pytest.mark.slow
async def test_renewing_goes_on_after_an_outage(
    make_lanes: Callable[..., Lanes], own_redis: RedisServer, colour: Colour
) -> None:
    """Of seconds, in which nobody could say that the process was alive."""
    lanes = make_lanes(own_redis.url, kept=4, timeout=0.3, reconnects=0)
    await lanes.declare([ORDERS])
    await lanes.stage({"g": [push("1")]})
    own_redis.pause()
    await pause(1.7)
    own_redis.resume()
    await soon(lambda: tell(own_redis.url, "PTTL", lanes.keys.group("g")) > 3_500, PATIENCE)
    assert [Pushed("1", 1)] == await lanes.release("g")


def test_nothing_is_renewed_for_groups_that_are_gone(make_lanes: Callable[..., Lanes], redis_url: str) -> None:
    """The job ends with the last group, and another one begins with the next."""
    lanes: Any = make_lanes(redis_url, kept=0.06)
    drive(lanes.declare([ORDERS]))
    for _ in range(2):
        drive(lanes.stage({"g": [push("1")]}))
        job = lanes._groups._job
        assert job is not None
        drive(lanes.release("g"))
        assert drive(job.ended.wait(5))
        assert (None, set()) == (lanes._groups._job, lanes._groups._renewed)


class Renewing(RedisLink):
    """Counts renewals of groups, and has something be done before the first one that found nothing is answered."""

    renewals = 0
    meanwhile: Any = None

    async def pipeline(self, commands: Any) -> list[Any]:
        commands = list(commands)
        replies = await super().pipeline(commands)
        if commands and commands[0][0] == "PEXPIRE":
            type(self).renewals += 1
            if replies == [0] and self.meanwhile is not None:
                meanwhile, type(self).meanwhile = self.meanwhile, None
                await meanwhile()
        return replies


async def test_a_group_that_begins_anew_while_it_is_renewed_is_kept(
    make_lanes: Callable[..., Lanes], redis_url: str
) -> None:
    """It was released, and something is staged in it before that is known."""
    lanes = make_lanes(redis_url, kept=0.6, link=Renewing)

    async def begin_anew() -> None:
        await lanes.stage({"g": [push("2")]})
        Renewing.renewals = 0

    Renewing.meanwhile = staticmethod(begin_anew)
    await lanes.stage({"g": [push("1")]})
    await lanes.release("g")
    await soon(lambda: Renewing.meanwhile is None and Renewing.renewals >= 2)
