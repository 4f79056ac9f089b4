"""What is remembered of the events that were emitted, so that repetitions are dropped."""

from __future__ import annotations

import heapq

from pilotis.providers import ID_TTL, OutgoingEvent


class Memory:
    """Ids for `ID_TTL` seconds, the newest `most` of them; `dedupe` values for as long as they say. Not thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ids: dict[str, float] = {}
        """Until when each is remembered: the oldest first."""
        self._dedupes: dict[tuple[str, str], tuple[float, str]] = {}
        self._ends: list[tuple[float, tuple[str, str]]] = []

    def recall(self, event: OutgoingEvent, now: float) -> str | None:
        """Return the id of the event that this one repeats."""
        if self._ids.get(event.id, 0.0) > now:
            return event.id
        if event.dedupe is not None:
            end, id = self._dedupes.get((event.name, event.dedupe), (0.0, ""))
            return id if end > now else None
        return None

    def note(self, event: OutgoingEvent, now: float) -> None:
        """Remember an event, and forget what is over."""
        self._ids.pop(event.id, None)
        self._ids[event.id] = now + ID_TTL
        oldest, end = next(iter(self._ids.items()))
        if len(self._ids) > self._most or end <= now:
            del self._ids[oldest]
        if event.dedupe is not None:
            self._note_dedupe((event.name, event.dedupe), now + event.dedupe_ttl, event.id)
        while self._ends and self._ends[0][0] <= now:
            self._forget(*heapq.heappop(self._ends))

    def _note_dedupe(self, value: tuple[str, str], end: float, id: str) -> None:
        self._dedupes[value] = (end, id)
        heapq.heappush(self._ends, (end, value))

    def _forget(self, end: float, value: tuple[str, str]) -> None:
        if self._dedupes.get(value, (None, ""))[0] == end:
            del self._dedupes[value]
