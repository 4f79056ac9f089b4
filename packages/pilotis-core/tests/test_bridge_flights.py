"""Rule 8 of the bridge: one computation per key, for threads and tasks together."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from pilotis.bridge import Flights, Latch, drive, pause, run_blocking
from pilotis.errors import ReentrantCallError
from pilotis_testing import Colour
from pilotis_testing.colours import together
from pilotis_testing.interrupts import interrupted


def in_threads(*actions: Callable[[], Any]) -> list[Any]:
    results: list[Any] = [None] * len(actions)

    def act(index: int) -> None:
        try:
            results[index] = actions[index]()
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=act, args=(index,)) for index in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "a caller hangs"
    return results


def test_threads_and_tasks_share_one_computation() -> None:
    """54 callers, on threads and in three loops: one call, one result."""
    flights, ready = Flights(), threading.Barrier(27)
    calls: list[int] = []

    async def compute() -> str:
        calls.append(1)
        await pause(0.2)
        return "value"

    async def many() -> list[str]:
        await run_blocking(ready.wait, 10)
        return await asyncio.gather(*(flights.run("k", compute) for _ in range(10)))

    def one() -> str:
        ready.wait(10)
        return drive(flights.run("k", compute))

    results = in_threads(*[one] * 24, *[lambda: asyncio.run(many())] * 3)

    assert ["value"] * 24 + [["value"] * 10] * 3 == results
    assert 1 == len(calls)


def test_one_after_the_other_computes_anew() -> None:
    """A flight ends with its result; it is no cache."""
    flights = Flights()
    calls: list[int] = []

    async def compute() -> int:
        calls.append(1)
        return len(calls)

    assert [1, 2] == [drive(flights.run("k", compute)), asyncio.run(flights.run("k", compute))]


def test_a_failed_leader_fails_its_followers() -> None:
    """Nobody tries again what failed a moment ago."""
    flights, begun = Flights(), threading.Event()
    calls: list[int] = []

    async def fail() -> None:
        calls.append(1)
        begun.set()
        await pause(0.1)
        raise ValueError("no")

    def follow() -> None:
        begun.wait(5)
        drive(flights.run("k", fail))

    results = in_threads(lambda: drive(flights.run("k", fail)), *[follow] * 3)

    assert ["no"] * 4 == [str(error) for error in results]
    assert 1 == len(calls)


def test_a_cancelled_leader_hands_over() -> None:
    """A follower takes over at once, and the leader's cancellation is its own."""
    flights = Flights()

    async def hang() -> str:
        await pause(30)
        return "hung"

    async def quick() -> str:
        return "taken over"

    async def scene() -> str:
        leader = asyncio.ensure_future(flights.run("k", hang))
        await asyncio.sleep(0)
        follower = asyncio.ensure_future(flights.run("k", quick))
        await asyncio.sleep(0)
        leader.cancel()
        result = await follower
        assert leader.cancelled()
        return result

    assert "taken over" == asyncio.run(scene())


def test_an_interrupted_leader_hands_over() -> None:
    """Ctrl-C in the thread that computes: a task elsewhere takes over, and the interrupt is raised promptly."""
    flights, begun = Flights(), threading.Event()
    results: list[str] = []

    async def hang() -> str:
        begun.set()
        await pause(30)
        return "hung"

    async def quick() -> str:
        return "taken over"

    def follow() -> None:
        begun.wait(5)
        results.append(asyncio.run(flights.run("k", quick)))

    follower = threading.Thread(target=follow)
    follower.start()
    start = time.monotonic()
    with interrupted(0.1):
        drive(flights.run("k", hang))
    follower.join(5)

    assert ["taken over"] == results
    assert time.monotonic() - start < 5


def test_a_computation_that_asks_for_its_own_key_is_told() -> None:
    """It would wait for itself; also across a helper thread and a nested computation."""
    flights = Flights()

    async def inner() -> str:
        return await flights.run("k", inner)

    async def middle() -> str:
        return await flights.run("other", lambda: run_blocking(lambda: drive(flights.run("k", inner))))

    for run in (drive, asyncio.run):
        with pytest.raises(ReentrantCallError, match="'k' asks for 'k'"):
            run(flights.run("k", inner))
        with pytest.raises(ReentrantCallError, match="'k' asks for 'k'"):
            run(flights.run("k", middle))


