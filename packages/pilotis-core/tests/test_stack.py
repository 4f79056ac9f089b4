"""Where a pool keeps its connections, and who gets them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pilotis.stack import Stack
from pilotis_testing.clock import until


def filled(size: int) -> Stack:
    """Return a stack of places."""
    stack = Stack(size)
    for _ in range(size):
        stack.put_nowait(None)
    return stack


def begun(action: Callable[[], object]) -> threading.Thread:
    """Do something on a thread of its own."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread


def test_a_stack_gives_what_came_last() -> None:
    """Connections before places, whichever came later, and no more than it has."""
    stack = filled(2)
    stack.get(block=True, timeout=1)
    stack.put_nowait("connection")
    assert stack.connection() == "connection"
    assert stack.connection() is None
    assert stack.get(block=True, timeout=1) is None
    with pytest.raises(queue.Empty):
        stack.get(block=False, timeout=1)
    with pytest.raises(queue.Empty):
        stack.get(block=True, timeout=0.01)
    stack.put_nowait("connection")
    stack.put_nowait(None)
    assert stack.connection() == "connection"


def test_a_stack_refuses_one_too_many() -> None:
    """As redis-py expects when it fills one up."""
    with pytest.raises(queue.Full):
        filled(3).put_nowait(None)


def test_nobody_is_overtaken() -> None:
    """Those who wait have their turn in order, and whoever gives something back and wants it again comes last."""
    stack = filled(1)
    order: list[str] = []
    held = stack.get(block=True, timeout=1)

    def take(name: str) -> None:
        item = stack.get(block=True, timeout=30)
        order.append(name)
        stack.put_nowait(item)

    waiting: list[threading.Thread] = []
    for name in ("first", "second", "third"):
        waiting.append(begun(lambda name=name: take(name)))
        until(lambda: stack.waiting == len(waiting))
    stack.put_nowait(held)
    take("last")
    for thread in waiting:
        thread.join(10)
    assert order == ["first", "second", "third", "last"]
    assert stack.waiting == 0


def test_what_is_free_is_for_whoever_waits() -> None:
    """Not for those who come in the moment before he has noticed."""
    stack = filled(1)
    stack.get(block=True, timeout=1)
    taken: list[Any] = []
    waiting = begun(lambda: taken.append(stack.get(block=True, timeout=30)))
    until(lambda: stack.waiting == 1)
    stack.queue.append("for whoever waits")  # and he is asleep
    assert stack.connection() is None
    with pytest.raises(queue.Empty):
        stack.get(block=False, timeout=1)
    waiting.join(10)
    assert ["for whoever waits"] == taken


def test_who_goes_hands_his_turn_on() -> None:
    """Where the first in line has waited for long enough, the second one is told of what comes."""
    stack = filled(1)
    held = stack.get(block=True, timeout=1)

    def give_up() -> None:
        with pytest.raises(queue.Empty):
            stack.get(block=True, timeout=0.05)

    taken: list[Any] = []
    first = begun(give_up)
    until(lambda: stack.waiting == 1)
    second = begun(lambda: taken.append(stack.get(block=True, timeout=30)))
    first.join(10)
    stack.put_nowait(held)
    second.join(10)
    assert [None] == taken
