"""What a worker takes out of lanes, in which order, and how it waits."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import pytest
import redis
import redis.asyncio
from pilotis.bridge import Latch, drive, pause, run_blocking
from pilotis_redis import RedisLink
from pilotis_redis.lanes import Push, Taken
from pilotis_testing import Colour
from pilotis_testing.colours import soon, together
from pilotis_testing.redis import tell

Hands = Callable[..., Any]


def ids(taken: list[Taken]) -> list[str]:
    return [entry.head.id for entry in taken]


def numbered(count: int) -> list[str]:
    return [f"{number:05}" for number in range(count)]


def server_time(hand: Any) -> float:
    seconds, micros = tell(hand.link._options.url, "TIME")
    return seconds + micros / 1e6


def waits(hand: Any) -> bool:
    """Tell whether the server has the read of a worker waiting."""
    clients = tell(hand.link._options.url, "CLIENT", "LIST").decode()
    return any("cmd=xreadgroup" in line and " flags=b" in line for line in clients.splitlines())


async def test_a_worker_takes_what_is_ready(hand: Any, colour: Colour) -> None:
    """With its body, in the order in which it came, at most as much as there is capacity for."""
    await hand.declare("a", "b")
    await hand.emit("a", *numbered(7))
    await hand.emit("b", "other")
    taken = await hand.worker.receive({"a": 5, "b": 5, "c": 5}, Latch())
    assert {"a": numbered(5), "b": ["other"]} == {
        lane: [entry.head.id for entry in taken if entry.lane == lane] for lane in ("a", "b")
    }
    assert [entry.body.decode() for entry in taken] == ids(taken)
    assert {hand.worker.id} == {entry.worker for entry in taken}
    assert numbered(7)[5:] == ids(await hand.take("a", "b"))


async def test_a_worker_waits_for_what_comes(hand: Any, colour: Colour) -> None:
    """It is told by push: also of a lane that the read that waits did not know of."""
    await hand.declare("a", "b")

    async def emit(lane: str) -> None:
        await soon(lambda: waits(hand))
        await hand.emit(lane, f"to {lane}")

    for lanes, lane in ((("a",), "a"), (("a",), "a"), (("a", "b"), "b")):
        taken, _ = await together(lambda lanes=lanes: hand.take(*lanes), lambda lane=lane: emit(lane))
        assert [f"to {lane}"] == ids(taken)
        assert [True] == await hand.settle(taken)


async def test_wake_ends_the_wait(hand: Any, colour: Colour) -> None:
    """A receive whose `wake` was set before looks once; one whose `wake` is set later returns at once."""
    await hand.declare("a")
    assert [] == await hand.look("a")
    wake = Latch()

    async def rouse() -> None:
        await soon(lambda: waits(hand))
        wake.set()

    taken, _ = await together(lambda: hand.worker.receive({"a": 1}, wake), rouse)
    assert [] == taken
    assert waits(hand)  # and is left waiting
    await hand.emit("a", "1")
    assert ["1"] == ids(await hand.look("a"))


async def test_a_look_finds_what_a_waiting_read_has_just_been_given(hand: Any, colour: Colour) -> None:
    """Whatever was emitted before is there, also while a read from before waits."""
    await hand.declare("a")
    for number in range(100):
        await hand.emit("a", str(number))
        taken = await hand.look("a")
        assert [str(number)] == ids(taken)
        await hand.settle(taken)
        assert [] == await hand.look("a")
        assert [] == await have_wait(hand, "a")


async def have_wait(hand: Any, lane: str) -> list[Taken]:
    """Have a worker wait for a moment, and leave a read waiting."""
    wake = Latch()

    async def rouse() -> None:
        await pause(0.001)
        wake.set()

    return (await together(lambda: hand.worker.receive({lane: 1}, wake), rouse))[0]


async def test_waking_at_every_moment_loses_nothing(hand: Any, colour: Colour) -> None:
    """A thousand entries, one at a time, while the one who waits is woken again and again and asks for other lanes."""
    lanes, count, dice = ["a", "b", "c"], 1000, random.Random(3)
    await hand.declare(*lanes)
    got: list[str] = []
    wakes = [Latch()]
    done = threading.Event()

    async def emit() -> None:
        for id in numbered(count):
            await hand.emit(dice.choice(lanes), id)

    async def wake() -> None:
        while not done.is_set():
            wakes[0].set()
            await pause(dice.random() / 500)

    async def receive() -> None:
        try:
            while len(got) < count:
                wakes[0] = Latch()
                capacity = {lane: dice.randint(0, 2) for lane in lanes} | {dice.choice(lanes): 1}
                taken = await hand.worker.receive(capacity, wakes[0])
                assert all([entry.lane for entry in taken].count(lane) <= capacity.get(lane, 0) for lane in lanes)
                assert all(await hand.settle(taken))
                got.extend(ids(taken))
        finally:
            done.set()

    await together(receive, emit, wake)
    assert numbered(count) == sorted(got)


async def test_several_receive_at_the_same_time(hand: Any, colour: Colour) -> None:
    """For the same lanes or for others; each entry goes to one of them."""
    await hand.declare("a", "b")
    got: list[str] = []

    async def receive(*lanes: str) -> None:
        while len(got) < 300:
            wake = Latch()
            timer = threading.Timer(0.05, wake.set)
            timer.start()
            taken = await hand.worker.receive(dict.fromkeys(lanes, 3), wake)
            timer.cancel()
            assert {entry.lane for entry in taken} <= set(lanes)
            assert all(await hand.settle(taken))
            got.extend(ids(taken))

    async def emit() -> None:
        for number in range(150):
            await hand.emit("a", f"a{number}")
            await hand.emit("b", f"b{number}")

    await together(lambda: receive("a"), lambda: receive("a", "b"), lambda: receive("b"), emit)
    assert sorted(f"{lane}{number}" for lane in "ab" for number in range(150)) == sorted(got)


async def test_a_cancelled_receive_loses_nothing(hand: Any) -> None:
    """Whatever it was about: the next one is given what it had."""
    await hand.declare("a")
    got: list[str] = []
    dice = random.Random(5)

    async def emit() -> None:
        for id in numbered(300):
            await hand.emit("a", id)
            await pause(0.001)

    emitting = asyncio.ensure_future(emit())
    while len(got) < 300:
        receiving = asyncio.ensure_future(hand.take("a", most=3))
        await asyncio.wait([receiving], timeout=dice.random() / 200)
        if receiving.done():
            got += ids(receiving.result())
        else:
            receiving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                got += ids(await receiving)
    await emitting
    assert numbered(300) == sorted(got)


async def test_what_waits_is_handed_out_by_priority(hand: Any, colour: Colour) -> None:
    """High before normal before low, in order within each."""
    await hand.declare("a")
    for number, priority in enumerate("lnhlnh"):
        await hand.emit("a", f"{priority}{number}", priority=priority)
    assert ["h2", "h5"] == ids(await hand.take("a", most=2))
    assert ["n1", "n4", "l0"] == ids(await hand.take("a", most=3))
    assert ["l3"] == ids(await hand.take("a"))


async def test_what_is_delayed_comes_when_it_is_due(hand: Any, colour: Colour) -> None:
    """Not before, in order of due time; one that is due sooner is told of by another process."""
    await hand.declare("a")
    await hand.emit("a", "much later", delay=60)
    start = server_time(hand)

    async def emit() -> None:
        await soon(lambda: waits(hand))
        await hand.lanes.emit([Push("late", "a", b"", delay=0.3), Push("soon", "a", b"", delay=0.1)])

    taken, _ = await together(lambda: hand.take("a", most=1), emit)
    assert ["soon"] == ids(taken)
    assert ["late"] == ids(await hand.take("a"))
    assert server_time(hand) - start >= 0.3


async def test_a_paused_lane_hands_out_nothing(make_hand: Hands, redis_url: str, colour: Colour) -> None:
    """From the moment that it is paused, also to a read that waited for it; other lanes go on."""
    hand, other = make_hand(redis_url), make_hand(redis_url)
    await hand.declare("a", "b")
    for round in range(20):
        wake = Latch()

        async def disturb(round: int = round, wake: Latch = wake) -> None:
            await soon(lambda: waits(hand))
            await other.lanes.pause(["a"], paused=True)
            await other.emit("a", f"a{round}")
            await other.emit("b", f"b{round}")

        taken, _ = await together(lambda wake=wake: hand.worker.receive({"a": 5, "b": 5}, wake), disturb)
        assert [f"b{round}"] == ids(taken)
        assert [] == await hand.look("a", "b")

        async def resume() -> None:
            await other.lanes.pause(["a"], paused=False)

        resumed, _ = await together(lambda: hand.take("a", "b"), resume)
        assert [f"a{round}"] == ids(resumed)
        await hand.settle([*taken, *resumed])


async def test_a_lane_that_comes_later_is_read_then(
    hand: Any, colour: Colour, caplog: pytest.LogCaptureFixture
) -> None:
    """Until then it holds up no other lane, and is warned of."""
    await hand.declare("a")

    async def come() -> None:
        await soon(lambda: waits(hand))
        await hand.declare("b")
        await hand.emit("b", "1")

    taken, _ = await together(lambda: hand.take("a", "b"), come)
    assert ["1"] == ids(taken)
    assert "there is no lane b" in caplog.text


async def test_a_lane_that_is_forgotten_holds_up_no_other(hand: Any, colour: Colour) -> None:
    """Its keys are gone, under the read that waits."""
    await hand.declare("a", "b")
    assert [] == await hand.look("a", "b")

    async def forget() -> None:
        await soon(lambda: waits(hand))
        await hand.lanes.forget(["b"])
        await hand.emit("a", "1")

    taken, _ = await together(lambda: hand.take("a", "b"), forget)
    assert ["1"] == ids(taken)


async def test_what_is_surplus_is_given_back(make_hand: Hands, redis_url: str, colour: Colour) -> None:
    """An entry that a read brought for a lane without capacity left goes to another worker."""
    hand, other = make_hand(redis_url), make_hand(redis_url)
    await hand.declare("a", "b")
    wake = Latch()

    async def rouse() -> None:
        await soon(lambda: waits(hand))
        wake.set()

    await together(lambda: hand.worker.receive({"a": 1, "b": 1}, wake), rouse)
    await other.emit("a", "surplus")

    async def prove() -> None:
        assert ["surplus"] == ids(await other.take("a"))
        await other.emit("b", "end")

    taken, _ = await together(lambda: hand.take("b"), prove)
    assert ["end"] == ids(taken)


async def leave_waiting(hand: Any) -> None:
    """Have somebody ask lane `a` and go away, so that its read waits for nobody."""
    wake = Latch()

    async def rouse() -> None:
        await soon(lambda: waits(hand))
        wake.set()

    await together(lambda: hand.worker.receive({"a": 1}, wake), rouse)


async def test_stopping_gives_back_what_nobody_was_given(make_hand: Hands, redis_url: str, colour: Colour) -> None:
    """And leaves nothing of the worker behind, but what was handed out."""
    hand, other = make_hand(redis_url), make_hand(redis_url)
    await hand.declare("a")
    await leave_waiting(hand)
    await other.emit("a", "1")
    id = hand.worker.id
    await hand.worker.stop()
    assert hand.worker.id is None
    [back] = await other.look("a")
    assert ("1", "h", 0) == (back.head.id, back.stream, back.head.crashes)
    keys = hand.lanes.keys
    assert 0 == await other.link.execute("EXISTS", keys.bell(id))
    assert [other.worker.id.encode()] == await other.link.execute("ZRANGE", keys.workers, 0, -1)
    assert [other.worker.id.encode()] == await other.link.execute("HKEYS", keys.infos)
    await hand.worker.stop()
    await other.emit("a", "2")
    assert ["2"] == ids(await hand.look("a"))  # it begins anew
    assert hand.worker.id != id


async def test_a_receive_that_waits_ends_when_the_worker_is_stopped(hand: Any, colour: Colour) -> None:
    """With nothing."""
    await hand.declare("a")

    async def stop() -> None:
        await soon(lambda: waits(hand))
        await hand.worker.stop()

    assert [] == (await together(lambda: hand.take("a"), stop))[0]


async def test_loops_and_threads_receive_side_by_side(hand: Any) -> None:
    """From the loop of the runtime, from another one, and from a thread without any."""
    await hand.declare("a")
    await hand.emit("a", *numbered(3))
    one = await hand.take("a", most=1)
    two = await run_blocking(drive, hand.take("a", most=1))
    three = await hand.context.runtime.run(hand.take("a", most=1))
    assert numbered(3) == ids([*one, *two, *three])
    assert [True, True, True] == await hand.settle([*one, *two, *three])


async def test_what_came_for_nobody_is_given_back(make_hand: Hands, redis_url: str, colour: Colour) -> None:
    """When nobody asks for it soon: another worker may have it."""
    hand, other = make_hand(redis_url), make_hand(redis_url)
    await hand.declare("a")
    await leave_waiting(hand)
    await other.emit("a", "1")
    assert ["1"] == ids(await other.take("a"))


@pytest.fixture(params=["resp3", "cluster", "lent", "lent both"])
def elsewhere(request: pytest.FixtureRequest, make_hand: Hands) -> Iterator[Any]:
    """A worker that is connected in another way."""
    if request.param == "cluster":
        yield make_hand(request.getfixturevalue("redis_cluster_url"))
        return
    url = request.getfixturevalue("redis_url")
    if request.param == "resp3":
        yield make_hand(url, protocol=3)
        return
    client = cast("Any", redis.Redis).from_url(url)
    lent: dict[str, Any] = {"client": client}
    if "both" in request.param:
        lent["async_client"] = cast("Any", redis.asyncio.Redis).from_url(url)
    hand = make_hand(url, link=partial(RedisLink, **lent))
    yield hand
    drive(hand.worker.stop())  # before its clients are gone: it would connect once more to say good-bye
    if "async_client" in lent:
        drive(hand.context.runtime.run(lent["async_client"].aclose()))
    client.close()


def test_a_worker_works_however_it_is_connected(elsewhere: Any) -> None:
    """In a cluster, by the newer protocol, and with clients of somebody else's. It is used from its own loop here."""

    async def story() -> None:
        await elsewhere.declare("a", "b")
        await elsewhere.emit("a", *numbered(100))
        got: list[str] = []
        while len(got) < 100:
            taken = await elsewhere.take("a", "b", most=40)
            assert all(await elsewhere.settle(taken))
            got += ids(taken)
        assert numbered(100) == got
        threading.Timer(0.3, later).start()
        taken = await elsewhere.take("a", "b")
        assert ["later"] == ids(taken)
        assert [True] == await elsewhere.settle(taken)

    def later() -> None:
        drive(elsewhere.context.runtime.run(elsewhere.emit("b", "later")))

    drive(elsewhere.context.runtime.run(story()))
