"""Those who look on while events are emitted."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncGenerator, Sequence

from pilotis.bridge import Latch
from pilotis.modules.event.provider import OutgoingEvent

MOST_UNREAD = 1_000
"""How many events are kept for one who is slow; then the oldest are left out."""


class Audience:
    """Hands events to whoever watches, and never waits for them. Thread-safe. For providers that have TAIL."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seats: list[_Seat] = []

    def __len__(self) -> int:
        return len(self._seats)

    def show(self, events: Sequence[OutgoingEvent]) -> None:
        """Tell all who watch of events."""
        with self._lock:
            for seat in self._seats:
                seat.unread.extend(events)
                seat.news.set()

    async def watch(self) -> AsyncGenerator[OutgoingEvent, None]:
        """Yield what is shown from the first step on, until it is closed."""
        seat = _Seat()
        with self._lock:
            self._seats.append(seat)
        try:
            while True:
                await seat.news.wait()
                with self._lock:
                    seat.news = Latch()
                    events = list(seat.unread)
                    seat.unread.clear()
                for event in events:
                    yield event
        finally:
            with self._lock:
                self._seats.remove(seat)


class _Seat:
    __slots__ = ("news", "unread")

    def __init__(self) -> None:
        self.unread: deque[OutgoingEvent] = deque(maxlen=MOST_UNREAD)
        self.news = Latch()
