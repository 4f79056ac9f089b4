"""Dead letters: listed, put back and removed over many lanes; and how lanes are doing."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from pilotis_redis import Script
from pilotis_redis.lanes import Head, Lanes, LaneSpec, Letter, Meant, Push
from pilotis_redis.lanes import letters as letters_module
from pilotis_testing import Colour
from pilotis_testing.colours import together
from pilotis_testing.redis import tell

LANES = ("shop/a", "shop/b", "shop/c")
_ENTRIES = Script.load("pilotis_redis", "entries").source
_BURIAL = _ENTRIES + "bury(1, ARGV[1], ARGV[2], 'failed', 'no tea', 'in f', 'w1', tonumber(ARGV[3]))"


@pytest.fixture
def graves(lanes: Lanes, redis_url: str) -> Callable[..., None]:
    """What makes a dead letter of an entry."""

    def bury(lane: str, id: str, died: int, name: str = "order.placed", body: bytes = b"\xff", **head: Any) -> None:
        packed = msgspec.msgpack.encode(Head(id, name, attempts=2, crashes=1, first=died - 5, **head))
        keys = lanes.keys.lane(lane).all
        tell(redis_url, "EVAL", _BURIAL, len(keys), *keys, packed, body, died)

    return bury


async def ids(letters: AsyncIterator[Letter]) -> list[str]:
    return [letter.head.id async for letter in letters]


async def state(lanes: Lanes, lane: str) -> Any:
    [found] = await lanes.states([lane])
    return found


async def test_letters_are_listed_as_they_died(lanes: Lanes, graves: Callable[..., None], colour: Colour) -> None:
    """With their bodies as they are."""
    graves("shop/a", "1", 1_000, body=b"\x00\xff\xc1")
    head = Head("1", "order.placed", attempts=2, crashes=1, first=995)
    letter = Letter("shop/a", head, b"\x00\xff\xc1", "failed", "no tea", "in f", "w1", 1_000)
    assert [letter] == [it async for it in lanes.letters(Meant(lanes=LANES))]


async def test_letters_of_many_lanes_come_the_oldest_first(
    lanes: Lanes, graves: Callable[..., None], colour: Colour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pages, also where more than a page of them died at one moment, and some are large."""
    monkeypatch.setattr(letters_module, "_PAGE", 7)
    monkeypatch.setattr(letters_module, "_ENOUGH", 1_000)
    died = [1_000, *[1_001] * 20, 1_002, 1_002, 1_003]
    for number, at in enumerate(died):
        for lane in LANES:
            graves(lane, f"{lane}{number:02}", at, body=b"x" * (400 if number % 3 else 40))
    found = [(it.died, it.head.id) async for it in lanes.letters(Meant(lanes=LANES))]
    assert sorted((at, f"{lane}{number:02}") for number, at in enumerate(died) for lane in LANES) == sorted(found)
    assert sorted(at for at, _ in found) == [at for at, _ in found]
    graves("shop/c", "before", 900)
    graves("shop/b", "first", 800)
    assert ["first", "before", "shop/a00"] == (await ids(lanes.letters(Meant(lanes=LANES))))[:3]
    await lanes.bury(Meant(lanes=LANES, before=900))
    one = [(it.died, it.head.id) async for it in lanes.letters(Meant(lanes=["shop/b"]))]
    assert [(at, f"shop/b{number:02}") for number, at in enumerate(died)] == one


