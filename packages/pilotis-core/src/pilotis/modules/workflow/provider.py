"""What a workflow provider owes: runs, journals, mailboxes and due times, in atomic verbs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from enum import Flag, auto

from pilotis.errors import ConflictError
from pilotis.modules.workflow.model import (
    Claimed,
    Ending,
    Fault,
    Fence,
    Fire,
    Letter,
    Notice,
    Parked,
    RunQuery,
    RunRecord,
    RunStatus,
    StepRecord,
)
from pilotis.provider import Provider


class WorkflowCapability(Flag):
    """What a workflow provider guarantees."""

    DURABLE = auto()
    """Runs survive the end of every process that works on them."""
    CROSS_PROCESS = auto()
    """Workers, starters and subscribers in other processes see the same runs."""


class FencedError(ConflictError):
    """The writer's epoch is not the run's epoch any more: the run has changed hands. Nothing was written."""


class WorkflowProvider(Provider):
    """Keeps runs for the workflow engine, which decides everything about the code of a run.

    Every verb is one atomic operation of the backend, may be called concurrently by any number of workers, and returns
    without waiting for other runs, except `claim`, `ended` and `notices`, which wait by push and at most
    their `timeout`. Verbs that take a `Fence` raise `FencedError`, and write nothing, unless the run exists, is
    held by a worker, and has the epoch of the fence. Times come from the backend's clock, or from `context.clock`
    where there is no backend. Nothing is repeated blindly: where a verb fails, the engine gives the run back, and its
    next worker goes on from what was written. A verb on a run that does not exist returns None or an empty list.
    """

    @abstractmethod
    async def start(
        self, run: RunRecord, journal: Sequence[StepRecord] = (), fire: Fire | None = None
    ) -> tuple[RunRecord | None, bool]:
        """Create a pending run, unless there is one of its id; return the run of that id, and whether it is new.

        `journal` is what the run begins with. With `fire` the run is created only if the schedule has had no fire of
        that due time or later, and, where `overlap` is "skip", if no run of the schedule is on its way; the fire is
        used up either way, and (None, False) is returned where no run was created.
        """

    @abstractmethod
    async def claim(
        self, worker: str, flows: Collection[tuple[str, str]], limit: int, timeout: float | None
    ) -> list[Claimed]:
        """Hand out up to `limit` pending runs, oldest first, whose (name, version) is in `flows`.

        Each has its epoch raised and belongs to `worker` alone; it is running then, unless it is compensating. Waits
        up to `timeout` seconds for the first, and returns early and empty when a wait was parked that ends
        before that. `flows` may grow while the verb waits.
        """

    @abstractmethod
    async def commit(self, fence: Fence, records: Sequence[StepRecord]) -> bool:
        """Write journal records by their keys, all or none. Returns whether the run was asked to be cancelled."""

    @abstractmethod
    async def park(self, fence: Fence, records: Sequence[StepRecord], due: float | None) -> Parked:
        """Write waiting records and let go of the run, until a letter comes, a record is due, or `due` has come.

        A letter that is in the mailbox already is taken, oldest first, and resolves its record; then, and when the run
        was asked to be cancelled and is not compensating, the run is not let go, and the answer says so.
        A wait (its attempts, due time and signal) that was over in the meantime is left as it is and returned as
        resolved.
        """

    @abstractmethod
    async def compensate(self, fence: Fence, error: Fault | None, verdict: RunStatus) -> RunRecord:
        """Let the run turn to its compensations: they end in `verdict`. Its epoch is raised; the worker keeps it."""

    @abstractmethod
    async def finish(self, fence: Fence, ending: Ending) -> RunRecord:
        """Bring the run to rest and let go of it.

        An ended run takes no more letters, loses its mailbox, and is removed once its retention is over; a child's
        ending is sent to its parent as the letter `@child:<id>`, in the same operation or one that surely follows.
        A stuck run keeps all that it has.
        """

    @abstractmethod
    async def give_back(self, fence: Fence) -> None:
        """Let go of the run: it is pending (or compensating) for any worker."""

    @abstractmethod
    async def signal(self, id: str, name: str, letter: Letter, dedupe: str | None = None) -> bool | None:
        """Deliver a letter: to the first record that waits for `name`, which then is `done`, else to the mailbox.

        A letter with a fault makes the record `due` instead. Returns True when it was taken, False when the run
        has ended, None when there is no such run. A `dedupe` that this run has seen takes no second letter.
        """

    @abstractmethod
    async def fire(self) -> float | None:
        """End the waits that are due, and remove the runs whose retention is over; some hundreds at most per call.

        A due record changes from `waiting` to `due`, and its run is pending. Returns the seconds until the next, or
        None.
        """

    @abstractmethod
    async def cancel(self, id: str) -> RunStatus | None:
        """Ask for a run to be cancelled; a waiting or stuck one is pending then. Ended runs are left as they are.

        Returns the state it had, or None.
        """

    @abstractmethod
    async def rewind(self, id: str, epoch: int, keep: Collection[str], deadline: float | None) -> RunRecord | None:
        """Set a run at rest going again with only the journal records in `keep`: pending, not cancelled, epoch raised.

        A stuck one stays cancelled if it was, and goes on compensating; any other forgets its error.
        Raises `FencedError` unless the run is at rest and has that epoch.
        """

    @abstractmethod
    async def bury(self, worker: str) -> int:
        """Take every run of a worker that is gone away from it: pending for others. Returns how many there were."""

    @abstractmethod
    async def load(self, id: str) -> RunRecord | None:
        """Return a run."""

    @abstractmethod
    async def journal(self, id: str) -> list[StepRecord]:
        """Return the journal of a run, by order. Raises `TypeMismatchError` for one that cannot be read."""

    @abstractmethod
    async def find(self, query: RunQuery) -> list[RunRecord]:
        """Return runs, newest first, by an index: never by looking at runs that do not fit by name or state."""

    @abstractmethod
    async def ended(self, id: str, timeout: float | None) -> RunRecord | None:
        """Return the run once it is at rest, or as it is after `timeout` seconds."""

    @abstractmethod
    async def notices(self, cursor: str | None, timeout: float | None) -> tuple[list[Notice], str]:
        """Return what happened after `cursor`, in order, and the cursor to go on from.

        Without a cursor nothing is returned but the cursor of now. Old notices may be gone; some thousands are kept.
        """
