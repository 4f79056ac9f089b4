"""Striking at each wait of what is under test, one after the other: a task is cancelled there, a thread interrupted."""

from __future__ import annotations

import asyncio
import functools
import itertools
import sys
from collections.abc import Collection, Coroutine, Generator, Iterator
from contextlib import contextmanager
from types import FrameType, coroutine
from typing import Any

from pilotis.bridge import running_loop

MOST_MOMENTS = 500
WAITS_OF_THE_BRIDGE = frozenset({"_wait_on_thread"})


class Moments:
    """The waits of some work by their numbers, from the first to the last.

    They are gone through again until there were so many tries. `note` takes whether it came to the wait that was
    named: where it did not, the work was over before. Fails for work that never waits, and for work that never ends.
    """

    def __init__(self, tries: int = 1) -> None:
        self._tries = tries
        self._came_to_it = False
        self.tried = 0
        """How often somebody was struck."""

    def note(self, came_to_it: bool) -> None:
        """Tell what became of the last try."""
        self._came_to_it = came_to_it
        self.tried += came_to_it

    def __iter__(self) -> Iterator[int]:
        while True:
            yield from self._all()
            if self.tried >= self._tries:
                return

    def _all(self) -> Iterator[int]:
        for moment in range(MOST_MOMENTS):
            self._came_to_it = False
            yield moment
            if not self._came_to_it:
                assert moment, "it never waits"
                return
        raise AssertionError("it never ends")


async def struck_at(
    moment: int, work: Coroutine[Any, Any, object], waits: Collection[str] = WAITS_OF_THE_BRIDGE
) -> bool:
    """Do some work and tell whether it was struck when it waited for the time that is named, counted from zero.

    Under a loop its task is cancelled, at every await; in blocking use this thread is interrupted, when it enters
    functions of these names and when it leaves them. Work that ends well all the same was struck, too.
    """
    if running_loop() is not None:
        return await asyncio.ensure_future(_awaited(_cancelled_at(moment, work)))
    with _interrupting(moment, waits) as struck:
        await work
    return bool(struck)


async def _awaited(work: Any) -> bool:
    return await work


@coroutine
def _cancelled_at(moment: int, work: Coroutine[Any, Any, object]) -> Generator[Any, Any, bool]:
    step = functools.partial(work.send, None)
    for number in itertools.count():
        try:
            awaited = step()
        except StopIteration:
            return number > moment
        except asyncio.CancelledError:
            assert number > moment, "it was cancelled by somebody else"
            return True
        if number == moment:
            _cancel_this_task()
        try:
            value = yield awaited
        except BaseException as error:
            step = functools.partial(work.throw, error)
        else:
            step = functools.partial(work.send, value)
    raise AssertionError("numbers never end")


def _cancel_this_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


@contextmanager
def _interrupting(moment: int, waits: Collection[str]) -> Generator[list[bool]]:
    seen, struck = 0, list[bool]()

    def note(frame: FrameType, event: str, _: object) -> Any:
        nonlocal seen
        if frame.f_code.co_name not in waits:
            return None
        if event in ("call", "return"):
            seen += 1
            if seen == moment + 1:
                struck.append(True)
                raise KeyboardInterrupt
        return note

    before = sys.gettrace()
    sys.settrace(note)
    try:
        yield struck
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
