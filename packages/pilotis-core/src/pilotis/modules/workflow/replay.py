"""One execution of a run: its function from the top, with recorded calls answered from the journal."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any, NoReturn, TypeVar

from msgspec.structs import replace

from pilotis.bridge import Latch, gather, running_loop
from pilotis.codec import JSON
from pilotis.context import Context
from pilotis.errors import NonDeterminismError, UsageError
from pilotis.modules.workflow.calls import Call, StepCall
from pilotis.modules.workflow.decorators import Bound, Step
from pilotis.modules.workflow.flows import Flow
from pilotis.modules.workflow.limits import Strays
from pilotis.modules.workflow.model import Claimed, Fence, StepRecord
from pilotis.modules.workflow.provider import FencedError, WorkflowProvider
from pilotis.modules.workflow.scope import Unwind
from pilotis.modules.workflow.staging import pack_events
from pilotis.scopes import held_locks

R = TypeVar("R")

UNORDERED = -1
"""The order of what may be inserted: markers of `patched`, and compensations."""


class Stop(enum.Enum):
    """Why a workflow function was left before its end."""

    PARKED = enum.auto()
    CANCELLED = enum.auto()
    STUCK = enum.auto()
    COLLECTED = enum.auto()
    FENCED = enum.auto()
    LOST = enum.auto()
    EXPIRED = enum.auto()
    OVER = enum.auto()
    CLOSING = enum.auto()


class Desk:
    """What an engine lends to the runs it works on."""

    def __init__(
        self, provider: WorkflowProvider, context: Context, retention: float | None, find_bus: Callable[[], Any]
    ) -> None:
        self.provider = provider
        self.context = context
        self.retention = retention
        self.find_bus = find_bus
        self.bus: Any = None
        """The event bus whose events were staged here, once there were any."""
        self.after_fork()

    def after_fork(self) -> None:
        """Nothing is under way in the child."""
        self.strays = Strays()
        self.closing = Latch()


class Replay:
    """The state of one execution. Used by one thread or task at a time, except inside `parallel`."""

    def __init__(self, desk: Desk, claimed: Claimed, flow: Flow[..., Any]) -> None:
        self.desk = desk
        self.run = claimed.run
        self.flow = flow
        self.fence = Fence(self.run.id, self.run.epoch)
        self.journal = {record.key: record for record in claimed.journal}
        self.wanted: set[str] = set()
        """The steps of which it has to be learned how they are undone: until then only recorded calls are answered."""
        self.undoing = False
        self.cancelled = self.run.cancelled
        self.stopped: Stop | None = None
        self.stuck: NonDeterminismError | None = None
        self.lost: Exception | None = None
        self.undoable: dict[str, StepCall] = {}
        self.staged: list[bytes] = []
        self._by_order = {record.order: record.key for record in claimed.journal if record.order != UNORDERED}
        self._unreached = set(self._by_order.values())
        self._counts: dict[str, int] = {}
        self._order = 0
        self._notes: list[StepRecord] = []
        self._busy: str | None = None
        self._side_by_side = False

    @property
    def collecting(self) -> bool:
        """Whether the function runs only to learn how its steps are undone."""
        return bool(self.wanted)

    @property
    def replaying(self) -> bool:
        """Whether there are recorded calls that the function has not reached again."""
        return bool(self._unreached)

    # What the function calls

    async def step(self, step: Step[..., Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer the call of a step."""
        return await self.call(lambda: StepCall(self, step, args, kwargs))

    async def parallel(self, steps: Sequence[Bound[Any]]) -> tuple[Any, ...]:
        """Answer several steps at once. All come to an end; then the first error, in their order, is raised."""
        if not steps:
            return ()
        with self._alone("workflow.parallel"):
            group = self._order
            calls = [StepCall(self, bound.step, bound.args, bound.kwargs, group) for bound in steps]
            records = await self.settle(calls)
        return tuple([call.answer(record) for call, record in zip(calls, records, strict=True)])

    async def call(self, make: Callable[[], Call]) -> Any:
        """Answer one call."""
        with self._alone("a step"):
            call = make()
            (record,) = await self.settle([call])
        return call.answer(record)

    def note(self, name: str, make: Callable[[], object], kind: Any, *, ordered: bool = True) -> Any:
        """Answer with a value that is made once, and written before the next step begins."""
        key, order = self.take(name) if ordered else (name, UNORDERED)
        record = self.journal.get(key)
        if record is None:
            if ordered or not self.replaying:  # `patched` may be new in the middle of what is recorded
                self.at_frontier()
            now = self.desk.context.clock.time()
            value = JSON.encode(make(), name)
            record = StepRecord(key=key, order=order, status="done", result=value, group=order, began=now, ended=now)
            self.journal[key] = record
            self._notes.append(record)
        assert record.result is not None
        return JSON.decode(record.result, kind)

    async def stage(self, bus: Any, messages: Any) -> None:
        """Keep events of the workflow function until the run completes; a replay stages the same ones again."""
        self.staged += self.packed(bus, messages, f"{self.run.id}/{len(self.staged)}")

    def packed(self, bus: Any, messages: Any, prefix: str) -> list[bytes]:
        """Return events as they are recorded, with ids that are the same on every replay."""
        if self.desk.bus not in (None, bus):
            raise UsageError("a workflow stages the events of one bus only; emit those of another one with now=True")
        self.desk.bus = bus
        return pack_events(messages, prefix)

    # What the calls use

    def take(self, name: str) -> tuple[str, int]:
        """Return the key and the order of a call that the function makes now."""
        self._check()
        count = self._counts[name] = self._counts.get(name, 0) + 1
        key = name if count == 1 else f"{name}#{count}"
        order, self._order = self._order, self._order + 1
        recorded = self._by_order.get(order)
        if recorded is not None and recorded != key:
            self.mismatch(f"call {order + 1} was {recorded!r}, and the code now calls {key!r} there")
        if recorded is None and key in self.journal:
            self.mismatch(f"{key!r} was call {self.journal[key].order + 1}, and the code now makes it call {order + 1}")
        self._unreached.discard(key)
        return key, order

    def note_done(self, call: StepCall) -> None:
        """Keep a step that may have to be undone. Leaves the function when it ran only to learn of this one."""
        self.undoable[call.key] = call
        if self.wanted == {call.key}:
            self.stop(Stop.COLLECTED)
        self.wanted.discard(call.key)

    def _check(self) -> None:
        """Leave the function, once more if need be, unless it has something to do."""
        self._check_alive()
        if self.cancelled and not self.collecting and not self.undoing:
            self.stop(Stop.CANCELLED)

    def at_frontier(self) -> None:
        """Called before anything new is done, and once for the steps of a `parallel`: they begin together."""
        if self._side_by_side:
            return
        self._check()
        if self.collecting:
            self.stop(Stop.COLLECTED)
        if self.desk.closing.is_set():
            self.stop(Stop.CLOSING)

    def stop(self, why: Stop) -> NoReturn:
        """Leave the function. The first reason counts."""
        self.stopped = self.stopped or why
        raise Unwind

    def mismatch(self, what: str) -> NoReturn:
        """Leave the function, because the journal was written by other code."""
        self.stuck = NonDeterminismError(
            f"run {self.run.id!r} of workflow {self.flow.name!r}: {what}. Deploy code that fits the history, or guard "
            f'the change with workflow.patched("...") or a new version='
        )
        self.stop(Stop.STUCK)

    def check_reached(self) -> None:
        """Called when the function has ended: everything recorded must have been reached."""
        if self.stopped is None and self._unreached:
            missing = min(self._unreached, key=lambda key: self.journal[key].order)
            with contextlib.suppress(Unwind):
                self.mismatch(
                    f"call {self.journal[missing].order + 1} was {missing!r}, and the code now ends before it"
                )

    async def commit(self, record: StepRecord) -> StepRecord:
        """Write a record, and the notes before it."""
        self._check_alive()
        self.cancelled |= await self.write(self.desk.provider.commit(self.fence, [*self._notes, record]))
        self._notes.clear()
        self.journal[record.key] = record
        return record

    async def flush(self) -> None:
        """Write the notes, so that what a step does with them can be repeated."""
        if self._notes:
            self.cancelled |= await self.write(self.desk.provider.commit(self.fence, self._notes))
            self._notes.clear()

    def _check_alive(self) -> None:
        """Leave a function that was stopped from outside: its late results are refused."""
        if self.stopped is not None:
            raise Unwind

    async def settle(self, calls: Sequence[Call]) -> list[StepRecord]:
        """Bring calls to their ends. Leaves the function where one of them has to wait."""
        while True:
            records = await self._advance(calls)
            waiting = [record for record in records if record.status == "waiting"]
            if not waiting:
                return records
            await self._wait(waiting)

    async def _advance(self, calls: Sequence[Call]) -> list[StepRecord]:
        if len(calls) == 1 or all(call.is_over for call in calls):
            return [await call.advance() for call in calls]
        if running_loop() is None:
            return await self.desk.context.runtime.run(self._together(calls))
        return await self._together(calls)

    async def _together(self, calls: Sequence[Call]) -> list[StepRecord]:
        self.at_frontier()
        self._side_by_side = True
        try:
            return await gather(*(call.advance() for call in calls))
        finally:
            self._side_by_side = False

    async def _wait(self, waiting: list[StepRecord]) -> None:
        if self.collecting:
            self.stop(Stop.COLLECTED)
        if held_locks.get():
            await self._wait_in_place(waiting)
        else:
            await self._park(waiting)

    async def _park(self, waiting: list[StepRecord]) -> None:
        self._check_alive()
        deadline = None if self.undoing else self.run.deadline
        parked = await self.write(self.desk.provider.park(self.fence, [*self._notes, *waiting], deadline))
        self._notes.clear()
        for record in (*waiting, *parked.resolved):  # what is not resolved waits on
            self.journal[record.key] = record
        if parked.cancelled and not self.undoing:
            self.cancelled = True
            self.stop(Stop.CANCELLED)
        if not parked.resolved:
            self.stop(Stop.PARKED)

    async def _wait_in_place(self, waiting: list[StepRecord]) -> None:
        """Wait for the retry of a step without leaving the block that holds a lock."""
        for record in waiting:
            if record.signal is not None or record.due is None or record.key.startswith("@"):
                keys = ", ".join(sorted(held_locks.get()))
                raise UsageError(
                    f"{record.key!r} waits inside locking.hold({keys}): the lock would be given up while it waits. "
                    f"Leave the block first"
                )
        due = min(record.due for record in waiting if record.due is not None)
        await self.desk.context.clock.wait(self.desk.closing, due - self.desk.context.clock.time())
        for record in waiting:
            self.journal[record.key] = await self.commit(replace(record, status="due"))

    async def write(self, writing: Coroutine[Any, Any, R]) -> R:
        """Call the provider. Its failures leave the function: user code never sees them."""
        try:
            return await writing
        except FencedError:
            self.stopped = self.stopped or Stop.FENCED
        except Exception as error:
            self.stopped = self.stopped or Stop.LOST
            self.lost = error
        raise Unwind

    @contextlib.contextmanager
    def _alone(self, what: str) -> Generator[None, None, None]:
        if self._busy is not None:
            raise UsageError(
                f"{what} of run {self.run.id!r} began while {self._busy} was under way. Steps of one run overlap only "
                f"in workflow.parallel or workflow.aparallel"
            )
        self._busy = what
        try:
            yield
        finally:
            self._busy = None