async def test_letters_that_go_while_they_are_listed_hide_no_others(
    lanes: Lanes, graves: Callable[..., None], colour: Colour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of those that died at the same moment."""
    monkeypatch.setattr(letters_module, "_PAGE", 5)
    for number in range(20):
        graves("shop/a", f"{number:02}", 1_000)
    gone = ["00", "01", "02", "03", "07"]
    found: list[str] = []
    async for letter in lanes.letters(Meant(lanes=LANES)):
        if not found:
            await lanes.bury(Meant(lanes=LANES, ids=gone))
        found.append(letter.head.id)
    assert [f"{number:02}" for number in range(20)] == sorted({*found, *gone})
    assert len(found) == len(set(found))


NARROWED: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["1", "2", "3", "4"]),
    ({"name": "order.paid"}, ["2", "4"]),
    ({"since": 1_002}, ["2", "3", "4"]),
    ({"before": 1_002}, ["1", "2"]),
    ({"since": 1_002, "before": 1_003, "name": "order.placed"}, ["3"]),
    ({"ids": ["4", "1", "unknown"]}, ["1", "4"]),
    ({"ids": ["4", "1"], "since": 1_002}, ["4"]),
    ({"ids": []}, []),
    ({"lanes": ["shop/b"]}, ["2"]),
    ({"lanes": []}, []),
]


@pytest.mark.parametrize(("where", "expected"), NARROWED)
async def test_letters_are_narrowed_down(
    lanes: Lanes, graves: Callable[..., None], colour: Colour, where: dict[str, Any], expected: list[str]
) -> None:
    """What is listed is what is put back, and what is removed."""
    await lanes.declare([LaneSpec(lane, "*") for lane in LANES])
    for verb in (None, lanes.replay, lanes.bury):
        graves("shop/a", "1", 1_000)
        graves("shop/b", "2", 1_002, "order.paid")
        graves("shop/a", "3", 1_003)
        graves("shop/c", "4", 1_004, "order.paid")
        meant = replace(Meant(lanes=LANES), **where)
        if verb is None:
            assert expected == await ids(lanes.letters(meant))
        else:
            assert [len(expected), 0] == [await verb(meant), await verb(meant)]
            left = {"1", "2", "3", "4"} - set(expected)
            assert left == set(await ids(lanes.letters(Meant(lanes=LANES))))


async def test_letters_are_replayed_once_and_begin_anew(
    lanes: Lanes, graves: Callable[..., None], colour: Colour, redis_url: str
) -> None:
    """However many ask; with all their attempts, no crash and no first failure."""
    await lanes.declare([LaneSpec("shop/a", "*")])
    for number in range(30):
        graves("shop/a", str(number), 1_000 + number, priority="h")
    meant = Meant(lanes=LANES, ids=[str(number) for number in range(30)])
    assert 30 == sum(await together(*[lambda: lanes.replay(meant)] * 4))
    entries = tell(redis_url, "XRANGE", lanes.keys.lane("shop/a").high, "-", "+")
    heads = [msgspec.msgpack.decode(fields[b"h"], type=Head) for _, fields in entries]
    assert {str(number) for number in range(30)} == {head.id for head in heads}
    assert {(0, 0, 0)} == {(head.attempts, head.crashes, head.first) for head in heads}
    assert (await state(lanes, "shop/a")).dead == 0


async def test_a_replayed_letter_stands_behind_its_key(
    lanes: Lanes, graves: Callable[..., None], colour: Colour
) -> None:
    """What came after it has gone on; what is there now comes first."""
    await lanes.declare([LaneSpec("shop/a", "*")])
    await lanes.emit([Push("now", "order.placed", b"", key="k")])
    [chain] = await lanes.link.execute("ZRANGE", lanes.keys.lane("shop/a").chains, 0, -1)
    graves("shop/a", "dead", 1_000, member=chain.decode()[:41] + "0" * 16)
    assert await lanes.replay(Meant(lanes=["shop/a"])) == 1
    found = await state(lanes, "shop/a")
    assert (1, 1) == (found.queued, found.held)


# How lanes are doing


async def test_lanes_tell_how_they_are_doing(lanes: Lanes, colour: Colour) -> None:
    """What waits, behind a key or for its time, and for how long."""
    await lanes.declare([LaneSpec("shop/a", "*")])
    await lanes.emit([Push("1", "x", b"", key="k"), Push("2", "x", b"", key="k"), Push("3", "x", b"", delay=90)])
    found = await state(lanes, "shop/a")
    assert (1, 1, 1, 0, 0) == (found.queued, found.held, found.delayed, found.in_flight, found.dead)
    assert (3, 0, False, False) == (found.counters["emitted"], found.readers, found.disagrees, found.paused)
    assert 80 < found.next_due <= 90
    assert 0 <= found.oldest < 10


async def test_what_nobody_moved_counts_as_waiting_once_it_is_due(lanes: Lanes, redis_url: str, colour: Colour) -> None:
    """A lane without a reader tells its lag."""
    await lanes.declare([LaneSpec("shop/a", "*")])
    await lanes.emit([Push("1", "x", b"", delay=90), Push("2", "x", b"", delay=95)])
    [first, _] = tell(redis_url, "ZRANGE", lanes.keys.lane("shop/a").due, 0, -1)
    tell(redis_url, "ZADD", lanes.keys.lane("shop/a").due, int(time.time() * 1000) - 20_000, first)
    found = await state(lanes, "shop/a")
    assert (1, 1) == (found.queued, found.delayed)
    assert 19 < found.oldest < 30
    assert 80 < found.next_due <= 95


async def test_live_workers_are_the_readers(lanes: Lanes, redis_url: str, colour: Colour) -> None:
    """Those whose time is not over; they may disagree on the handlers of a lane."""
    await lanes.declare([LaneSpec(lane, "*") for lane in LANES])
    reads: dict[str, dict[str, list[str]]] = {
        "w1": {"shop/a": ["f"], "shop/b": ["f"]},
        "w2": {"shop/a": ["f"], "shop/b": ["g"]},
        "late": {"shop/a": ["g"], "shop/c": ["g"]},
    }
    for worker, reading in reads.items():
        info = {"service": "shop", "host": "h", "pid": 1, "started": 1.5, "lanes": reading}
        until = time.time() * 1000 + (-1 if worker == "late" else 60_000)
        tell(redis_url, "ZADD", lanes.keys.workers, int(until), worker)
        tell(redis_url, "HSET", lanes.keys.infos, worker, json.dumps(info))
    found = await lanes.states(LANES)
    assert [(2, False), (2, True), (0, False)] == [(it.readers, it.disagrees) for it in found]


async def test_lanes_are_paused_and_resumed(lanes: Lanes, colour: Colour) -> None:
    """Readers are told; lanes that do not exist do not matter."""
    await lanes.declare([LaneSpec("shop/a", "*")])
    for paused in (True, False):
        await lanes.pause(["shop/a", "unknown"], paused=paused)
        assert paused == (await state(lanes, "shop/a")).paused
        assert paused == await lanes.link.execute("SCARD", lanes.keys.paused)
    await lanes.pause(["unknown"], paused=True)
    news = [fields[b"w"] for _, fields in await lanes.link.execute("XRANGE", lanes.keys.news, "-", "+")]
    assert [b"registry", b"shop/a", b"shop/a"] == news


async def test_purging_takes_all_that_waits(lanes: Lanes, colour: Colour) -> None:
    """Of each kind more than one script drops at once; keys are free again afterwards."""
    await lanes.declare([LaneSpec("shop/a", "*"), LaneSpec("shop/b", "*")])
    pushes = [
        *(Push(f"{number}", "x", b"", priority="l") for number in range(450)),
        *(Push(f"d{number}", "x", b"", delay=90) for number in range(450)),
        *(Push(f"k{number}", "x", b"", key="k") for number in range(450)),
        *(Push(f"s{number}", "x", b"", key=f"k{number}", delay=90) for number in range(100)),
    ]
    await lanes.emit(pushes)
    assert [len(pushes), 0] == [await lanes.purge(["shop/a", "unknown"]) for _ in range(2)]
    found = await state(lanes, "shop/a")
    assert (0, 0, 0) == (found.queued, found.held, found.delayed)
    assert (await state(lanes, "shop/b")).queued == 451
    keys = lanes.keys.lane("shop/a")
    assert 0 == await lanes.link.execute("EXISTS", keys.chains, keys.held, keys.due, keys.entries)
    await lanes.emit([Push("new", "x", b"", key="k")])
    assert (await state(lanes, "shop/a")).queued == 1
