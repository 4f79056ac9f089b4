"""Runs: how a new one looks, started by an application, by a schedule or by another run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from pilotis.codec import JSON
from pilotis.context import Context
from pilotis.modules.workflow.flows import KEEP_DEFAULT, Flow
from pilotis.modules.workflow.model import ENDED, RunRecord, StepRecord
from pilotis.modules.workflow.provider import WorkflowProvider
from pilotis.modules.workflow.rewinding import kept

if TYPE_CHECKING:
    from pilotis.modules.workflow.replay import Replay


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
        retention=retention if flow.retention == KEEP_DEFAULT else flow.retention,
    )


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


async def cancel_children(provider: WorkflowProvider, journal: Iterable[StepRecord]) -> None:
    """Cancel the children that are still on their way. Those that have ended stay as they are."""
    for id in children_of(journal):
        await provider.cancel(id)


def children_of(journal: Iterable[StepRecord]) -> list[str]:
    """Return the ids of the children that a run has started."""
    return [JSON.decode(record.result, str) for record in journal if record.key.startswith("@child:") and record.result]
