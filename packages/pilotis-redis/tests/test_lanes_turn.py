"""One task at a time."""

from __future__ import annotations

import asyncio

import pytest
from pilotis.bridge import Latch
from pilotis_redis.lanes.turn import Turn


async def enter(turn: Turn, name: str, told: list[str], leave: Latch) -> None:
    async with turn:
        told.append(name)
        await leave.wait()


async def settled() -> None:
    """Let the loop go round until nothing moves any more."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_tasks_take_turns_in_the_order_in_which_they_came() -> None:
    """The next one enters when the one before leaves, also where that failed."""
    turn, told = Turn(), list[str]()
    leaves = [Latch() for _ in range(3)]
    tasks = [asyncio.create_task(enter(turn, str(index), told, leave)) for index, leave in enumerate(leaves)]
    await settled()
    assert ["0"] == told
    tasks[0].cancel()
    await settled()
    assert ["0", "1"] == told
    leaves[1].set()
    await settled()
    assert ["0", "1", "2"] == told
    leaves[2].set()
    await asyncio.gather(*tasks[1:])
    async with turn:
        told.append("again")


@pytest.mark.parametrize("is_called", [False, True])
async def test_one_who_is_cancelled_while_waiting_holds_up_nobody(is_called: bool) -> None:
    """Also where the turn has come to it at the same moment."""
    turn, told = Turn(), list[str]()
    first, never = Latch(), Latch()
    tasks = [asyncio.create_task(enter(turn, name, told, first if name == "a" else never)) for name in "abc"]
    await settled()
    if is_called:
        first.set()
        while not tasks[0].done():  # then "b" is called, and has not entered yet
            await asyncio.sleep(0)
    tasks[1].cancel()
    await settled()
    first.set()
    await settled()
    assert "c" in told
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
