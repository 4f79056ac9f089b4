"""Rules 11 and 13 of the bridge: resources per loop, crossing loops, forks."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import threading
from typing import Self

import pytest
from pilotis.bridge import PerLoop, drive, finish, on_loop, pause
from pilotis_testing.interrupts import interrupted


class Client:
    def __init__(self) -> None:
        self.closed_in: object = None

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed_in = asyncio.get_running_loop()


@pytest.fixture
def made() -> list[Client]:
    return []


@pytest.fixture
def per_loop(made: list[Client]) -> PerLoop[Client]:
    def make() -> Client:
        made.append(Client())
        return made[-1]

    return PerLoop(make, Client.aclose)


def test_each_loop_has_its_own_resource_until_it_ends(per_loop: PerLoop[Client], made: list[Client]) -> None:
    """`asyncio.run` twice: two clients, each closed on its own loop by the end of its run."""

    async def use() -> asyncio.AbstractEventLoop:
        assert per_loop.get() is per_loop.get()
        return asyncio.get_running_loop()

    loops = [asyncio.run(use()), asyncio.run(use())]

    assert loops == [client.closed_in for client in made]
    assert {} == per_loop._kept


def test_two_loops_at_once(per_loop: PerLoop[Client], made: list[Client]) -> None:
    """Two loops running side by side never share a client."""
    meeting = threading.Barrier(2)

    async def use() -> None:
        client = per_loop.get()
        await asyncio.to_thread(meeting.wait, 10)
        assert client is per_loop.get()

    threads = [threading.Thread(target=lambda: asyncio.run(use())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert 2 == len({client.closed_in for client in made} - {None})


def test_closing_reaches_the_other_running_loops(per_loop: PerLoop[Client], made: list[Client]) -> None:
    """Each client is closed on its own loop, whoever calls close."""
    ready, gate = threading.Event(), threading.Event()
    loops: list[object] = []

    async def use() -> None:
        per_loop.get()
        loops.append(asyncio.get_running_loop())
        ready.set()
        await asyncio.to_thread(gate.wait, 10)

    thread = threading.Thread(target=lambda: asyncio.run(use()))
    thread.start()
    assert ready.wait(5)
    drive(per_loop.aclose())
    closed_in = made[0].closed_in
    gate.set()
    thread.join(10)

    assert loops[0] is closed_in


def test_a_resource_of_a_loop_that_just_stopped_does_not_hang_close(per_loop: PerLoop[Client]) -> None:
    """A loop closed without asyncio.run's manners is passed over."""
    loop = asyncio.new_event_loop()

    async def use() -> None:
        per_loop.get()

    loop.run_until_complete(use())
    drive(per_loop.aclose())
    assert {} == per_loop._kept
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    gc.collect()


def test_a_coroutine_crosses_over_with_its_context_and_back_with_its_result() -> None:
    """`on_loop` works from a thread and from another loop."""
    variable = contextvars.ContextVar("variable", default=0)
    home = _Loop()

    async def look() -> tuple[int, bool]:
        await pause(0)
        return variable.get(), asyncio.get_running_loop() is home.loop

    async def from_loop() -> tuple[int, bool]:
        variable.set(6)
        return await on_loop(home.loop, look())

    async def fail() -> None:
        raise LookupError("there")

    with home:
        variable.set(5)
        assert (5, True) == drive(on_loop(home.loop, look()))
        assert (6, True) == asyncio.run(from_loop())
        with pytest.raises(LookupError, match="there"):
            drive(on_loop(home.loop, fail()))


def test_a_cancelled_caller_cancels_over_there_and_waits_for_the_clean_up() -> None:
    """Nothing is left behind on the other loop."""
    home = _Loop()
    cleaned: list[bool] = []

    async def work() -> None:
        try:
            await pause(30)
        finally:
            await finish(pause(0.02))
            cleaned.append(True)

    async def cancel() -> None:
        task = asyncio.ensure_future(on_loop(home.loop, work()))
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    with home:
        asyncio.run(cancel())
        assert [True] == cleaned


def test_an_interrupt_cancels_over_there() -> None:
    """Ctrl-C while waiting for another loop ends the work there too."""
    home, cleaned = _Loop(), threading.Event()

    async def work() -> None:
        try:
            await pause(30)
        finally:
            cleaned.set()

    with home:
        with interrupted():
            drive(on_loop(home.loop, work()))
        assert cleaned.wait(5)


def test_a_child_process_has_fresh_resources(per_loop: PerLoop[Client], made: list[Client]) -> None:
    """A fork inside a running loop: the child runs no loop, and makes clients of its own."""

    async def use() -> int:
        per_loop.get()
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            try:
                drive(pause(0))
                asyncio.run(again())
                os._exit(0 if len(made) == 2 else 1)
            except BaseException:
                os._exit(2)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    async def again() -> None:
        per_loop.get()

    assert 0 == asyncio.run(use())


class _Loop:
    """A loop on a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()
