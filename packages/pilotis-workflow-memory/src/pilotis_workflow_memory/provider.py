"""Workflows in the memory of this process."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Sequence

from msgspec.structs import replace
from pilotis.providers import (
    ENDED,
    Claimed,
    Ending,
    Fault,
    Fence,
    FencedError,
    Fire,
    Latch,
    Letter,
    Notice,
    Parked,
    RunQuery,
    RunRecord,
    RunStatus,
    StepRecord,
    WorkflowCapability,
    WorkflowProvider,
    answered,
    reset_after_fork,
)

from pilotis_workflow_memory.store import Entry, Store, is_at_rest

AT_ONCE = 500
"""How many timers one call of `fire` works through."""


class MemoryWorkflow(WorkflowProvider):
    """Keeps runs as long as the provider object lives. Engines that share the object share the runs."""

    capabilities = WorkflowCapability(0)

    def __init__(self, options: object = None, **clients: object) -> None:
        super().__init__(options, **clients)  # pyright: ignore[reportArgumentType] - checked by the base
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """The runs stay with the parent, which goes on working on them."""
        self._lock = threading.Lock()
        self._store = Store()
        self._stirred = Latch()
        self._told = Latch()

    # Runs

    async def start(
        self, run: RunRecord, journal: Sequence[StepRecord] = (), fire: Fire | None = None
    ) -> tuple[RunRecord | None, bool]:
        with self._lock:
            there = self._store.entries.get(run.id)
            if there is not None:
                return there.run, False
            if fire is not None and not self._use_up(fire, run.id):
                return None, False
            entry = self._store.add(run)
            entry.journal = {record.key: record for record in journal}
            self._stir()
        return run, True

    async def claim(
        self, worker: str, flows: Collection[tuple[str, str]], limit: int, timeout: float | None
    ) -> list[Claimed]:
        claimed, stirred = self._claim(worker, flows, limit)
        if not claimed and await self.context.clock.wait(stirred, timeout):
            claimed, _ = self._claim(worker, flows, limit)
        return claimed

    async def commit(self, fence: Fence, records: Sequence[StepRecord]) -> bool:
        with self._lock:
            entry = self._held(fence)
            entry.journal.update((record.key, record) for record in records)
            return entry.run.cancelled

    async def park(self, fence: Fence, records: Sequence[StepRecord], due: float | None) -> Parked:
        with self._lock:
            entry = self._held(fence)
            resolved = [found for record in records if (found := self._resolved(entry, record)) is not None]
            undoing = entry.run.status == "compensating"
            if resolved or (entry.run.cancelled and not undoing):
                return Parked(resolved, entry.run.cancelled)
            self._set_timers(entry, records, due)
            self._store.change(entry, worker="", status="compensating" if undoing else "waiting", updated=self._now)
            self._stir()
            return Parked()

    async def compensate(self, fence: Fence, error: Fault | None, verdict: RunStatus) -> RunRecord:
        with self._lock:
            entry = self._held(fence)
            return self._store.change(
                entry, status="compensating", error=error, verdict=verdict, epoch=entry.run.epoch + 1, updated=self._now
            )

    async def finish(self, fence: Fence, ending: Ending) -> RunRecord:
        with self._lock:
            entry = self._held(fence)
            run = self._store.change(
                entry, status=ending.status, result=ending.result, error=ending.error, worker="", updated=self._now
            )
            if run.status in ENDED:
                self._end(entry)
            entry.rest.set()
            self._stir()
            return run

    async def give_back(self, fence: Fence) -> None:
        with self._lock:
            self._release(self._held(fence))

    # From outside

    async def signal(self, id: str, name: str, letter: Letter, dedupe: str | None = None) -> bool | None:
        with self._lock:
            entry = self._store.entries.get(id)
            if entry is None:
                return None
            if entry.run.status in ENDED:
                return False
            if dedupe is None or dedupe not in entry.seen:
                entry.seen.update(() if dedupe is None else (dedupe,))
                self._deliver(entry, name, letter)
            return True

    async def fire(self) -> float | None:
        with self._lock:
            now = self._now
            for entry, key, due in self._store.due_timers(now, AT_ONCE):
                self._end_wait(entry, key, due)
            following = self._store.next_timer()
        return None if following is None else max(0.0, following - now)

    async def cancel(self, id: str) -> RunStatus | None:
        with self._lock:
            entry = self._store.entries.get(id)
            if entry is None:
                return None
            status = entry.run.status
            if status not in ENDED:
                self._store.change(entry, cancelled=True)
                if status in ("waiting", "stuck"):
                    self._set_going(entry)
            return status

    async def rewind(self, id: str, epoch: int, keep: Collection[str], deadline: float | None) -> RunRecord | None:
        with self._lock:
            entry = self._store.entries.get(id)
            if entry is None:
                return None
            if not is_at_rest(entry.run) or entry.run.epoch != epoch:
                raise FencedError(f"run {id!r} is not at rest any more")
            entry.journal = {key: record for key, record in entry.journal.items() if key in keep}
            going_on = entry.run.status == "stuck"
            entry.expires = None
            self._store.change(
                entry, epoch=epoch + 1, deadline=deadline, cancelled=going_on and entry.run.cancelled,
                result=None, error=entry.run.error if going_on else None,
                verdict=entry.run.verdict if going_on else None,
            )  # fmt: skip
            self._set_going(entry)
            return entry.run

    async def bury(self, worker: str) -> int:
        with self._lock:
            held = self._store.held_by(worker)
            for entry in held:
                self._release(entry)
            return len(held)

    # Looking

    async def load(self, id: str) -> RunRecord | None:
        with self._lock:
            entry = self._store.entries.get(id)
            return None if entry is None else entry.run

    async def journal(self, id: str) -> list[StepRecord]:
        with self._lock:
            entry = self._store.entries.get(id)
            return [] if entry is None else sorted(entry.journal.values(), key=lambda record: record.order)

    async def find(self, query: RunQuery) -> list[RunRecord]:
        with self._lock:
            return self._store.find(query)

    async def ended(self, id: str, timeout: float | None) -> RunRecord | None:
        with self._lock:
            entry = self._store.entries.get(id)
        if entry is None:
            return None
        await self.context.clock.wait(entry.rest, timeout)
        return entry.run

    async def notices(self, cursor: str | None, timeout: float | None) -> tuple[list[Notice], str]:
        with self._lock:
            count, told = self._store.noticed, self._told
        if cursor is None:
            return [], str(count)
        if count == int(cursor):
            await self.context.clock.wait(told, timeout)
        with self._lock:
            return self._store.notices_after(int(cursor)), str(self._store.noticed)

    # Inside, with the lock held

    @property
    def _now(self) -> float:
        return self.context.clock.time()

    def _held(self, fence: Fence) -> Entry:
        entry = self._store.entries.get(fence.id)
        if entry is None or not entry.run.worker or entry.run.epoch != fence.epoch:
            raise FencedError(f"run {fence.id!r} has changed hands since epoch {fence.epoch}")
        return entry

    def _claim(self, worker: str, flows: Collection[tuple[str, str]], limit: int) -> tuple[list[Claimed], Latch]:
        claimed: list[Claimed] = []
        with self._lock:
            while len(claimed) < limit and (entry := self._store.take_ready(flows)) is not None:
                status = "compensating" if entry.run.status == "compensating" else "running"
                epoch = entry.run.epoch + 1
                run = self._store.change(entry, status=status, worker=worker, epoch=epoch, updated=self._now)
                claimed.append(Claimed(run, list(entry.journal.values())))
            if claimed:
                self._stir()
            return claimed, self._stirred

    def _release(self, entry: Entry) -> None:
        undoing = entry.run.status == "compensating"
        self._store.change(entry, worker="", status="compensating" if undoing else "pending", updated=self._now)
        self._store.make_ready(entry)
        self._stir()

    def _set_going(self, entry: Entry) -> None:
        """Let a run that waits or rests go on."""
        if is_at_rest(entry.run):
            entry.rest = Latch()
        undoing = entry.run.verdict is not None
        status: RunStatus = "compensating" if undoing else "pending"
        self._store.change(entry, status=status, updated=self._now)
        self._store.make_ready(entry)
        self._stir()

    def _is_parked(self, entry: Entry) -> bool:
        return not entry.run.worker and not is_at_rest(entry.run) and not self._store.is_ready(entry)

    def _set_timers(self, entry: Entry, records: Sequence[StepRecord], due: float | None) -> None:
        entry.due = due
        if due is not None:
            self._store.set_timer(due, entry.run.id, None)
        for record in records:
            entry.journal[record.key] = record
            if record.due is not None and record.status == "waiting":
                self._store.set_timer(record.due, entry.run.id, record.key)

    def _resolved(self, entry: Entry, record: StepRecord) -> StepRecord | None:
        """Return the record if its wait is over, before it began or in the meantime."""
        if record.status != "waiting":
            entry.journal[record.key] = record
            return None
        there = entry.journal.get(record.key)
        if there is not None and there.status != "waiting" and _is_same_wait(there, record):
            return there
        letters = entry.mailbox.get(record.signal or "")
        if not letters:
            return None
        read = entry.journal[record.key] = answered(record, letters.popleft(), self._now)
        return read

    def _deliver(self, entry: Entry, name: str, letter: Letter) -> None:
        for key, record in entry.journal.items():
            if record.status == "waiting" and record.signal == name:
                entry.journal[key] = answered(record, letter, self._now)
                self._wake(entry)
                return
        entry.mailbox.setdefault(name, deque()).append(letter)

    def _end_wait(self, entry: Entry, key: str | None, due: float) -> None:
        """A timer went off: for a record, for the whole run, or for a run whose retention is over."""
        if key is None:
            if entry.expires is not None and entry.expires <= due:
                self._store.remove(entry)
            elif entry.due == due:
                self._wake(entry)
            return
        record = entry.journal.get(key)
        if record is not None and record.status == "waiting" and record.due == due:
            entry.journal[key] = replace(record, status="due")
            self._wake(entry)

    def _wake(self, entry: Entry) -> None:
        if self._is_parked(entry):
            self._set_going(entry)

    def _end(self, entry: Entry) -> None:
        run = entry.run
        entry.mailbox.clear()
        if run.retention is not None:
            entry.expires = self._now + run.retention
            self._store.set_timer(entry.expires, run.id, None)
        parent = self._store.entries.get(run.parent or "")
        if parent is not None and parent.run.status not in ENDED:
            self._deliver(parent, f"@child:{run.id}", Letter(run.result, run.error))

    def _use_up(self, fire: Fire, id: str) -> bool:
        """Take a fire. Returns whether it starts a run."""
        due, last = self._store.schedules.get(fire.schedule, (0.0, ""))
        if due >= fire.due:
            return False
        before = self._store.entries.get(last)
        busy = before is not None and before.run.status not in ENDED
        starts = fire.overlap == "allow" or not busy
        self._store.schedules[fire.schedule] = (fire.due, id if starts else last)
        return starts

    def _stir(self) -> None:
        """Wake whoever waits for something to do, or for news."""
        stirred, self._stirred = self._stirred, Latch()
        told, self._told = self._told, Latch()
        stirred.set()
        told.set()


def _is_same_wait(there: StepRecord, record: StepRecord) -> bool:
    return (there.attempts, there.due, there.signal) == (record.attempts, record.due, record.signal)
