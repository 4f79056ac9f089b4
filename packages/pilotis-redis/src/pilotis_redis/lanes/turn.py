"""One at a time."""

from __future__ import annotations

from collections import deque

from pilotis.bridge import Latch, reset_after_fork


class Turn:
    """`async with turn:` is entered by one task of a loop after the other, in the order in which they came."""

    def __init__(self) -> None:
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._is_taken = False
        self._waiting: deque[Latch] = deque()

    async def __aenter__(self) -> None:
        if not self._is_taken:
            self._is_taken = True
            return
        called = Latch()
        self._waiting.append(called)
        try:
            await called.wait()
        except BaseException:
            self._leave(called)
            raise

    async def __aexit__(self, *_: object) -> None:
        self._pass_on()

    def _leave(self, called: Latch) -> None:
        """Stop waiting, also where the turn has just come."""
        if called.is_set():
            self._pass_on()
        else:
            self._waiting.remove(called)

    def _pass_on(self) -> None:
        if self._waiting:
            self._waiting.popleft().set()
        else:
            self._is_taken = False
