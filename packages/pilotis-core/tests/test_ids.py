"""Identifiers grow with time, and never repeat."""

from __future__ import annotations

import os
import re
import threading

from pilotis.ids import LENGTH, new_id
from pilotis_testing import ManualClock


def test_an_identifier_is_a_ulid() -> None:
    """It has 26 characters of Crockford's base 32, the first ten of which are the time."""
    made = new_id(ManualClock(start=1_469_918_176.385))
    assert len(made) == LENGTH
    assert re.fullmatch("[0-9A-HJKMNP-TV-Z]{26}", made)
    assert made[:10] == "01ARYZ6S41"


def test_identifiers_grow_while_the_clock_stands_still() -> None:
    """A thousand identifiers of one instant are sorted and all different."""
    clock = ManualClock()
    made = [new_id(clock) for _ in range(1000)]
    assert made == sorted(set(made))


def test_identifiers_grow_when_the_clock_is_set_back() -> None:
    """A corrected wall clock does not make a smaller identifier."""
    clock = ManualClock()
    before = new_id(clock)
    clock.jump(-3600)
    assert before < new_id(clock)


def test_identifiers_of_later_times_are_greater() -> None:
    """An identifier made a millisecond later has a later time in it."""
    clock = ManualClock()
    before = new_id(clock)
    clock.advance(0.0011)
    assert before[:10] < new_id(clock)[:10]


def test_threads_make_different_identifiers() -> None:
    """Threads that share a clock never make the same identifier."""
    clock, made = ManualClock(), list[str]()
    threads = [threading.Thread(target=lambda: made.extend([new_id(clock) for _ in range(500)])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 2000


def test_a_child_process_makes_identifiers_of_its_own() -> None:
    """After a fork the child starts at random: it does not count on where its parent does."""
    clock = ManualClock()
    new_id(clock)
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writer, new_id(clock).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, LENGTH).decode() != new_id(clock)
    os.close(reader)
    os.close(writer)
