"""Rules 1 to 4, 7 and 13 of the bridge: one coroutine, two colours."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import threading
import time
import traceback
from collections.abc import AsyncIterator
from typing import Any, Self

import pytest
from pilotis.bridge import Latch, blocking, blocking_iterator, drive, gather, pause, run_blocking, running_loop
from pilotis.errors import BlockingCallInEventLoopError, SuspendedError
from pilotis_testing.clock import until


class Shelf:
    """A thing with verbs in both colours."""

    blocking_in_loop = "error"

    def __init__(self) -> None:
        self.closed = 0

    async def aget(self, key: str, default: int = 3, *, type: type = int) -> tuple[str, int, type]:
        """Get."""
        await pause(0)
        return key, await run_blocking(lambda: default), type

    get = blocking(aget)

    async def afail(self) -> None:
        raise KeyError("gone")

    fail = blocking(afail)

    async def asleepy(self) -> None:
        await _YieldsItself()

    sleepy = blocking(asleepy)

    async def astubborn(self) -> str:
        try:
            await _YieldsItself()
        except SuspendedError:
            return "swallowed"
        return "woken"

    stubborn = blocking(astubborn)

    async def aprimitive(self) -> None:
        await asyncio.sleep(0.1)

    primitive = blocking(aprimitive)

    async def aitems(self, count: int) -> AsyncIterator[int]:
        try:
            for number in range(count):
                await pause(0)
                yield number
        finally:
            await run_blocking(self.note_closed)

    items = blocking_iterator(aitems)

    def note_closed(self) -> None:
        self.closed += 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await pause(0)

    __enter__ = blocking(__aenter__)
    __exit__ = blocking(__aexit__)


class _YieldsItself:
    def __await__(self) -> Any:
        yield self


def test_the_mode_is_the_running_loop_of_this_thread() -> None:
    """No loop on this thread means blocking, whatever other threads run, and inside a nested asyncio.run async."""
    seen: list[bool] = []

    async def look() -> None:
        seen.append(running_loop() is not None)
        await run_blocking(lambda: seen.append(running_loop() is not None))

    asyncio.run(look())
    drive(run_blocking(lambda: asyncio.run(look())))
    drive(look())

    assert [True, False, True, False, False, False] == seen


def test_both_colours_return_the_same() -> None:
    """A verb and its twin give the same result."""
    shelf = Shelf()

    assert ("k", 4, str) == shelf.get("k", 4, type=str)
    assert ("k", 4, str) == asyncio.run(shelf.aget("k", 4, type=str))


def test_the_twin_has_the_signature_and_the_docstring_of_its_original() -> None:
    """`get` reads like `aget` to tools and people."""
    assert inspect.signature(Shelf.aget) == inspect.signature(Shelf.get)
    assert ("get", "Shelf.get", "Get.") == (Shelf.get.__name__, Shelf.get.__qualname__, Shelf.get.__doc__)


def test_a_traceback_reads_in_fail() -> None:
    """The frame of the twin carries the verb's own name."""
    with pytest.raises(KeyError) as caught:
        Shelf().fail()

    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert ["fail", "afail"] == names[1:]


def test_a_blocking_verb_in_a_running_loop_names_the_async_one() -> None:
    """It would stop the loop, so it is refused, and the message says what to write."""
    shelf = Shelf()

    async def misuse() -> None:
        with pytest.raises(BlockingCallInEventLoopError, match=r"await x\.aget\(\.\.\.\)"):
            shelf.get("k")
        with pytest.raises(BlockingCallInEventLoopError, match="async with"), shelf:
            pass
        with pytest.raises(BlockingCallInEventLoopError, match="async for"):
            shelf.items(1)

    asyncio.run(misuse())


def test_notebooks_may_block_their_loop() -> None:
    """`blocking_in_loop = "thread"` runs the verb on a helper thread, with the caller's context."""
    shelf = Shelf()
    shelf.blocking_in_loop = "thread"

    async def notebook() -> tuple[str, int, type]:
        return shelf.get("k")

    assert ("k", 3, int) == asyncio.run(notebook())


def test_notebooks_may_read_blocking_iterators() -> None:
    """Each item is fetched on a helper thread, and breaking off closes the source."""
    shelf = Shelf()
    shelf.blocking_in_loop = "thread"

    async def notebook() -> int:
        return next(shelf.items(3))

    assert 0 == asyncio.run(notebook())
    until(lambda: shelf.closed == 1)


def test_a_verb_that_suspends_unannounced_says_so() -> None:
    """The error names provider and verb, and points at the await that suspended."""
    with pytest.raises(SuspendedError, match=r"Shelf suspended in sleepy\(\).*asyncio_only = True") as caught:
        Shelf().sleepy()

    assert "asleepy" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert ("Shelf", "sleepy") == (caught.value.provider, caught.value.verb)


