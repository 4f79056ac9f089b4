"""Workers that die, stop, hang or lose their place, and what becomes of what they held."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from pilotis.bridge import Latch, drive
from pilotis_redis.lanes import Meant, Push, Taken
from pilotis_redis.lanes.pulse import Ticks
from pilotis_testing.clock import until
from pilotis_testing.colours import soon
from pilotis_testing.redis import tell

pytestmark = pytest.mark.slow

LIVENESS = 1.0
PATIENT = 3.0
"""The liveness of workers that must not be taken for dead where the machine holds them up: it would be a crash."""
PATIENCE = 40.0
"""Seconds after which a test has failed, however slow the machine is."""

Start = Callable[..., Any]


def put(hand: Any, lane: str, id: str, body: bytes, **options: Any) -> None:
    drive(hand.lanes.emit([Push(id, lane, body, **options)]))


def letters(hand: Any) -> list[Any]:
    async def read() -> list[Any]:
        return [letter async for letter in hand.lanes.letters(Meant(lanes=["a"]))]

    return drive(read())


def workers(hand: Any) -> list[str]:
    return [worker.decode() for worker in drive(hand.link.execute("ZRANGE", hand.lanes.keys.workers, 0, -1))]


def counters(hand: Any, lane: str) -> dict[str, int]:
    return drive(hand.lanes.states([lane]))[0].counters


def in_flight(hand: Any, lane: str) -> int:
    return drive(hand.lanes.states([lane]))[0].in_flight


def test_what_a_killed_worker_held_is_handed_on(hand: Any, start_worker: Start, redis_url: str) -> None:
    """When its liveness is over, with one crash more, and not before."""
    drive(hand.declare("a"))
    doomed = start_worker(redis_url, "a", liveness=LIVENESS)
    put(hand, "a", "1", b"hold")
    first = doomed.until_taken("1")
    heir = start_worker(redis_url, "a", liveness=LIVENESS)
    until(lambda: len(workers(hand)) == 2, PATIENCE)
    doomed.end()
    limit = drive(hand.link.execute("ZSCORE", hand.lanes.keys.workers, first["worker"]))
    second = heir.until_taken("1")
    seconds, micros = tell(redis_url, "TIME")
    assert float(limit or 0) <= seconds * 1000 + micros / 1000
    assert ("h", 1) == (second["stream"], second["crashes"])
    assert first["worker"] != second["worker"]
    heir.settle()
    until(lambda: heir.settled("1") == [True], PATIENCE)
    until(lambda: workers(hand) == [second["worker"]], PATIENCE)
    assert {"emitted": 1, "delivered": 2, "succeeded": 1} == counters(hand, "a")


def test_an_entry_that_kills_its_worker_is_a_dead_letter(hand: Any, start_worker: Start, redis_url: str) -> None:
    """After three crashes; those that were with it are handled, and do not die of it."""
    drive(hand.declare("a"))
    put(hand, "a", "poison", b"abort")
    for number in range(20):
        put(hand, "a", str(number), b"hold" if number < 5 else b"done")
    running = start_worker(redis_url, "a", liveness=PATIENT, most=100)
    crashes = 0
    deadline = time.monotonic() + PATIENCE
    while not letters(hand):
        assert time.monotonic() < deadline
        if running.has_ended:
            crashes += 1
            running = start_worker(redis_url, "a", liveness=PATIENT, most=100)
        running.settle()
        time.sleep(0.05)
    assert 3 == crashes
    [letter] = letters(hand)
    assert ("poison", "crashed", 3, 0) == (letter.head.id, letter.cause, letter.head.crashes, letter.head.attempts)
    assert letter.head.first <= letter.died

    def settle_all() -> bool:
        running.settle()
        time.sleep(0.05)
        return counters(hand, "a").get("succeeded", 0) == 20

    until(settle_all, PATIENCE)


def test_a_stopped_worker_cannot_settle_what_was_handed_on(hand: Any, start_worker: Start, redis_url: str) -> None:
    """It is refused all of it, that is counted, and it starts afresh under a new id."""
    drive(hand.declare("a"))
    stopped = start_worker(redis_url, "a", liveness=LIVENESS)
    put(hand, "a", "1", b"hold")
    before = stopped.until_taken("1")
    stopped.signal(signal.SIGSTOP)
    heir = start_worker(redis_url, "a", liveness=LIVENESS)
    heir.until_taken("1")
    stopped.settle()
    stopped.signal(signal.SIGCONT)
    until(lambda: stopped.settled("1") == [False], PATIENCE)
    until(lambda: counters(hand, "a").get("fenced") == 1, PATIENCE)
    heir.settle()
    until(lambda: heir.settled("1") == [True], PATIENCE)
    heir.end()
    put(hand, "a", "2", b"done")
    assert before["worker"] != stopped.until_taken("2")["worker"]
    until(lambda: stopped.settled("2") == [True], PATIENCE)


def test_nothing_reaches_a_worker_that_is_dead(make_hand: Start, start_worker: Start, redis_url: str) -> None:
    """A stopped process whose read waited on the server is handed nothing from the moment that it is removed."""
    hand = make_hand(redis_url, liveness=LIVENESS)
    drive(hand.declare("a", "b"))
    stopped = start_worker(redis_url, "a", liveness=LIVENESS)
    until(lambda: b"cmd=xreadgroup" in tell(redis_url, "CLIENT", "LIST"), PATIENCE)
    [id] = workers(hand)
    drive(hand.look("b"))
    stopped.signal(signal.SIGSTOP)
    until(lambda: id not in workers(hand), PATIENCE)
    put(hand, "a", "1", b"done")
    assert 0 == in_flight(hand, "a")
    [entry] = drive(hand.take("a"))
    assert ("1", 0) == (entry.head.id, entry.head.crashes)


async def test_a_worker_whose_bell_ran_out_is_given_another_one(make_hand: Start, redis_url: str) -> None:
    """It keeps its place, and what it has in hand: an outage, or the sleep of a machine, was long, and nobody died."""
    hand = make_hand(redis_url, liveness=LIVENESS)
    await hand.declare("a")
    await hand.emit("a", "1")
    taken = await hand.take("a")
    bell = hand.lanes.keys.bell(hand.worker.id)
    tell(redis_url, "DEL", bell)
    await soon(lambda: tell(redis_url, "EXISTS", bell) == 1, PATIENCE)
    await hand.emit("a", "2")
    [entry] = await hand.take("a")
    assert ("2", taken[0].worker) == (entry.head.id, entry.worker)
    assert [True, True] == await hand.settle([*taken, entry])


@pytest.mark.parametrize("verdict", ["done", None])
async def test_a_worker_that_leaves_something_behind_says_so(
    make_hand: Start, redis_url: str, verdict: str | None
) -> None:
    """So that others look for it at once; one that leaves nothing disturbs nobody."""
    hand = make_hand(redis_url)
    await hand.declare("a")
    await hand.emit("a", "1")
    taken = await hand.take("a")
    if verdict:
        await hand.settle(taken, verdict)
    await hand.worker.stop()
    news = [fields[b"w"] for _, fields in await hand.link.execute("XRANGE", hand.lanes.keys.news, "-", "+")]
    assert (verdict is None) == (b"dead" in news)


def test_what_reaches_a_worker_that_is_dead_is_not_lost(hand: Any, start_worker: Start, redis_url: str) -> None:
    """A stopped process whose read still waits is handed an entry, although somebody removed it from the living."""
    drive(hand.declare("a", "b"))
    stopped = start_worker(redis_url, "a", liveness=LIVENESS)
    until(lambda: b"cmd=xreadgroup" in tell(redis_url, "CLIENT", "LIST"), PATIENCE)
    [id] = workers(hand)
    stopped.signal(signal.SIGSTOP)
    drive(hand.link.execute("ZREM", hand.lanes.keys.workers, id))
    put(hand, "a", "1", b"done")
    until(lambda: in_flight(hand, "a") == 1, PATIENCE)
    heir = start_worker(redis_url, "a", liveness=LIVENESS)
    assert 1 == heir.until_taken("1")["crashes"]
    until(lambda: heir.settled("1") == [True], PATIENCE)


def test_a_worker_whose_loop_hangs_loses_its_place(
    hand: Any, make_hand: Start, start_worker: Start, redis_url: str
) -> None:
    """When it has not gone round for longer than `stall`; and starts afresh when it goes on."""
    heir = make_hand(redis_url, liveness=LIVENESS)
    drive(hand.declare("a", "b"))
    drive(heir.look("b"))
    hanging = start_worker(redis_url, "a", liveness=LIVENESS, stall=LIVENESS)
    put(hand, "a", "1", b"wedge")
    before = hanging.until_taken("1")
    until(lambda: before["worker"] not in workers(hand), PATIENCE)
    [entry] = drive(heir.take("a"))
    assert "1" == entry.head.id
    assert 1 == entry.head.crashes
    assert [True] == drive(heir.settle([entry]))
    drive(heir.worker.stop())
    put(hand, "a", "2", b"done")
    until(lambda: True in hanging.settled("2"), PATIENCE)
    assert before["worker"] not in workers(hand)


async def test_a_worker_that_holds_something_for_long_keeps_its_place(hand: Any, make_hand: Start) -> None:
    """A run may take many times the liveness, and a plain handler may block its thread."""
    busy = make_hand(hand.link._options.url, liveness=0.3, stall=0.3)
    other = make_hand(hand.link._options.url, liveness=0.3)
    await hand.declare("a")
    await hand.emit("a", "1")
    taken = await busy.take("a")
    wake = Latch()
    threading.Timer(2, wake.set).start()
    assert [] == await other.worker.receive({"a": 1}, wake)
    assert [True] == await busy.settle(taken)


async def test_what_an_older_life_took_is_refused(make_hand: Start, redis_url: str, caplog: Any) -> None:
    """Also before the worker has noticed that it is taken for dead; of all its lanes, and it goes on anew."""
    hand = make_hand(redis_url)
    await hand.declare("a", "b")
    await hand.emit("a", "1", "2")
    await hand.emit("b", "3")
    taken = await hand.look("a", "b")
    assert 3 == len(taken)
    await hand.link.execute("DEL", hand.lanes.keys.workers)
    before = hand.worker.id
    assert [False] == await hand.settle(taken[:1])
    assert "was taken for dead" in caplog.text
    again: list[Taken] = []
    while len(again) < 3:
        suspects = await hand.take("a", "b")
        assert all(await hand.settle(suspects))
        again += suspects
    assert before not in {entry.worker for entry in again}
    assert [False, False] == await hand.settle(taken[1:])
    states = await hand.lanes.states(["a", "b"])
    assert 3 == sum(state.counters["fenced"] for state in states)


async def test_what_a_life_settles_that_has_just_ended_is_counted(make_hand: Start, redis_url: str) -> None:
    """It was told by another answer that it is taken for dead, and nobody has let go of it yet."""
    hand = make_hand(redis_url)
    await hand.declare("a")
    await hand.emit("a", "1")
    taken = await hand.take("a")
    hand.worker._life.is_over = True
    assert [False] == await hand.settle(taken)
    assert 1 == (await hand.lanes.states(["a"]))[0].counters["fenced"]


async def test_a_worker_says_what_it_reads(make_hand: Start, redis_url: str) -> None:
    """And says it anew when there is more of it, and when something is not read any more."""
    from pilotis_testing.colours import soon

    hand = make_hand(redis_url, liveness=0.3)
    await hand.declare("a", "b")
    hand.worker.know("a", ["shop.handle"])
    await hand.look("a")
    [state] = await hand.lanes.states(["a"])
    assert (1, False) == (state.readers, state.disagrees)
    await hand.look("b")
    other = make_hand(redis_url)
    other.worker.know("a", ["shop.other"])
    await other.look("a")
    assert [(2, True), (1, False)] == [(it.readers, it.disagrees) for it in await hand.lanes.states(["a", "b"])]

    def only_one_reads() -> bool:
        return [1, 0] == [it.readers for it in drive(hand.lanes.states(["a", "b"]))]

    await soon(only_one_reads, PATIENCE)


def test_a_child_process_has_nothing_of_its_parents_worker(hand: Any) -> None:
    """It begins one of its own when it receives; what the parent took stays the parent's."""
    drive(hand.declare("a"))
    drive(hand.emit("a", "1"))
    taken = drive(hand.look("a"))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            drive(hand.emit("a", "2"))
            mine = drive(hand.take("a"))
            told = f"{hand.worker.id} {mine[0].head.id} {drive(hand.settle(mine))} {drive(hand.settle(taken))}"
            os.write(writing, told.encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        id, rest = pipe.read().split(" ", 1)
    assert "2 [True] [False]" == rest
    assert id != hand.worker.id
    assert [True] == drive(hand.settle(taken))


@pytest.mark.parametrize("verdict", ["done", "retry", "dead", "back"])
async def test_order_is_kept_within_a_key(make_hand: Start, redis_url: str, verdict: Any) -> None:
    """One after the other, through retries, delays, dead letters, crashes and whoever takes them."""
    hands = [make_hand(redis_url, liveness=LIVENESS) for _ in range(3)]
    await hands[0].declare("a")
    await hands[0].emit("a", "1", "2", "3", key="k")
    await hands[0].emit("a", "other", key="another")
    await hands[0].emit("a", "free")
    first = await hands[0].look("a")
    assert ["1", "other", "free"] == [entry.head.id for entry in first]
    assert [] == await hands[1].look("a")
    assert [True] == await hands[0].settle(first[:1], verdict, delay=0.1 if verdict == "retry" else 0.0)
    following = await hands[1].take("a")
    assert ["2" if verdict in ("done", "dead") else "1"] == [entry.head.id for entry in following]
    await hands[2].link.execute("ZREM", hands[2].lanes.keys.workers, hands[1].worker.id)
    crashed = await hands[2].take("a")
    assert [following[0].head.id] == [entry.head.id for entry in crashed]
    await hands[2].settle(crashed)
    rest = await hands[2].take("a")
    assert ["3" if verdict in ("done", "dead") else "2"] == [entry.head.id for entry in rest]


def test_a_loop_that_answers_late_goes_round() -> None:
    """One that owes an answer for long is found out; once it has answered, it is as good as any other."""
    loop, blocking, stall = asyncio.new_event_loop(), threading.Event(), 0.2
    ticks = Ticks(lambda: [loop], stall)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        loop.call_soon_threadsafe(blocking.wait)
        assert ticks.stalled() is None
        until(lambda: ticks.stalled() is loop, PATIENCE)
        blocking.set()
        until(lambda: ticks.stalled() is None, PATIENCE)
        for _ in range(4):
            time.sleep(stall / 2)
            until(lambda: ticks.stalled() is None, PATIENCE)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