@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_circle_of_waiters_is_found_out(size: int) -> None:
    """Leaders that wait for each other's keys: one computes for itself, and all get results at once."""
    flights, barrier = Flights(), threading.Barrier(size)

    async def plain(key: int) -> str:
        return f"plain {key}"

    async def nested(key: int) -> str:
        await run_blocking(barrier.wait, 10)
        following = (key + 1) % size
        return f"{key} > {await flights.run(following, lambda: plain(following))}"

    start = time.monotonic()
    results = in_threads(
        *[lambda key=key: drive(flights.run(key, lambda: nested(key))) for key in range(size - 1)],
        lambda: asyncio.run(flights.run(size - 1, lambda: nested(size - 1))),
    )

    assert all(isinstance(result, str) for result in results)
    assert any("plain" in result for result in results)
    assert time.monotonic() - start < 5


def test_every_wait_is_bounded_by_the_lease() -> None:
    """A leader that hangs holds up nobody for longer than its lease; the late leader keeps its own result."""
    flights, gate, begun = Flights(), threading.Event(), threading.Event()

    async def hang() -> str:
        begun.set()
        await run_blocking(gate.wait, 10)
        return "late"

    async def quick() -> str:
        return "quick"

    def follow() -> str:
        begun.wait(5)
        result = drive(flights.run("k", quick, lease=0.05))
        gate.set()
        return result

    assert ["late", "quick"] == in_threads(lambda: drive(flights.run("k", hang)), follow)


def test_a_child_process_waits_for_no_flight_of_its_parent() -> None:
    """A fork while a flight is held: the child computes for itself, at once."""
    flights, gate, begun = Flights(), threading.Event(), threading.Event()

    async def hang() -> str:
        begun.set()
        await run_blocking(gate.wait, 10)
        return "parent"

    async def quick() -> str:
        return "child"

    parent = threading.Thread(target=lambda: drive(flights.run("k", hang)))
    parent.start()
    assert begun.wait(5)
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        os._exit(0 if drive(flights.run("k", quick, lease=60)) == "child" else 1)
    status = os.waitpid(child, 0)[1]
    gate.set()
    parent.join(5)
    assert 0 == os.waitstatus_to_exitcode(status)


async def test_of_several_keys_each_is_computed_once(colour: Colour) -> None:
    """One call for those that nobody computes; the others are waited for afterwards."""
    flights = Flights()
    asked: list[list[str]] = []
    begun, gate = Latch(), Latch()

    async def compute(keys: list[str]) -> dict[str, str]:
        asked.append(keys)
        if "a" in keys:
            begun.set()
            await gate.wait(10)
        else:
            gate.set()
        return {key: key * 2 for key in keys}

    async def second() -> dict[str, str]:
        await begun.wait(10)
        return await flights.run_many(["b", "c"], compute)

    results = await together(lambda: flights.run_many(["a", "b"], compute), second)
    assert [{"a": "aa", "b": "bb"}, {"b": "bb", "c": "cc"}] == results
    assert [["a", "b"], ["c"]] == asked


async def test_of_several_keys_all_fail_together(colour: Colour) -> None:
    """With the same error, and the next caller computes anew."""
    flights = Flights()

    async def fail(keys: list[str]) -> dict[str, str]:
        raise ZeroDivisionError

    async def succeed(keys: list[str]) -> dict[str, str]:
        return dict.fromkeys(keys, "fine")

    with pytest.raises(ZeroDivisionError):
        await flights.run_many(["a", "b"], fail)
    assert await flights.run_many(["a", "b"], succeed) == {"a": "fine", "b": "fine"}


async def test_several_keys_that_ask_for_one_of_themselves(colour: Colour) -> None:
    """They would wait for themselves."""
    flights = Flights()

    async def circular(keys: list[str]) -> dict[str, str]:
        return await flights.run_many(["b"], circular)

    with pytest.raises(ReentrantCallError, match="b"):
        await flights.run_many(["a", "b"], circular)
