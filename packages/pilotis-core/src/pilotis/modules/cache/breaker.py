"""The circuit breaker: while the backend does not answer, nobody waits for it."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

from pilotis.bridge import reset_after_fork
from pilotis.clock import Clock
from pilotis.errors import ConnectionFailedError, OperationError, OperationTimeoutError
from pilotis.modules.base import Guard, Portable
from pilotis.modules.cache.stats import Tally
from pilotis.settings.model import CacheSettings

OUTAGE = (ConnectionFailedError, OperationTimeoutError)
"""What tells that the backend is not there. Any other error is an answer of a kind."""

LONGEST_PROBE = 30.0
"""Seconds after which a call that tries the backend out is taken for lost, and another one may."""


class Breaker:
    """Lets all calls pass, or none, or one that tries whether the backend is back.

    It opens after so many lost connections in a row, or one time-out. `pause` seconds later one call passes, while the
    others are refused as before: when it succeeds all pass again, when it fails another pause begins. A pause of zero
    keeps it from opening. The pattern is from Nygard, "Release It!", 2007.
    """

    def __init__(self, settings: CacheSettings, clock: Clock, tally: Tally) -> None:
        self._limit = settings.breaker_failures
        self._pause = settings.breaker_pause
        self._clock = clock
        self._tally = tally
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self.is_shaken = self.is_open = self._is_probing = False
        self._failures = 0
        self._until = 0.0
        self._reason = ""

    def admit(self) -> None:
        """Let a call pass, or raise `ConnectionFailedError`."""
        with self._lock:
            now = self._clock.monotonic()
            if not self.is_open:
                return
            if now >= self._until:
                self._is_probing = True
                self._until = now + LONGEST_PROBE
                return
            self._tally.refused += 1
        raise ConnectionFailedError(f"not asked, as it does not answer; the last time: {self._reason}")

    def succeed(self) -> None:
        """Note that the backend answers."""
        with self._lock:
            self.is_shaken = self.is_open = self._is_probing = False
            self._failures = 0

    def fail(self, error: OperationError) -> None:
        """Note that it does not."""
        if not self._pause:
            return
        with self._lock:
            self.is_shaken = True
            self._failures += self._limit if isinstance(error, OperationTimeoutError) else 1
            if self._failures >= self._limit:
                self._open(str(error))

    def _open(self, reason: str) -> None:
        self._tally.outages += not self.is_open
        self.is_open, self._is_probing = True, False
        self._until = self._clock.monotonic() + self._pause
        self._reason = reason

    def abstain(self) -> None:
        """Note that a call ended without telling: if it was to try the backend out, the next one does."""
        with self._lock:
            if self._is_probing:
                self._is_probing = False
                self._until = self._clock.monotonic()


class Watch(Guard):
    """A guard that tells the breaker what became of a call."""

    __slots__ = ("_breaker",)

    def __init__(self, portable: Portable[Any], operation: str, breaker: Breaker) -> None:
        super().__init__(portable, operation)
        self._breaker = breaker

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            if self._breaker.is_shaken:
                self._breaker.succeed()
            return
        try:
            super().__exit__(kind, error, traceback)
        except OperationError as explained:
            self._note(explained)
            raise
        self._note(error)

    def _note(self, error: BaseException) -> None:
        if isinstance(error, OUTAGE):
            self._breaker.fail(error)
        else:
            self._breaker.abstain()


class Gate(Watch):
    """One that asks the breaker first."""

    __slots__ = ()

    def __enter__(self) -> None:
        if self._breaker.is_open:
            try:
                self._breaker.admit()
            except ConnectionFailedError as error:
                self._sign(error)
                raise
