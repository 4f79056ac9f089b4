"""How runs begin: started by an application, a schedule or another run; and how they go on from their records."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import UNSET
from msgspec.structs import replace

from pilotis.codec import JSON
from pilotis.context import Context
from pilotis.errors import ConflictError, NotFoundError, TypeMismatchError
from pilotis.modules.workflow.flows import Flow
from pilotis.modules.workflow.model import ENDED, RETURN, RunRecord, StepRecord
from pilotis.modules.workflow.provider import FencedError, WorkflowProvider

if TYPE_CHECKING:
    from pilotis.modules.workflow.replay import Replay

logger = logging.getLogger("pilotis.workflow")


def new_run(context: Context, flow: Flow[..., Any], id: str, data: bytes, retention: float | None) -> RunRecord:
    """Return a pending run. `retention` is that of the settings."""
    now = context.clock.time()
    return RunRecord(
        id=id,
        name=flow.name,
        version=flow.version,
        origin=flow.origin,
        input=data,
        status="pending",
        created=now,
        updated=now,
        timeout=flow.timeout,
        deadline=None if flow.timeout is None else now + flow.timeout,
        retention=retention if flow.retention is UNSET else flow.retention,
    )


def copied_run(context: Context, run: RunRecord, id: str) -> RunRecord:
    """Return a pending run with the input of another."""
    now = context.clock.time()
    return replace(
        run, id=id, status="pending", created=now, updated=now, epoch=0, worker="", result=None, error=None,
        cancelled=False, verdict=None, parent=None, schedule=None,
        deadline=None if run.timeout is None else now + run.timeout,
    )  # fmt: skip


def check_same(there: RunRecord | None, run: RunRecord) -> None:
    """Raise `ConflictError` unless the run that has the id already is the same one."""
    if there is not None and (there.name, there.input) == (run.name, run.input):
        return
    what = "other arguments" if there is not None and there.name == run.name else "another workflow"
    raise ConflictError(f"there is a run {run.id!r} with {what}; use another id, or the same arguments")


async def start_record(replay: Replay, flow: Flow[..., Any], data: bytes, key: str) -> str:
    """Start a child under an id made of the parent's and the key, so that a repetition starts no second one.

    One that failed or was cancelled, in an attempt of the parent before a retry, goes on.
    """
    desk = replay.desk
    id = f"{replay.run.id}/{key.removeprefix('@child:')}"
    run = replace(new_run(desk.context, flow, id, data, desk.retention), parent=replay.run.id)
    there, new = await replay.write(desk.provider.start(run))
    if not new and there is not None and there.status in ENDED and there.status != "completed":
        await replay.write(send_back(desk.provider, there, run.deadline))
    return id


async def send_back(
    provider: WorkflowProvider, run: RunRecord, deadline: float | None, from_step: str | None = None
) -> RunRecord | None:
    """Set a run at rest going again. A stuck one keeps all of its journal, unless a step is given."""
    journal = await provider.journal(run.id)
    whole = run.status == "stuck" and from_step is None
    keep = journal if whole else kept(journal, from_step, run.id)
    return await provider.rewind(run.id, run.epoch, {record.key for record in keep}, deadline)


async def revive(provider: WorkflowProvider, run: RunRecord) -> None:
    """Set a stuck run going again, unless another worker was faster. One that cannot be read stays as it is."""
    try:
        await send_back(provider, run, run.deadline)
    except FencedError:
        return
    except TypeMismatchError as error:
        logger.warning("run %s stays stuck: %s", run.id, error)


async def without_unfinished_children(provider: WorkflowProvider, journal: list[StepRecord]) -> list[StepRecord]:
    """Leave out children that are on their way, and what came after: they answer to another run."""
    for record in journal:
        for child in children_of([record]):
            run = await provider.load(child)
            if run is None or run.status not in ENDED:
                return [before for before in journal if before.order < record.order]
    return journal


async def cancel_children(provider: WorkflowProvider, journal: Iterable[StepRecord]) -> None:
    """Cancel the children that are still on their way. Those that have ended stay as they are."""
    for id in children_of(journal):
        await provider.cancel(id)


def children_of(journal: Iterable[StepRecord]) -> list[str]:
    """Return the ids of the children that a run has started."""
    return [JSON.decode(record.result, str) for record in journal if record.key.startswith("@child:") and record.result]


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
