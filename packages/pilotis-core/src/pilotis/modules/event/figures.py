"""How lanes are doing, for telemetry."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal

from pilotis.context import Context
from pilotis.errors import OperationError
from pilotis.modules.event.provider import LaneInfo
from pilotis.runtime import Job
from pilotis.telemetry import Figure, Measuring, Read

LOOK_SECONDS = 15.0
"""How often lanes are looked at. What telemetry is told is at most this old."""

_Value = Callable[[LaneInfo], float | None]


def _figure(name: str, kind: Literal["told", "gauge"], description: str, unit: str = "1") -> Figure:
    return Figure(name=f"pilotis.event.lane.{name}", description=description, unit=unit, kind=kind)


FIGURES: Sequence[tuple[Figure, _Value]] = (
    (_figure("emitted", "told", "Events that the lane took"), lambda lane: lane.emitted),
    (_figure("delivered", "told", "Deliveries handed out, each attempt anew"), lambda lane: lane.delivered),
    (_figure("succeeded", "told", "Deliveries that were handled"), lambda lane: lane.succeeded),
    (_figure("retried", "told", "Runs that failed and are tried again"), lambda lane: lane.retried),
    (_figure("died", "told", "Deliveries that became dead letters"), lambda lane: lane.died),
    (_figure("fenced", "told", "Deliveries handled in vain"), lambda lane: lane.fenced),
    (_figure("dead", "gauge", "Dead letters"), lambda lane: lane.dead),
    (_figure("lag", "gauge", "How long the first event that waits has been due", "s"), lambda lane: lane.oldest or 0.0),
    (_figure("queued", "gauge", "Events that wait for a reader"), lambda lane: lane.queued),
    (_figure("held", "gauge", "Events that wait behind another of their key"), lambda lane: lane.held),
    (_figure("delayed", "gauge", "Events whose time has not come, and retries"), lambda lane: lane.delayed),
    (_figure("in_flight", "gauge", "Deliveries handed out and not settled"), lambda lane: lane.in_flight),
    (_figure("readers", "gauge", "Live processes that read the lane"), lambda lane: lane.readers),
)


class LaneFigures:
    """Looks at lanes now and then, from `begin` to `stop`, where telemetry asks for figures.

    Telemetry reads what was seen last: it asks on a thread of its own, and must not wait for a backend.
    """

    def __init__(
        self, context: Context, look: Callable[[], Awaitable[list[LaneInfo]]], facts: Callable[[], Mapping[str, str]]
    ) -> None:
        self._context = context
        self._look = look
        self._facts = facts
        self._ends: list[Callable[[], None]] = []
        self.after_fork()

    def after_fork(self) -> None:
        """Whoever looked is in the parent; what telemetry reads is here."""
        self._lock = threading.Lock()
        self._job: Job[None] | None = None
        self._seen: Sequence[LaneInfo] = ()

    def begin(self) -> None:
        """Begin to look. Doing so again does nothing."""
        telemetry = self._context.telemetry
        if telemetry is None or not isinstance(telemetry, Measuring):
            return
        with self._lock:
            if self._job is None:
                self._job = self._context.runtime.spawn(self._keep_looking(), "figures of lanes")
                self._ends = self._ends or [telemetry.observe(it, self._reading(of)) for it, of in FIGURES]

    async def stop(self) -> None:
        """Look no more, and tell nothing more."""
        with self._lock:
            job, self._job = self._job, None
            ends, self._ends = self._ends, []
        for end in ends:
            end()
        if job is not None:
            job.cancel()
            await job.ended.wait()

    async def _keep_looking(self) -> None:
        try:
            while True:
                self._seen = await self._looked()
                await self._context.clock.pause(LOOK_SECONDS)
        finally:
            self._seen = ()

    async def _looked(self) -> Sequence[LaneInfo]:
        try:
            return await self._look()
        except OperationError:  # whoever receives logs the outage; figures from before it would be untrue
            return ()

    def _reading(self, of: _Value) -> Read:
        def read() -> list[tuple[float, Mapping[str, str]]]:
            facts = self._facts()
            values = ((of(lane), {**facts, "pilotis.lane": lane.lane}) for lane in self._seen)
            return [(value, attributes) for value, attributes in values if value is not None]

        return read
