"""What is stored of a run: enough for any worker to go on where another one stopped."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import field
from msgspec.structs import replace

RunStatus = Literal[
    "pending", "running", "waiting", "completed", "failed", "compensating", "compensated", "cancelled", "stuck"
]
StepStatus = Literal["started", "waiting", "due", "done", "failed"]

ENDED = frozenset[RunStatus](("completed", "failed", "compensated", "cancelled"))
"""The states that a run leaves only by a retry."""

AT_REST = frozenset[RunStatus]((*ENDED, "stuck"))
"""The states in which no worker will touch the run by itself."""

STATUSES = frozenset[RunStatus]((*AT_REST, "pending", "running", "waiting", "compensating"))


RETURN = "@return"
"""The key of the record that holds the result of a run whose events have still to leave."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An exception as it is recorded. `arguments` is there when its class is named in `raises`."""

    type: str
    message: str
    arguments: bytes | None = None
    permanent: bool = False


class StepRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a run's journal, found by `key`. Times are seconds since 1970."""

    key: str
    order: int
    status: StepStatus
    digest: str = ""
    """Of the arguments, to notice that the code has changed."""
    attempts: int = 0
    result: bytes | None = None
    error: Fault | None = None
    due: float | None = None
    """While waiting: when the wait ends by itself."""
    signal: str | None = None
    """While waiting: the name of the letter that ends the wait."""
    undo: bool = False
    """Whether the step is compensated when the run fails."""
    group: int = 0
    """The order of the first step of a `parallel`: its steps are compensated side by side."""
    staged: list[bytes] = field(default_factory=list[bytes])
    """Events that leave when the run completes."""
    began: float = 0.0
    ended: float | None = None


class Letter(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a signal brings: an encoded value, or the fault of an external step or a child."""

    result: bytes | None = None
    error: Fault | None = None


class RunRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run as it is stored. Times are seconds since 1970, durations seconds."""

    id: str
    name: str
    version: str
    input: bytes
    status: RunStatus
    created: float
    updated: float
    origin: str = ""
    """Where its function was defined: tells functions of one name apart."""
    epoch: int = 0
    """Raised whenever the run changes hands. A write with another epoch is refused."""
    worker: str = ""
    """Who works on it, empty when nobody does."""
    timeout: float | None = None
    deadline: float | None = None
    retention: float | None = None
    """How long it is kept once it has ended. None keeps it for good."""
    result: bytes | None = None
    error: Fault | None = None
    cancelled: bool = False
    """Whether somebody asked for it to be cancelled."""
    crashes: int = 0
    """How many workers in a row died while they had it, and it came no further."""
    verdict: RunStatus | None = None
    """While compensating: how the run ends when that went well."""
    parent: str | None = None
    schedule: str | None = None


class Fence(msgspec.Struct, frozen=True):
    """Who writes: the run and the epoch of the writer's claim."""

    id: str
    epoch: int


class Claimed(msgspec.Struct, frozen=True):
    """A run that a worker may work on, with its journal."""

    run: RunRecord
    journal: list[StepRecord]


class Fire(msgspec.Struct, frozen=True):
    """One due time of a schedule. Each is started at most once, whoever asks first."""

    schedule: str
    due: float
    overlap: Literal["skip", "allow"]


class Parked(msgspec.Struct, frozen=True):
    """The answer to parking: nothing resolved and not cancelled means that the run waits now."""

    resolved: list[StepRecord] = field(default_factory=list[StepRecord])
    cancelled: bool = False


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a run comes to rest."""

    status: RunStatus
    result: bytes | None = None
    error: Fault | None = None


class RunQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs to list: all that are given must fit. `since` and `until` bound the time of creation."""

    name: str | None = None
    statuses: frozenset[RunStatus] | None = None
    since: float | None = None
    until: float | None = None
    limit: int = 100


class Notice(msgspec.Struct, frozen=True):
    """A run entered a state. `event` is "run." and the state, or "run.started" for a new run."""

    event: str
    run: RunRecord


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run, for people and programs. Times are seconds since 1970."""

    id: str
    name: str
    version: str
    status: RunStatus
    created: float
    updated: float
    error: str | None = None
    parent: str | None = None
    schedule: str | None = None


class StepInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a run's history. `result` is in JSON's own kinds; compensations have a `~` before their step."""

    step: str
    status: StepStatus
    attempts: int
    began: float
    ended: float | None = None
    result: Any = None
    error: str | None = None


def answered(record: StepRecord, letter: Letter, now: float) -> StepRecord:
    """Return a waiting record as a letter leaves it."""
    if letter.error is not None:
        return replace(record, status="due", error=letter.error)
    return replace(record, status="done", result=letter.result, error=None, ended=now)


def described(fault: Fault | None) -> str | None:
    """Return a fault in words."""
    return None if fault is None else f"{fault.type}: {fault.message}"


def run_info(run: RunRecord) -> RunInfo:
    """Return what may be shown of a run."""
    return RunInfo(
        id=run.id,
        name=run.name,
        version=run.version,
        status=run.status,
        created=run.created,
        updated=run.updated,
        error=described(run.error),
        parent=run.parent,
        schedule=run.schedule,
    )


def step_info(record: StepRecord) -> StepInfo:
    """Return what may be shown of a journal record."""
    return StepInfo(
        step=record.key,
        status=record.status,
        attempts=record.attempts,
        began=record.began,
        ended=record.ended,
        result=None if record.result is None else msgspec.json.decode(record.result),
        error=described(record.error),
    )
