"""Events and starts of runs to rows of an outbox and back. What is written carries a version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from pilotis.modules.event.checks import Priority
from pilotis.modules.event.outbox import OutboxRow
from pilotis.modules.event.provider import OutgoingEvent

if TYPE_CHECKING:
    from pilotis.modules.workflow.model import RunRecord

_write = msgspec.json.Encoder().encode


class _StagedEvent(msgspec.Struct, omit_defaults=True):
    v: Literal[1]
    at: float
    body: msgspec.Raw
    delay: float = 0.0
    priority: Priority = "normal"
    dedupe: str | None = None
    dedupe_ttl: float = 0.0


class _StagedRun(msgspec.Struct, omit_defaults=True):
    v: Literal[1]
    run: msgspec.Raw
    instance: str = "default"


_read_event = msgspec.json.Decoder(_StagedEvent).decode
_read_run = msgspec.json.Decoder(_StagedRun).decode


def event_row(event: OutgoingEvent, now: float) -> OutboxRow:
    """Return an event as a row that is written `now`."""
    staged = _StagedEvent(
        1, now, msgspec.Raw(event.body), event.delay, event.priority, event.dedupe, event.dedupe_ttl
    )  # fmt: skip
    return OutboxRow(kind="event", id=event.id, name=event.name, key=event.key, body=_write(staged).decode())


def event_of(row: OutboxRow, now: float) -> OutgoingEvent:
    """Return the event of a row, with what is left of its delay. Raises `msgspec.DecodeError` for anything else."""
    staged = _read_event(row.body)
    left = max(0.0, staged.delay - (now - staged.at)) if staged.delay else 0.0
    return OutgoingEvent(
        row.id, row.name, bytes(staged.body), left, staged.priority, row.key, staged.dedupe, staged.dedupe_ttl
    )


def run_row(run: RunRecord, instance: str) -> OutboxRow:
    """Return the start of a run as a row; `instance` is that of the workflow module."""
    staged = _StagedRun(1, msgspec.Raw(_write(run)), instance)
    return OutboxRow(kind="run", id=run.id, name=run.name, body=_write(staged).decode())


def run_of(row: OutboxRow) -> tuple[str, RunRecord]:
    """Return whose run a row has start, and the run. Raises `msgspec.DecodeError` for anything else."""
    from pilotis.modules.workflow.model import RunRecord

    staged = _read_run(row.body)
    return staged.instance, msgspec.json.decode(staged.run, type=RunRecord)
