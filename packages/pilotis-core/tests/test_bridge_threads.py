"""Rules 5, 6 and 10 of the bridge: helper threads, undo, and clean-up that survives cancellation."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from pilotis.bridge import THREADS, drive, finish, pause, run_blocking, run_blocking_with_undo
from pilotis.bridge.threads import Threads


def until_idle() -> None:
    """Wait until the threads that answered a moment ago are back in the pool."""
    deadline = time.monotonic() + 5
    while THREADS.busy and time.monotonic() < deadline:
        time.sleep(0.001)


def test_threads_are_reused_and_never_queue() -> None:
    """Fifty calls that wait for each other all run at once; the next ones reuse their threads."""
    barrier = threading.Barrier(50)

    async def meet() -> list[int]:
        return await asyncio.gather(*(run_blocking(barrier.wait, 10) for _ in range(50)))

    assert list(range(50)) == sorted(asyncio.run(meet()))
    until_idle()
    before = threading.active_count()
    asyncio.run(meet())
    assert threading.active_count() <= before


def test_idle_threads_end() -> None:
    """A thread that nobody needs for a while goes away."""
    pool, done = Threads(idle=0.01), threading.Event()
    pool.submit(done.set)
    assert done.wait(5)

    deadline = time.monotonic() + 5
    while pool._all and time.monotonic() < deadline:
        time.sleep(0.005)

    assert 0 == pool._all
    assert 0 == pool.busy


def test_busy_threads_are_counted() -> None:
    """A call that hangs shows in `busy`."""
    gate = threading.Event()

    async def hang() -> int:
        task = asyncio.ensure_future(run_blocking(gate.wait, 10))
        await asyncio.sleep(0.01)
        busy = THREADS.busy
        gate.set()
        await task
        return busy

    assert asyncio.run(hang()) >= 1


def test_errors_cross_over() -> None:
    """An error of the function is the caller's, StopIteration included, which no future can carry."""

    def fail() -> None:
        raise LookupError("no")

    def stop() -> None:
        raise StopIteration("odd")

    with pytest.raises(LookupError, match="no"):
        asyncio.run(run_blocking(fail))
    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(run_blocking(stop))


@pytest.mark.parametrize("microseconds", range(0, 2000, 100))
def test_what_a_cancelled_caller_took_is_given_back(microseconds: int) -> None:
    """Whenever the cancellation comes, the result reaches the caller or is undone: one of the two, once."""
    taken: set[int] = set()
    got: list[int] = []

    def take(number: int) -> int:
        time.sleep(0.001)
        taken.add(number)
        return number

    async def caller(number: int) -> None:
        got.append(await run_blocking_with_undo(lambda: take(number), taken.remove))

    async def race() -> None:
        tasks = [asyncio.ensure_future(caller(number)) for number in range(10)]
        await asyncio.sleep(microseconds / 1e6)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        deadline = time.monotonic() + 5
        while taken != set(got) and time.monotonic() < deadline:
            await asyncio.sleep(0.001)

    asyncio.run(race())
    time.sleep(0.003)
    assert taken == set(got)


def test_a_failing_undo_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is there to be told, so the log is."""

    async def race() -> None:
        task = asyncio.ensure_future(run_blocking_with_undo(lambda: time.sleep(0.02), lambda _: 1 / 0))
        await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0.1)

    asyncio.run(race())
    assert "could not be undone" in caplog.text


def test_a_call_survives_the_end_of_its_loop() -> None:
    """A result that arrives after the loop has closed is undone."""
    undone = threading.Event()

    async def leave() -> None:
        asyncio.ensure_future(  # noqa: RUF006
            run_blocking_with_undo(lambda: time.sleep(0.05), lambda _: undone.set())
        )
        await asyncio.sleep(0.005)

    asyncio.run(leave())
    assert undone.wait(5)


def test_finish_survives_two_cancellations() -> None:
    """The clean-up runs to its end; then the cancellation goes on."""
    steps: list[str] = []

    async def clean_up() -> None:
        await pause(0.02)
        steps.append("clean")

    async def work() -> None:
        try:
            await pause(30)
        finally:
            await finish(clean_up())
            steps.append("not reached after a cancellation in clean-up")

    async def cancel_twice() -> None:
        task = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(cancel_twice())
    drive(finish(clean_up()))
    assert ["clean", "clean"] == steps


def test_finish_passes_results_and_errors_on() -> None:
    """Without a cancellation it is an ordinary await."""

    async def fail() -> None:
        raise ValueError("no")

    async def seven() -> int:
        return 7

    assert 7 == asyncio.run(finish(seven()))
    with pytest.raises(ValueError, match="no"):
        asyncio.run(finish(fail()))
