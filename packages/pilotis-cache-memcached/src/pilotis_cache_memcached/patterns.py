"""Removing by pattern where keys cannot be listed: a log of patterns that every reader applies.

Each server has, for each namespace, one item: the log. It is fetched together with the entries, in the same multi-get.
A removal appends its pattern, and touches no entry: those that fit a pattern and are older than it no longer count.

What is older is told by the numbers that Memcached gives to stores, `cas unique` in its protocol: one counter of the
server numbers all of them, and `gets` returns them for nothing. So no clock is compared, and writers read no log.

    floor       entries older than this do not count
    patterns    (number, pattern), the oldest first: entries older than the number that fit the pattern do not count

The number of the latest change is that of the log's own item, which its writer cannot know: it is written as 0.

A log has at most 64 patterns in 4 kB, each pattern once. Where one more does not fit, or where the pattern is the whole
namespace, the log collapses: the floor rises to the present, and the patterns are forgotten. That drops more entries
than were meant, never fewer. So does a log that is lost, to eviction or otherwise: without one, no entry counts, and
the floor of the next one is above all that was there before. Writers make sure that there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec
from pilotis.errors import InvalidInputError
from pilotis.keys import glob

from pilotis_cache_memcached.wire import item_text

MOST_PATTERNS = 64
MOST_BYTES = 4096

LATEST = 0
"""Stands for the number of the log's own item."""


class Pages(msgspec.Struct, array_like=True, frozen=True):
    """What is written. Later versions may add fields at the end."""

    floor: int = LATEST
    patterns: list[tuple[int, str]] = []


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Pages).decode

FRESH = _encode(Pages())
"""A log that nothing was removed by yet. What is older than it does not count."""


class Rule(NamedTuple):
    number: int
    pattern: str
    fits: Callable[[str], bool]


class Log:
    """The log of a namespace on one server, as it was read."""

    def __init__(self, name: str, data: bytes, number: int) -> None:
        """Take what was read under a name, and its number. Raises `msgspec.DecodeError` for what is no log."""
        pages = _decode(data)
        self.name = name
        self.number = number
        self.text = item_text(name, data, number)
        """By which it is known again."""
        self.floor = pages.floor or number
        rules = [Rule(mark or number, pattern, glob(pattern)) for mark, pattern in pages.patterns]
        self.rules = rules[::-1]

    def drops(self, key: str, born: int) -> bool:
        """Tell whether an entry that was stored with the number `born` no longer counts."""
        if born < self.floor:
            return True
        for rule in self.rules:
            if rule.number < born:
                return False
            if rule.fits(key):
                return True
        return False

    def with_pattern(self, pattern: str, space: str) -> bytes:
        """Return what to write in place of this log, so that `pattern` counts from then on."""
        kept = [(rule.number, rule.pattern) for rule in self.rules[::-1] if rule.pattern != pattern]
        data = _encode(Pages(self.floor, [*kept, (LATEST, pattern)]))
        is_full = len(kept) >= MOST_PATTERNS or len(data) > MOST_BYTES
        return FRESH if is_full or pattern == f"{space}*" else data


def space_of(key: str) -> str:
    """Return the namespace of a key: all up to its second colon. Keys that have none share one."""
    return key[: key.find(":", key.find(":") + 1) + 1]


def space_of_pattern(pattern: str) -> str:
    """Return the namespace that a pattern is about. Raises `InvalidInputError` if it is about several."""
    space = space_of(pattern.partition("*")[0])
    if not space:
        raise InvalidInputError(f"pattern: expected app and namespace first, 'app:namespace:*', got {pattern!r}")
    return space
