"""Lanes: what reaches which of them, and when it does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from pilotis.bridge import pause
from pilotis_redis.lanes import Head, Lanes, LaneSpec, LaneState, Push, Pushed
from pilotis_redis.lanes.entry import HEADS
from pilotis_testing import Colour
from pilotis_testing.colours import together
from pilotis_testing.redis import tell
from redis.exceptions import ResponseError

ORDERS = LaneSpec("shop/order.* stock", "order.*")
ALL = LaneSpec("audit/*", "*", max_crashes=5, about={"handlers": ["log"]})
RAW = b"\x00\xff\xc1 body"


def push(id: str, name: str = "order.placed", body: bytes = RAW, **options: Any) -> Push:
    return Push(id, name, body, **options)


async def ready(lanes: Lanes, lane: str = ORDERS.name, stream: int = 2) -> list[tuple[Head, bytes]]:
    """Return what waits in a stream of a lane."""
    entries = await lanes.link.execute("XRANGE", lanes.keys.lane(lane).all[stream], "-", "+")
    return [(HEADS.decode(fields[b"h"]), fields[b"b"]) for _, fields in entries]


async def ids(lanes: Lanes, lane: str = ORDERS.name, stream: int = 2) -> list[str]:
    return [head.id for head, _ in await ready(lanes, lane, stream)]


async def state(lanes: Lanes, lane: str = ORDERS.name) -> LaneState:
    [found] = await lanes.states([lane])
    return found


async def test_entries_reach_the_lanes_whose_pattern_their_name_matches(lanes: Lanes, colour: Colour) -> None:
    """Of whatever service, with their bodies as they are; what nobody takes is kept nowhere, and not remembered."""
    await lanes.declare([ORDERS, ALL])
    pushed = await lanes.emit([push("1", remember=60), push("2", "mail", remember=60)])
    assert [Pushed("1", 2), Pushed("2", 1)] == pushed
    assert [(Head("1", "order.placed"), RAW)] == await ready(lanes)
    assert ["1", "2"] == await ids(lanes, ALL.name)
    await lanes.forget([ALL.name])
    assert [Pushed("3", 0), Pushed("3", 0)] == await lanes.emit([push("3", "mail", remember=60)] * 2)
    await lanes.declare([ALL])
    assert [Pushed("3", 1)] == await lanes.emit([push("3", "mail", remember=60)])
    assert [] == await lanes.emit([])


async def test_lanes_are_declared_once_for_all(
    make_lanes: Callable[..., Lanes], lanes: Lanes, redis_url: str, colour: Colour
) -> None:
    """A process that knows no lane emits into those of others, also where they were declared since it last looked."""
    emitter = make_lanes(redis_url)
    assert [Pushed("1", 0)] == await emitter.emit([push("1")])
    assert [None, None] == await lanes.declare([ORDERS, ALL])
    assert [ORDERS] == await lanes.declare([LaneSpec(ORDERS.name, "order.placed")])
    assert [ALL] == await emitter.declare([ALL])
    assert [Pushed("2", 2), Pushed("3", 1)] == await emitter.emit([push("2"), push("3", "order.paid")])
    await lanes.forget([ORDERS.name, "unknown"])
    assert [Pushed("4", 1)] == await emitter.emit([push("4")])
    assert [ALL.name] == list((await emitter.fresh_registry()).lanes)


async def test_declaring_again_tells_nobody(lanes: Lanes, colour: Colour) -> None:
    """The version of the registry, and the news, are those of before: nobody has to read it again."""
    await lanes.declare([ORDERS])
    version = (await lanes.registry()).version
    await lanes.declare([ORDERS])
    assert version == (await lanes.fresh_registry()).version
    assert await lanes.link.execute("XLEN", lanes.keys.news) == 1


async def test_repetitions_are_dropped(lanes: Lanes, colour: Colour) -> None:
    """By id, also of one call; by `name` and `dedupe`; for as long as each says, and no longer."""
    await lanes.declare([ORDERS])
    [first, *again] = await lanes.emit([push("1", remember=60)] * 3)
    assert (Pushed("1", 1), [Pushed("1", 0, repeated=True)] * 2) == (first, again)
    valued: dict[str, Any] = {"dedupe": "import 7", "dedupe_ttl": 60.0}
    pushed = await lanes.emit([push("2", **valued), push("3", **valued), push("4", "order.paid", **valued)])
    assert [Pushed("2", 1), Pushed("2", 0, repeated=True), Pushed("4", 1)] == pushed
    keys = lanes.keys
    lasting = [await lanes.link.execute("PTTL", key) for key in (keys.id("1"), keys.dedupe("order.paid", "import 7"))]
    assert all(50_000 < left <= 60_000 for left in lasting)
    assert -2 == await lanes.link.execute("PTTL", keys.id("2"))
    assert (await state(lanes)).counters["emitted"] == 3


async def test_emitters_at_once_share_one_entry(
    make_lanes: Callable[..., Lanes], lanes: Lanes, redis_url: str, colour: Colour
) -> None:
    """Of many that emit one id at the same time, one puts it into its lane."""
    await lanes.declare([ORDERS])
    emitters = [make_lanes(redis_url) for _ in range(4)]
    answers = await together(*(lambda it=it: it.emit([push("same", remember=60)]) for it in emitters * 2))
    assert 1 == sum(pushed.lanes for [pushed] in answers)
    assert ["same"] == await ids(lanes)


async def test_priorities_have_streams_of_their_own(lanes: Lanes, colour: Colour) -> None:
    """High, normal and low."""
    await lanes.declare([ORDERS])
    await lanes.emit([push("1", priority="l"), push("2", priority="h"), push("3")])
    assert [["2"], ["3"], ["1"]] == [await ids(lanes, stream=stream) for stream in (1, 2, 3)]


async def test_delays_count_from_the_emit_by_the_clock_of_the_server(lanes: Lanes, colour: Colour) -> None:
    """To the millisecond, and never early."""
    await lanes.declare([ORDERS])
    before = time.time() * 1000
    await lanes.emit([push("1", delay=7.0015)])
    after = time.time() * 1000
    due_key = lanes.keys.lane(ORDERS.name).due
    [member] = await lanes.link.execute("ZRANGE", due_key, 0, -1)
    due = await lanes.link.execute("ZSCORE", due_key, member)
    assert before - 1 + 7002 <= due <= after + 7002
    found = await state(lanes)
    assert (0, 1, None) == (found.queued, found.delayed, found.oldest)
    assert 6 < (found.next_due or 0) <= 7.002


async def test_what_is_due_sooner_than_all_else_is_news(lanes: Lanes, colour: Colour) -> None:
    """Readers who sleep until the next is due hear of it; of what is due later they need not."""
    await lanes.declare([ORDERS])
    for id, delay in (("1", 50.0), ("2", 60.0), ("3", 40.0)):
        await lanes.emit([push(id, delay=delay)])
    news = [fields[b"w"] for _, fields in await lanes.link.execute("XRANGE", lanes.keys.news, "-", "+")]
    assert [b"registry", ORDERS.name.encode(), ORDERS.name.encode()] == news


async def test_entries_of_one_key_wait_for_the_first(lanes: Lanes, colour: Colour) -> None:
    """In each lane; other keys do not."""
    await lanes.declare([ORDERS, ALL])
    await lanes.emit([push("1", key="a"), push("2", key="a"), push("3", key="b"), push("4", "mail", key="a")])
    assert ["1", "3"] == await ids(lanes)
    assert ["1", "3"] == await ids(lanes, ALL.name)
    assert [1, 2] == [(await state(lanes, lane)).held for lane in (ORDERS.name, ALL.name)]


async def test_many_entries_are_cut_into_short_scripts(lanes: Lanes, redis_url: str, colour: Colour) -> None:
    """In one transaction, that brings its script along; answers stand in the order of the entries."""
    await lanes.declare([ORDERS, ALL])
    await lanes.emit([push("0")])
    tell(redis_url, "SCRIPT", "FLUSH")
    tell(redis_url, "CONFIG", "RESETSTAT")
    pushed = await lanes.emit([push(str(number % 1000), remember=60) for number in range(1200)])
    assert [Pushed(str(number), 2) for number in range(1000)] == pushed[:1000]
    assert [Pushed(str(number), 0, repeated=True) for number in range(200)] == pushed[1000:]
    stats = tell(redis_url, "INFO", "commandstats")
    assert (1, 1) == (stats["cmdstat_multi"]["calls"], stats["cmdstat_eval"]["calls"])
    assert 5 <= stats["cmdstat_evalsha"]["calls"] <= 20
    assert [str(number) for number in range(1000)] == (await ids(lanes))[1:]


async def test_large_entries_are_cut_by_their_size(lanes: Lanes, redis_url: str, colour: Colour) -> None:
    """Each has a script of its own where it is large."""
    await lanes.declare([ORDERS])
    await lanes.emit([push("0")])
    tell(redis_url, "CONFIG", "RESETSTAT")
    await lanes.emit([push(str(number), body=b"x" * 700_000) for number in range(1, 4)])
    stats = tell(redis_url, "INFO", "commandstats")
    assert (1, 2) == (stats["cmdstat_eval"]["calls"], stats["cmdstat_evalsha"]["calls"])
    assert [len(RAW), 700_000, 700_000, 700_000] == [len(body) for _, body in await ready(lanes)]


async def test_a_batch_chosen_by_a_registry_of_the_past_leaves_nothing(
    make_lanes: Callable[..., Lanes], lanes: Lanes, redis_url: str, colour: Colour
) -> None:
    """Every script of it is refused, and the whole is sent once more to what lanes there are now."""
    emitter = make_lanes(redis_url)
    await emitter.declare([ORDERS])
    await emitter.registry()
    await lanes.declare([ALL])
    pushed = await emitter.emit([push(str(number), remember=60) for number in range(1200)])
    assert [Pushed(str(number), 2) for number in range(1200)] == pushed
    assert 1200 == len(await ids(lanes)) == len(await ids(lanes, ALL.name))


async def test_what_failed_half_way_is_not_taken_for_done(lanes: Lanes, redis_url: str, colour: Colour) -> None:
    """Where somebody spoilt a key of a lane, the same emit succeeds once it is mended."""
    await lanes.declare([ORDERS, ALL])
    spoilt = lanes.keys.lane(ORDERS.name).normal
    tell(redis_url, "DEL", spoilt)
    tell(redis_url, "SET", spoilt, "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await lanes.emit([push("1", remember=60)])
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await lanes.declare([ORDERS])
    tell(redis_url, "DEL", spoilt)
    await lanes.declare([ORDERS])
    assert [Pushed("1", 2)] == await lanes.emit([push("1", remember=60)])
    assert ["1"] == await ids(lanes)


async def test_an_emptied_database_gets_its_lanes_back(
    make_lanes: Callable[..., Lanes],
    lanes: Lanes,
    redis_url: str,
    colour: Colour,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """From whoever declared them, with a warning; also where another process was the first to come back."""
    await lanes.declare([ORDERS])
    await lanes.emit([push("1")])
    for other in (False, True):
        caplog.clear()
        tell(redis_url, "FLUSHALL")
        if other:
            await make_lanes(redis_url).declare([ALL])
        assert [Pushed("2", 1 + other)] == await lanes.emit([push("2")])
        assert ["2"] == await ids(lanes)
        assert ["declaring 1 lanes again" in record.message for record in caplog.records] == [True]


async def test_a_lane_that_was_forgotten_stays_forgotten(
    make_lanes: Callable[..., Lanes], lanes: Lanes, redis_url: str, colour: Colour, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever declared it before does not make it anew by emitting."""
    await lanes.declare([ORDERS, ALL])
    await lanes.emit([push("1")])
    await make_lanes(redis_url).forget([ORDERS.name])
    assert [Pushed("2", 1)] == await lanes.emit([push("2")])
    assert [] == caplog.records


async def test_looking_on(lanes: Lanes, colour: Colour) -> None:
    """Whoever looks sees what is emitted from then on, in order, whether anybody takes it or not."""
    await lanes.declare([ORDERS])
    await lanes.emit([push("0")])
    seen: list[Push] = []

    async def look() -> None:
        source = lanes.tail()
        async for it in source:
            seen.append(it)
            if it.id == "last":
                break
        await source.aclose()

    async def emit() -> None:
        while not await lanes.link.execute("EXISTS", lanes.keys.tail):
            await pause(0.001)
        await lanes.emit([push("1", delay=5.0, key="k"), push("2", "mail", priority="h")])
        while len(seen) < 2:
            await pause(0.001)
        await lanes.emit([push("last")])

    await together(look, emit)
    assert [push("1", delay=5.0, key="k"), push("2", "mail", priority="h"), push("last")] == seen
