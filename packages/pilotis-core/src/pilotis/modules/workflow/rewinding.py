"""Where a run goes on from when it is retried or forked: which records it keeps."""

from __future__ import annotations

from collections.abc import Sequence

from pilotis.errors import NotFoundError
from pilotis.modules.workflow.model import RETURN, StepRecord


def kept(journal: Sequence[StepRecord], from_step: str | None, run: str) -> list[StepRecord]:
    """Return the records that stay: those before `from_step`, or where it is None those before what failed.

    What was compensated is done again, so nothing after it stays either. Raises `NotFoundError` for a step without a
    record.
    """
    forward = [record for record in journal if not record.key.startswith("~") and record.key != RETURN]
    first = _order_of(forward, from_step, run) if from_step is not None else _first_to_repeat(journal, forward)
    return [record for record in forward if record.order < first]


def _order_of(records: Sequence[StepRecord], step: str, run: str) -> int:
    for record in records:
        if record.key == step:
            return record.order
    known = ", ".join(record.key for record in records) or "none"
    raise NotFoundError(f"run {run!r} has no record of step {step!r} (recorded: {known})")


def _first_to_repeat(journal: Sequence[StepRecord], forward: Sequence[StepRecord]) -> float:
    undone = {record.key[1:] for record in journal if record.key.startswith("~")}
    last = max((record.group for record in forward), default=-1)
    again = [record.order for record in forward if record.key in undone or (record.group == last and _failed(record))]
    return min(again, default=float("inf"))


def _failed(record: StepRecord) -> bool:
    answered = record.result is not None
    return record.status == "failed" or (record.key.startswith(("@signal:", "@result:")) and not answered)
