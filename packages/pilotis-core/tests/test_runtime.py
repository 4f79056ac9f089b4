"""The background loop: started when needed, ended cleanly, and never blocked by user code."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import pytest
from pilotis.bridge import Latch, blocked_loops, drive, pause, run_blocking
from pilotis.errors import ClosedError
from pilotis.runtime import Job, Runtime, is_async, lodge
from pilotis_testing.clock import until
from pilotis_testing.moments import Moments, struck_at


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    runtime = Runtime()
    yield runtime
    runtime.stop()


def test_no_thread_until_it_is_needed(runtime: Runtime) -> None:
    """A runtime that nobody uses costs nothing; one that was stopped leaves no thread."""
    before = threading.active_count()
    assert not runtime.started

    drive(runtime.run(pause(0)))
    assert (True, before + 1) == (runtime.started, threading.active_count())

    runtime.stop()
    runtime.stop()
    assert (False, before) == (runtime.started, threading.active_count())


def test_an_interrupted_beginning_leaves_nothing() -> None:
    """Whoever is interrupted while the thread starts can begin anew, and no thread stays that nobody would end."""
    before = threading.active_count()
    moments = Moments()
    for moment in moments:
        runtime = Runtime()
        moments.note(drive(struck_at(moment, runtime.run(pause(0)), {"wait"})))
        drive(runtime.run(pause(0)))
        runtime.stop()
    until(lambda: threading.active_count() == before)


def test_stopped_is_for_good(runtime: Runtime) -> None:
    """What comes too late is refused, and no thread is started that nobody would end."""
    runtime.stop()
    for begin in (lambda: runtime.spawn(pause(0), "late"), lambda: drive(runtime.run(pause(0)))):
        with pytest.raises(ClosedError, match="was closed"):
            begin()
    assert not runtime.started


def test_no_job_is_lost_between_starting_and_stopping() -> None:
    """A job is refused, or it ends: nobody waits for ever for one that came while the loop was ending."""
    for _ in range(30):
        runtime = Runtime()
        jobs: list[Job[Any]] = []

        def spawn(runtime: Runtime = runtime, jobs: list[Job[Any]] = jobs) -> None:
            with contextlib.suppress(ClosedError):
                while True:
                    jobs.append(runtime.spawn(pause(30), "work"))

        thread = threading.Thread(target=spawn)
        thread.start()
        until(lambda jobs=jobs: bool(jobs))
        runtime.stop()
        thread.join(10)
        assert all(job.ended.is_set() for job in jobs)


def test_a_caller_whose_work_is_cut_off_is_told(runtime: Runtime) -> None:
    """A thread that waits for a coroutine on the background loop gets no bare CancelledError when that is stopped."""
    begun = Latch()

    async def work() -> None:
        begun.set()
        await pause(30)

    errors: list[BaseException] = []

    def call() -> None:
        try:
            drive(runtime.call(work))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    drive(begun.wait(10))
    runtime.stop()
    thread.join(10)
    assert [ClosedError] == [type(error) for error in errors]


def test_starting_from_many_threads_starts_one(runtime: Runtime) -> None:
    """Twenty threads that need the loop at once get the same one."""
    loops: list[object] = []
    threads = [threading.Thread(target=lambda: loops.append(runtime.loop)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 == len(set(loops))


def test_stopping_ends_what_is_under_way(runtime: Runtime) -> None:
    """Jobs are cancelled and their clean-up runs."""
    cleaned = threading.Event()

    async def work() -> None:
        try:
            await pause(30)
        finally:
            await pause(0.01)
            cleaned.set()

    job = runtime.spawn(work(), "work")
    drive(runtime.run(pause(0)))
    runtime.stop()

    assert cleaned.is_set()
    assert job.ended.is_set()


def test_the_error_of_a_job_is_logged(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody awaits a background job, so its error goes to the log, with its name."""

    async def fail() -> None:
        raise ValueError("broken")

    drive(runtime.spawn(fail(), "renewals").ended.wait(5))

    assert "background job renewals failed" in caplog.text


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_user_code_cannot_end_the_loop(
    runtime: Runtime, caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    """`sys.exit` in a job, or in an async function of the user's, ends that alone."""

    async def leave() -> None:
        raise kind

    async def answer() -> int:
        return 5

    job = runtime.spawn(leave(), "leaving")
    assert drive(job.ended.wait(5))
    with pytest.raises(kind):
        drive(runtime.call(leave))
    assert drive(runtime.call(answer)) == 5
    assert kind.__name__ in caplog.text


def test_a_job_can_be_cancelled_at_any_moment(runtime: Runtime) -> None:
    """Before it began, while it runs, after it ended."""
    early = runtime.spawn(pause(30), "early")
    early.cancel()
    assert drive(early.ended.wait(5))
    running = runtime.spawn(pause(30), "running")
    drive(runtime.run(pause(0.01)))
    running.cancel()
    assert drive(running.ended.wait(5))
    running.cancel()


async def loop_of_here() -> asyncio.AbstractEventLoop:
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


def test_a_job_ends_although_its_cancellation_is_lost(runtime: Runtime) -> None:
    """Somebody else's code takes it for something else: it is said again."""
    begun, lost = Latch(), list[int]()

    async def lose_one() -> None:
        begun.set()
        try:
            await Latch().wait()
        except asyncio.CancelledError:
            lost.append(1)
        await Latch().wait()

    job = runtime.spawn(lose_one(), "deaf")
    assert drive(begun.wait(10))
    drive(job.end())
    assert (True, [1]) == (job.ended.is_set(), lost)


def test_user_code_runs_at_home(runtime: Runtime) -> None:
    """Async functions: the caller's loop, else the loop that entered the app, else the background loop."""

    async def callers() -> bool:
        return await runtime.call(loop_of_here) is asyncio.get_running_loop()

    async def entered() -> bool:
        runtime.home = asyncio.get_running_loop()
        from_thread = await run_blocking(lambda: drive(runtime.call(loop_of_here)))
        from_background = await run_blocking(lambda: drive(runtime.run(runtime.call(loop_of_here))))
        return from_thread is from_background is runtime.home

    assert asyncio.run(callers())
    assert asyncio.run(entered())
    assert drive(runtime.call(loop_of_here)) is runtime.loop


def test_a_loop_that_is_blocked_is_nobodys_home(runtime: Runtime) -> None:
    """A notebook's loop that waits in a blocking verb cannot run anything: the background loop does."""

    async def notebook() -> bool:
        runtime.home = asyncio.get_running_loop()
        blocked_loops.add(runtime.home)
        try:
            return await run_blocking(lambda: drive(runtime.call(loop_of_here))) is runtime.loop
        finally:
            blocked_loops.discard(runtime.home)

    assert asyncio.run(notebook())


def test_user_code_may_use_its_own_loop_bound_objects(runtime: Runtime) -> None:
    """A lock made on the user's loop works in an async function that a thread had called."""

    async def main() -> str:
        runtime.home = asyncio.get_running_loop()
        lock = asyncio.Lock()

        async def locked() -> str:
            async with lock:
                return "done"

        async with lock:
            waiting = asyncio.ensure_future(run_blocking(lambda: drive(runtime.call(locked))))
            await asyncio.sleep(0.01)
        return await waiting

    assert "done" == asyncio.run(main())


def test_plain_functions_run_on_threads_so_that_blocking_verbs_work_in_them(runtime: Runtime) -> None:
    """A plain function that blocks stops neither the caller's loop nor timers on the background loop."""

    def blocks() -> str:
        time.sleep(0.1)
        return drive(returns())

    async def returns() -> str:
        await pause(0)
        return "done"

    async def main() -> tuple[str, int]:
        ticks = 0
        task = asyncio.ensure_future(runtime.run(runtime.call(blocks)))
        while not task.done():
            ticks += 1
            await runtime.run(pause(0.001))
        return await task, ticks

    result, ticks = asyncio.run(main())
    assert "done" == result
    assert ticks > 5


def test_a_plain_function_that_returns_a_coroutine_is_awaited(runtime: Runtime) -> None:
    """`lambda: fetch()` counts as async, in both colours."""

    def thunk() -> Coroutine[Any, Any, asyncio.AbstractEventLoop]:
        return loop_of_here()

    assert drive(runtime.call(thunk)) is runtime.loop
    assert asyncio.run(runtime.call(thunk)) is not None


def test_async_functions_are_recognised() -> None:
    """Partials and callable objects are looked through."""

    class Callable:
        async def __call__(self) -> None: ...

    class Plain:
        def __call__(self) -> None: ...

    assert [True, True, True] == [is_async(f) for f in (loop_of_here, functools.partial(loop_of_here), Callable())]
    assert [False, False, False] == [is_async(f) for f in (print, functools.partial(print), Plain())]


def test_an_asyncio_only_provider_lives_on_the_background_loop(runtime: Runtime) -> None:
    """Whoever calls, its verbs run there, iterators included."""

    class Guest:
        name = "guest"

        async def where(self) -> asyncio.AbstractEventLoop:
            return asyncio.get_running_loop()

        async def items(self, count: int) -> AsyncIterator[object]:
            for _ in range(count):
                await asyncio.sleep(0)
                yield asyncio.get_running_loop()

    guest = lodge(Guest(), runtime)

    async def collect() -> list[object]:
        return [item async for item in guest.items(2)]

    assert drive(guest.where()) is asyncio.run(guest.where()) is runtime.loop
    assert [runtime.loop] * 2 == drive(collect()) == asyncio.run(collect())
    assert "guest" == guest.name


def test_a_child_process_starts_its_own(runtime: Runtime) -> None:
    """After a fork the parent's background thread does not exist: the child makes one when it needs it."""
    drive(runtime.run(pause(0)))
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        os._exit(0 if not runtime.started and drive(runtime.run(loop_of_here())) is runtime.loop else 1)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert runtime.started


def test_the_interpreter_exits_while_work_is_under_way() -> None:
    """Daemon threads are never waited for: not the background loop, not a call that hangs."""
    code = (
        "import threading, time\n"
        "from pilotis.bridge import drive, pause, run_blocking\n"
        "from pilotis.runtime import Runtime\n"
        "runtime = Runtime()\n"
        "runtime.spawn(pause(60), 'long')\n"
        "runtime.spawn(run_blocking(time.sleep, 60), 'hang')\n"
        "print(drive(runtime.run(run_blocking(lambda: 'ready'))))\n"
    )
    start = time.monotonic()
    command = [sys.executable, "-X", "dev", "-c", code]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=20)

    assert (0, "ready\n", "") == (done.returncode, done.stdout, done.stderr)
    assert time.monotonic() - start < 10
