"""The judge of critical sections: what is right passes, and each kind of fault is found."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from msgspec.structs import replace
from pilotis_testing.locking_history import Section, faults_in
from pilotis_testing.locking_sections import FencedCounter

FIRST = Section(pid=1, token=1, began=0, ended=1, value=0)
SECOND = Section(pid=2, token=2, began=2, ended=3, value=1)
THIRD = Section(pid=1, token=5, began=4, ended=5, value=2)
DEAD = Section(pid=9, token=4, began=3.5, value=2)
LATE = Section(pid=9, token=1, began=0.5, ended=9, value=0, is_refused=True)


@pytest.mark.parametrize(
    ("history", "final"),
    [
        ([], 0),
        ([THIRD, FIRST, SECOND], 3),
        ([FIRST, SECOND, LATE], 2),
        ([FIRST, SECOND, DEAD], 2),
        ([FIRST, SECOND, DEAD], 3),
        ([FIRST, replace(SECOND, began=0.5)], 2),
    ],
)
def test_a_history_that_can_be_right(history: list[Section], final: int) -> None:
    """In whatever order it was written down, with sections that were refused, overlapped or never ended."""
    assert [] == faults_in(history, final)


@pytest.mark.parametrize(
    ("history", "final", "fault"),
    [
        ([FIRST, replace(SECOND, value=0)], 1, "both read 0"),
        ([FIRST, SECOND], 3, "from 2 to 3, and nobody wrote that"),
        ([FIRST, THIRD], 3, "from 1 to 2, and nobody wrote that"),
        ([FIRST, SECOND, DEAD, THIRD], 2, "3 was written, and the counter ended at 2"),
        ([replace(FIRST, began=4, ended=5), SECOND], 2, "had ended before the other began"),
        ([replace(FIRST, token=2), SECOND], 2, "with a token that is not higher"),
    ],
)
def test_a_fault_is_found(history: list[Section], final: int, fault: str) -> None:
    """And told in a sentence with the sections that cannot both be right."""
    assert any(fault in it for it in faults_in(history, final))


def test_a_counter_refuses_lower_tokens(tmp_path: Path) -> None:
    """As soon as it was read with a higher one, and it stays as it was."""
    counter, other = FencedCounter(tmp_path / "counter"), FencedCounter(tmp_path / "counter")
    assert 0 == counter.read(1)
    assert counter.write(1, 1)
    assert 1 == counter.read(2)
    assert 1 == other.read(3)
    assert not counter.write(2, 2)
    assert counter.read(2) is None
    assert other.write(3, 2)
    kinds = [record.kind for record in counter.records()]
    assert ["read", "write", "read", "read", "refused", "refused", "write"] == kinds
    assert 2 == counter.last().value
    counter.close()
    other.close()


def test_a_counter_is_at_hand_unless_somebody_is_at_it(tmp_path: Path) -> None:
    """Which a process that is stopped in the middle of it may be for long."""
    counter = FencedCounter(tmp_path / "counter")
    assert counter.is_at_hand()
    with (tmp_path / "counter").open() as somebody:
        fcntl.flock(somebody, fcntl.LOCK_EX)
        assert not counter.is_at_hand()
    assert counter.is_at_hand()
    counter.close()
