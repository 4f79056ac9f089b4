"""What a cache did, for telemetry."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from pilotis.modules.cache.stats import CacheStats, Tally
from pilotis.telemetry import Figure, Measuring, Telemetry


def _counter(name: str, description: str, unit: str = "1") -> Figure:
    return Figure(name=f"pilotis.cache.{name}", description=description, unit=unit, kind="own")


FIGURES = {
    "hits": _counter("hits", "Readings that found a value"),
    "misses": _counter("misses", "Readings that found none"),
    "stale": _counter("stale", "Values served although they were no longer fresh"),
    "sets": _counter("sets", "Values stored"),
    "deletes": _counter("deletes", "Entries removed"),
    "factory_calls": _counter("factory_calls", "Values computed"),
    "errors": _counter("errors", "Calls of the backend and factories that failed"),
    "bytes_read": _counter("bytes_read", "Bytes of entries read", "By"),
    "bytes_written": _counter("bytes_written", "Bytes of entries stored", "By"),
    "near_hits": _counter("near_hits", "Readings that the near cache answered alone"),
    "too_long": _counter("too_long", "Values dropped because they were too long"),
    "outages": _counter("outages", "Times that the circuit breaker opened"),
    "refused": _counter("refused", "Calls not made because it was open"),
}
"""One for each field of `CacheStats`."""


class CacheFigures:
    """Has telemetry read a tally, where it wants to."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._told = CacheStats()
        """What was told until telemetry stopped reading, which keeps it."""
        self._ends: list[Callable[[], None]] = []

    def begin(self, telemetry: Telemetry | None, facts: Mapping[str, str]) -> None:
        """Let it be read from now on, if it is not yet. Counting goes on as before: it costs nothing more."""
        if not self._ends and telemetry is not None and isinstance(telemetry, Measuring):
            self._ends = [
                telemetry.observe(figure, functools.partial(self._read, name, getattr(self._told, name), facts))
                for name, figure in FIGURES.items()
            ]

    def end(self) -> None:
        """Let it be read no more."""
        if self._ends:
            ends, self._ends = self._ends, []
            for end in ends:
                end()
            self._told = self._tally.taken()

    def _read(self, name: str, told: int, facts: Mapping[str, str]) -> list[tuple[float, Mapping[str, str]]]:
        return [(getattr(self._tally, name) - told, facts)]
