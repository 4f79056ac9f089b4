"""What is wrong with lanes, and what mends it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import UTC, datetime

from pilotis.findings import Finding, Severity
from pilotis.modules.event.provider import LaneInfo


class Outlook:
    """Looks at lanes. `now` is in seconds since 1970, `patience` how many seconds of lag are nothing to speak of."""

    def __init__(self, now: float, patience: float) -> None:
        self._now = now
        self._patience = patience

    def findings(self, lane: LaneInfo, *, declared: bool, died_at: datetime | None) -> Iterator[Finding]:
        """Tell what is wrong with a lane: `declared` by this program, with its first dead letter from `died_at`."""
        yield from self.unattended(lane, declared=declared)
        if lane.paused and _backlog(lane):
            yield self._paused(lane)
        elif lane.readers != 0 and (lane.oldest or 0.0) > self._patience:
            yield self._late(lane)
        if lane.dead:
            yield self._dead(lane, died_at)

    def unattended(self, lane: LaneInfo, *, declared: bool) -> Iterator[Finding]:
        """Tell what no handler of this process would notice: nobody reads a lane, or those who do disagree."""
        if lane.readers == 0:
            yield self._unread(lane) if declared or _backlog(lane) else self._stray(lane)
        if lane.unit_disagrees:
            yield self._disagreeing(lane)

    def _unread(self, lane: LaneInfo) -> Finding:
        return self._finding(
            lane,
            "stuck" if _backlog(lane) else "warning",
            "has no live reader",
            f"no process that handles it is alive, and {_count(_backlog(lane))} for it",
            f"pilotis worker; or, where nobody is to handle it any more: pilotis events unsubscribe {_id(lane)}",
        )

    def _stray(self, lane: LaneInfo) -> Finding:
        return self._finding(
            lane,
            "warning",
            "is declared by nobody",
            "no process that handles it is alive, and this program does not subscribe to it",
            f"pilotis events unsubscribe {_id(lane)}",
        )

    def _paused(self, lane: LaneInfo) -> Finding:
        return self._finding(
            lane, "warning", "is paused", f"{_count(_backlog(lane))} for it", f"pilotis events resume {_id(lane)}"
        )

    def _late(self, lane: LaneInfo) -> Finding:
        return self._finding(
            lane,
            "warning",
            "lags behind",
            f"the first of {lane.queued} that wait has been due for {lane.oldest or 0.0:.0f} s",
            "pilotis worker, on more machines, or with more --processes or --concurrency",
        )

    def _disagreeing(self, lane: LaneInfo) -> Finding:
        return self._finding(
            lane,
            "warning",
            "has readers that disagree",
            "live processes name different handlers for it, and take events from each other that they cannot handle",
            "give the handlers ids, or end the workers that run another version of the program",
        )

    def _dead(self, lane: LaneInfo, died_at: datetime | None) -> Finding:
        narrowed = f" --subscription {_id(lane)}" if lane.subscription else ""
        return Finding(
            module="event",
            severity="warning",
            what=f"lane {lane.lane!r} has dead letters",
            why=f"{lane.dead} deliveries were given up",
            since=died_at,
            mend=f"pilotis events dead{narrowed}, then pilotis events replay or purge --dead",
        )

    def _finding(self, lane: LaneInfo, severity: Severity, what: str, why: str, mend: str) -> Finding:
        since = None if lane.oldest is None else datetime.fromtimestamp(self._now - lane.oldest, UTC)
        return Finding(
            module="event", severity=severity, what=f"lane {lane.lane!r} {what}", why=why, since=since, mend=mend
        )


def _backlog(lane: LaneInfo) -> int:
    return lane.queued + lane.held + lane.delayed


def _count(number: int) -> str:
    return f"{number} event{' waits' if number == 1 else 's wait'}"


def _id(lane: LaneInfo) -> str:
    return shlex.quote(lane.subscription or lane.lane)
