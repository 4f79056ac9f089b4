"""Short words for what the tests of a provider's verbs do."""

from __future__ import annotations

from typing import Any, Literal

from pilotis.providers import (
    Claimed,
    Ending,
    Fault,
    Fence,
    Fire,
    RunQuery,
    RunRecord,
    StepRecord,
    WorkflowProvider,
)

FLOWS = {("flow", "1")}
BOOM = Fault(type="ValueError", message="boom")


def a_run(id: str, **fields: Any) -> RunRecord:
    """Return a pending run."""
    given: dict[str, Any] = {
        "name": "flow",
        "version": "1",
        "input": b"[]",
        "status": "pending",
        "created": 0.0,
        "updated": 0.0,
        **fields,
    }
    return RunRecord(id=id, **given)


def done(key: str, order: int) -> StepRecord:
    """Return the record of a step with the result 1."""
    return StepRecord(key=key, order=order, status="done", result=b"1")


def waiting(key: str, order: int = 0, *, due: float | None = None, signal: str | None = None) -> StepRecord:
    """Return the record of a wait."""
    return StepRecord(key=key, order=order, status="waiting", due=due, signal=signal)


def fence(claimed: Claimed) -> Fence:
    """Return the fence of a claim."""
    return Fence(claimed.run.id, claimed.run.epoch)


async def claim(store: WorkflowProvider, worker: str = "w") -> Claimed:
    """Claim the one run that there is."""
    (claimed,) = await store.claim(worker, FLOWS, 1, 0)
    return claimed


async def known(store: WorkflowProvider, id: str) -> RunRecord:
    """Return a run that must exist."""
    run = await store.load(id)
    assert run is not None
    return run


async def write(store: WorkflowProvider, verb: str, mine: Fence) -> None:
    """Call one of the verbs that a fence guards."""
    arguments: dict[str, tuple[Any, ...]] = {
        "commit": ([done("x", 0)],),
        "park": ([waiting("x", signal="go")], None),
        "compensate": (BOOM, "compensated"),
        "finish": (Ending(status="failed", error=BOOM),),
        "give_back": (),
    }
    await getattr(store, verb)(mine, *arguments[verb])


async def parked(store: WorkflowProvider, *records: StepRecord, id: str = "r1") -> None:
    """Start a run, and let it wait."""
    await store.start(a_run(id))
    answer = await store.park(fence(await claim(store)), records, None)
    assert [] == answer.resolved


async def ended(
    store: WorkflowProvider, id: str, *, status: Literal["completed", "failed"] = "completed", **fields: Any
) -> None:
    """Start a run, and end it."""
    await store.start(a_run(id, **fields))
    mine = next(one for one in await store.claim("w", FLOWS, 5, 0) if one.run.id == id)
    good = status == "completed"
    ending = Ending(status=status, result=b"1" if good else None, error=None if good else BOOM)
    await store.finish(fence(mine), ending)


async def fired(store: WorkflowProvider, due: float, overlap: Literal["skip", "allow"]) -> bool:
    """Start a run of the schedule; tell whether it was started."""
    _, new = await store.start(a_run(f"s@{due}", schedule="s"), fire=Fire("s", due, overlap))
    return new


async def found(store: WorkflowProvider, **query: Any) -> list[str]:
    """Return the ids of the runs that fit."""
    return [run.id for run in await store.find(RunQuery(**query))]
