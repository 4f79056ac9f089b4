"""Identifiers that sort by the time they were made.

They are ULIDs (https://github.com/ulid/spec): 48 bits of milliseconds, then 80 random bits, written as 26 letters
and digits of Crockford's base 32.
"""

from __future__ import annotations

import os
import threading
from weakref import WeakKeyDictionary

from pilotis.bridge import reset_after_fork
from pilotis.clock import Clock

LENGTH = 26
"""The characters of an identifier."""

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in _DIGITS for low in _DIGITS]
_SHIFTS = range(120, -1, -10)
_RANDOM_BITS = 80


def new_id(clock: Clock) -> str:
    """Return a new identifier of 26 characters. May be called from any thread.

    Within a process, identifiers made by one clock grow strictly, even while it stands still or is set back.
    """
    number = _COUNTER.next(clock)
    return "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])


class _Counter:
    """Counts up from a random start within each millisecond."""

    def __init__(self) -> None:
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Start at random again, so that parent and child make different identifiers."""
        self._lock = threading.Lock()
        self._last: WeakKeyDictionary[Clock, int] = WeakKeyDictionary()

    def next(self, clock: Clock) -> int:
        now = int(clock.time() * 1000)
        with self._lock:
            number = self._last.get(clock, 0) + 1
            if now > number >> _RANDOM_BITS:
                number = now << _RANDOM_BITS | _random_start()
            self._last[clock] = number
        return number


def _random_start() -> int:
    # One bit below the full width, so that counting on does not run into the next millisecond.
    return int.from_bytes(os.urandom(10), "big") >> 1


_COUNTER = _Counter()
