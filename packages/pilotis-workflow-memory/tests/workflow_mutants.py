"""Providers that each break one obligation."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec.structs import replace
from pilotis.providers import (
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
from pilotis_workflow_memory import MemoryWorkflow
from pilotis_workflow_memory.store import Entry


class StartsTwice(MemoryWorkflow):
    """Takes a used id for a new one."""

    async def start(
        self, run: RunRecord, journal: Sequence[StepRecord] = (), fire: Fire | None = None
    ) -> tuple[RunRecord | None, bool]:
        there = self._store.entries.get(run.id)
        if there is not None:
            self._store.remove(there)
        return await super().start(run, journal, fire)


class ClaimsAnything(MemoryWorkflow):
    """Hands out runs of workflows that the worker does not know."""

    async def claim(
        self, worker: str, flows: Collection[tuple[str, str]], limit: int, timeout: float | None
    ) -> list[Claimed]:
        known = {(entry.run.name, entry.run.version) for entry in self._store.entries.values()}
        return await super().claim(worker, known, limit, timeout)


class NeverFences(MemoryWorkflow):
    """Takes writes of any epoch."""

    def _held(self, fence: Fence) -> Entry:
        entry = self._store.entries.get(fence.id)
        return super()._held(fence) if entry is None else super()._held(Fence(fence.id, entry.run.epoch))


class LosesEarlySignals(MemoryWorkflow):
    """Drops a signal that nobody waits for yet."""

    def _deliver(self, entry: Entry, name: str, letter: Letter) -> None:
        super()._deliver(entry, name, letter)
        entry.mailbox.clear()


class SignalsEveryWait(MemoryWorkflow):
    """Ends every wait of a name with one signal."""

    def _deliver(self, entry: Entry, name: str, letter: Letter) -> None:
        waiting = [record for record in entry.journal.values() if record.signal == name]
        for _ in waiting or [None]:
            super()._deliver(entry, name, letter)


class ForgetsDedupe(MemoryWorkflow):
    """Takes a signal as often as it comes."""

    async def signal(self, id: str, name: str, letter: Letter, dedupe: str | None = None) -> bool | None:
        return await super().signal(id, name, letter)


class FiresEarly(MemoryWorkflow):
    """Ends waits a second before they are due."""

    @property
    def _now(self) -> float:
        return self.context.clock.time() + 1


class OverwritesAnswers(MemoryWorkflow):
    """Lets a time-out undo a signal that came in time."""

    def _end_wait(self, entry: Entry, key: str | None, due: float) -> None:
        super()._end_wait(entry, key, due)
        if key is not None:
            entry.journal[key] = replace(entry.journal[key], status="due")


class RemovesLiving(MemoryWorkflow):
    """Lets retention remove runs that are on their way."""

    async def fire(self) -> float | None:
        due = await super().fire()
        for entry in list(self._store.entries.values()):
            if entry.run.retention is not None and entry.run.created + entry.run.retention <= self._now:
                self._store.remove(entry)
        for entry in list(self._store.entries.values()):
            if entry.run.status == "waiting":
                self._store.remove(entry)
        return due


class KeepsTheEpoch(MemoryWorkflow):
    """Turns to compensation without fencing off the function."""

    async def compensate(self, fence: Fence, error: Fault | None, verdict: RunStatus) -> RunRecord:
        run = await super().compensate(fence, error, verdict)
        return self._store.change(self._store.entries[run.id], epoch=fence.epoch)


class ParksCancelled(MemoryWorkflow):
    """Parks a run that was cancelled, which then waits for good."""

    async def park(self, fence: Fence, records: Sequence[StepRecord], due: float | None) -> Parked:
        entry = self._held(fence)
        cancelled = entry.run.cancelled
        self._store.change(entry, cancelled=False)
        answer = await super().park(fence, records, due)
        self._store.change(entry, cancelled=cancelled)
        return answer


class RewindsNothing(MemoryWorkflow):
    """Keeps the whole journal of a run that goes on from a step."""

    async def rewind(self, id: str, epoch: int, keep: Collection[str], deadline: float | None) -> RunRecord | None:
        entry = self._store.entries.get(id)
        return await super().rewind(id, epoch, set(entry.journal) if entry else keep, deadline)


class FiresAgain(MemoryWorkflow):
    """Forgets which fires of a schedule were used up."""

    def _use_up(self, fire: Fire, id: str) -> bool:
        self._store.schedules.clear()
        return super()._use_up(fire, id)


class TellsNoParent(MemoryWorkflow):
    """Lets a child end without a word."""

    async def finish(self, fence: Fence, ending: Ending) -> RunRecord:
        entry = self._held(fence)
        self._store.change(entry, parent=None)
        return await super().finish(fence, ending)


class ListsTheOldestFirst(MemoryWorkflow):
    """Finds runs in the wrong order."""

    async def find(self, query: RunQuery) -> list[RunRecord]:
        return (await super().find(query))[::-1]


class TellsTwice(MemoryWorkflow):
    """Repeats what it has told already."""

    async def notices(self, cursor: str | None, timeout: float | None) -> tuple[list[Notice], str]:
        notices, following = await super().notices(cursor, timeout)
        return notices, following if cursor is None else cursor
