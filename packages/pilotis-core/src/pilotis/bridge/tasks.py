"""What asyncio offers for tasks, for both colours."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from pilotis.bridge.latch import Latch
from pilotis.bridge.mode import running_loop

R = TypeVar("R")


async def pause(seconds: float) -> None:
    """Wait for real seconds. Code that has a clock waits with `clock.pause`."""
    await Latch().wait(seconds)


async def gather(*coroutines: Coroutine[Any, Any, R]) -> list[R]:
    """Run all and return their results in order: one after the other in blocking use, side by side under a loop.

    The first that raises ends the others: those under way are cancelled and waited for, those not begun
    are closed.
    """
    if running_loop() is None:
        return await _one_by_one(coroutines)
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await finish(_all_ended(tasks))
        raise


async def finish(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run a clean-up to its end, even when the caller is cancelled meanwhile, and again.

    Under a loop it runs in a task of its own; a cancellation is passed on once the clean-up is done.
    """
    if running_loop() is None:
        return await coroutine
    task = asyncio.ensure_future(coroutine)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        _retrieve(task)
        raise cancelled
    return task.result()


async def _one_by_one(coroutines: tuple[Coroutine[Any, Any, R], ...]) -> list[R]:
    try:
        return [await coroutine for coroutine in coroutines]
    finally:
        for coroutine in coroutines:
            coroutine.close()


async def _all_ended(tasks: Sequence[asyncio.Future[R]]) -> None:
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        _retrieve(task)


def _retrieve(task: asyncio.Future[Any]) -> None:
    """Look at the error of a task that nobody else will look at, so that asyncio does not complain."""
    if not task.cancelled():
        task.exception()
