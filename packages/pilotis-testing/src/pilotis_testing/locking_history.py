"""What critical sections did to a counter, as those saw it who went through them, and whether that can be right.

A section reads the counter and writes it one higher. Such a history is linearizable if there is an order of the
sections in which each reads what the one before it wrote, and in which none stands before one that had ended when it
began (Herlihy and Wing, "Linearizability: a correctness condition for concurrent objects", 1990). As no value is
written twice, the values themselves tell the only order there can be, so that this is decided by looking through them
once. A section that never ended, since its process was killed, may have written or not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

SHOWN = 5


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """One way through a section. Times are of one clock for all processes."""

    pid: int
    token: int
    began: float
    ended: float = math.inf
    """Infinite where that is not known: its process was killed."""
    value: int | None = None
    """What it read, where its write was taken, or may have been."""
    is_refused: bool = False
    """Whether its write, or already its reading, was refused."""


def faults_in(history: Sequence[Section], final: int) -> list[str]:
    """Return what cannot be right in a history that left the counter at `final`: a sentence for each fault."""
    done = [section for section in history if section.ended < math.inf and not section.is_refused]
    unknown = [section for section in history if section.ended == math.inf]
    return [*_repeated(done), *_lost(done, unknown, final), *_out_of_order(done), *_with_lower_tokens(done)][:SHOWN]


def _repeated(done: Iterable[Section]) -> Iterable[str]:
    """Two sections that wrote after reading the same: one of the two writes is lost."""
    seen: dict[int | None, Section] = {}
    for section in done:
        if section.value in seen:
            yield f"both read {section.value} and wrote: {seen[section.value]} and {section}"
        seen[section.value] = section


def _lost(done: Iterable[Section], unknown: Iterable[Section], final: int) -> Iterable[str]:
    """Values that nobody can have read, or that were read and are no more."""
    read = {section.value for section in done}
    may_have_read = {section.value for section in unknown}
    for value in range(final):
        if value not in read and value not in may_have_read:
            yield f"the counter came from {value} to {value + 1}, and nobody wrote that"
    for value in sorted(value for value in read if value is not None and value >= final):
        yield f"{value + 1} was written, and the counter ended at {final}"


def _out_of_order(done: Iterable[Section]) -> Iterable[str]:
    """Sections that had ended when one with a lower value began."""
    latest: Section | None = None
    for section in sorted(done, key=lambda section: section.value or 0):
        if latest is not None and section.ended < latest.began:
            yield f"it had ended before the other began, and read a higher value: {section}, {latest}"
        if latest is None or section.began > latest.began:
            latest = section


def _with_lower_tokens(done: Iterable[Section]) -> Iterable[str]:
    """Sections that went before others with a higher token."""
    before: Section | None = None
    for section in sorted(done, key=lambda section: section.value or 0):
        if before is not None and section.token <= before.token:
            yield f"it wrote after the other, with a token that is not higher: {section}, {before}"
        before = section