def test_a_swallowed_suspension_is_raised_all_the_same() -> None:
    """Code that catches everything cannot hide that it suspended."""
    with pytest.raises(SuspendedError):
        Shelf().stubborn()


def test_an_asyncio_primitive_in_blocking_use_is_explained() -> None:
    """asyncio's own error gets a note that says what to use instead."""
    with pytest.raises(RuntimeError, match="no running event loop") as caught:
        Shelf().primitive()

    assert "run_blocking, pause, Latch" in caught.value.__notes__[0]


def test_iterators_work_in_both_colours_and_close() -> None:
    """Items come one by one; the clean-up runs at the end."""
    shelf = Shelf()

    async def read() -> list[int]:
        return [item async for item in shelf.aitems(3)]

    assert [0, 1, 2] == list(shelf.items(3)) == asyncio.run(read())
    assert 2 == shelf.closed


def test_abandoned_iterators_clean_up() -> None:
    """Breaking off a loop closes the source, in a thread, in a loop, and where the collector comes by in a loop."""
    shelf = Shelf()

    for _ in shelf.items(3):
        break
    assert 1 == shelf.closed

    async def abandon() -> None:
        async for _ in shelf.aitems(3):
            break

    asyncio.run(abandon())
    gc.collect()
    assert 2 == shelf.closed

    left = shelf.items(3)
    next(left)

    async def collect() -> None:
        nonlocal left
        del left
        gc.collect()
        deadline = time.monotonic() + 5
        while shelf.closed < 3 and time.monotonic() < deadline:
            await pause(0.001)

    asyncio.run(collect())
    assert 3 == shelf.closed


def test_gather_runs_one_by_one_or_side_by_side() -> None:
    """Results come in order; the first error ends the others, and no coroutine is left unawaited."""
    ended: list[str] = []

    async def work(name: str, seconds: float) -> str:
        try:
            await pause(seconds)
        finally:
            ended.append(name)
        return name

    async def fail() -> str:
        raise ValueError("no")

    assert ["a", "b"] == drive(gather(work("a", 0), work("b", 0)))
    assert ["a", "b"] == asyncio.run(gather(work("a", 0.01), work("b", 0)))
    assert ["a", "b", "b", "a"] == ended
    with pytest.raises(ValueError, match="no"):
        asyncio.run(gather(work("c", 30), fail()))
    assert "c" == ended[-1]
    with pytest.raises(ValueError, match="no"):
        drive(gather(fail(), work("never begun", 30)))
    assert "c" == ended[-1]


def test_a_latch_wakes_threads_and_tasks() -> None:
    """One `set` wakes waiters of every kind."""
    latch = Latch()
    woken: list[str] = []

    def on_thread() -> None:
        woken.append(f"thread {drive(latch.wait(10))}")

    async def in_loop() -> None:
        woken.extend([f"task {await wait}" for wait in [latch.wait(10), latch.wait()]])

    threads = [threading.Thread(target=on_thread), threading.Thread(target=lambda: asyncio.run(in_loop()))]
    for thread in threads:
        thread.start()
    latch.set()
    for thread in threads:
        thread.join(10)

    assert ["task True", "task True", "thread True"] == sorted(woken)


def test_a_latch_times_out_and_forgets_who_gave_up() -> None:
    """A waiter that timed out or was cancelled leaves nothing behind."""
    latch = Latch()

    async def cancelled() -> bool:
        task = asyncio.ensure_future(latch.wait())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return await latch.wait(0.01)

    assert not drive(latch.wait(0.01))
    assert not drive(latch.wait(0))
    assert not asyncio.run(cancelled())
    assert [] == latch._wakes


def test_a_latch_calls_back_once() -> None:
    """`on_set` is called by whoever sets it, at once if it is set, never after `forget`."""
    latch = Latch()
    calls: list[str] = []
    late: Any = lambda: calls.append("late")  # noqa: E731
    forgotten: Any = lambda: calls.append("forgotten")  # noqa: E731

    latch.on_set(lambda: calls.append("first"))
    latch.on_set(forgotten)
    latch.forget(forgotten)
    latch.set()
    latch.set()
    latch.on_set(late)

    assert ["first", "late"] == calls


def test_context_variables_reach_blocking_functions() -> None:
    """`run_blocking` copies the caller's context."""
    variable = contextvars.ContextVar("variable", default=0)

    async def read() -> int:
        variable.set(5)
        return await run_blocking(variable.get)

    assert 5 == asyncio.run(read())
    assert 0 == variable.get()
