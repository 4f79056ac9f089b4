"""Working on runs: claiming them, playing their functions, compensating, bringing them to rest."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import Any

import msgspec

from pilotis.bridge import Latch, finish
from pilotis.codec import JSON
from pilotis.errors import InvalidInputError, UsageError
from pilotis.modules.workflow.beginnings import cancel_children
from pilotis.modules.workflow.calls import UndoCall
from pilotis.modules.workflow.faults import cancelled_fault, fault_of
from pilotis.modules.workflow.flows import FLOWS, Flow, find_flow
from pilotis.modules.workflow.limits import TimeIsUp, call_within
from pilotis.modules.workflow.model import RETURN, Claimed, Ending, Fault, Fence, RunStatus, StepRecord
from pilotis.modules.workflow.provider import FencedError
from pilotis.modules.workflow.replay import UNORDERED, Desk, Replay, Stop
from pilotis.modules.workflow.scope import Unwind, place
from pilotis.modules.workflow.staging import unpack_events
from pilotis.runtime import Job
from pilotis.scopes import stage

logger = logging.getLogger("pilotis.workflow")

PATIENCE = 1.0
"""Seconds to wait after the provider failed."""
CLAIM_SECONDS = 30.0


class Worker:
    """Claims runs while there is room, and works on each in a job of its own."""

    def __init__(self, desk: Desk, name: str, concurrency: int) -> None:
        self._desk = desk
        self._name = name
        self._concurrency = concurrency
        self._lock = threading.Lock()
        self._active: dict[Stint, Job[Any]] = {}
        """What is worked on. A run that was taken away and came back is there twice, until the first notices."""
        self._room = Latch()
        self._job: Job[Any] | None = None

    def begin(self) -> None:
        """Start claiming, unless that was done."""
        with self._lock:
            if self._job is None:
                self._job = self._desk.context.runtime.spawn(self._claim_forever(), "pilotis-workflow-claims")

    def cancel(self, id: str) -> None:
        """Tell a run that is worked on here at once that it was cancelled."""
        with self._lock:
            active = [stint for stint in self._active if stint.id == id]
        for stint in active:
            stint.cancel()

    async def stop(self, grace: float) -> None:
        """Claim nothing more.

        Runs are given back at their next step; after `grace` real seconds in the middle of one.
        """
        self._desk.closing.set()
        self._room.set()
        if self._job is None:
            return
        await self._job.end()
        jobs = list(self._active.values())
        over = time.monotonic() + grace
        for job in jobs:
            await job.ended.wait(over - time.monotonic())
            job.cancel()
        for job in jobs:
            await job.ended.wait()
        await self._part()

    async def _part(self) -> None:
        """Say that this worker is gone. Where nobody can be told, that is found out as of one that was killed."""
        try:
            await self._desk.provider.bury(self._name)
        except Exception as error:
            logger.warning("worker %s ends without a word to its provider: %s", self._name, error)

    async def _claim_forever(self) -> None:
        while not self._desk.closing.is_set():
            try:
                await self._claim()
            except Exception:
                logger.exception("runs could not be claimed; trying again in %g s", PATIENCE)
                await self._desk.context.clock.wait(self._desk.closing, PATIENCE)

    async def _claim(self) -> None:
        await self._desk.context.clock.wait(self._room_for_more(), None)
        provider = self._desk.provider
        due = await provider.fire()
        timeout = CLAIM_SECONDS if due is None else min(due, CLAIM_SECONDS)
        free = self._concurrency - len(self._active)
        for claimed in await provider.claim(self._name, FLOWS.keys(), free, timeout):
            self._work_on(claimed)

    def _room_for_more(self) -> Latch:
        with self._lock:
            room = self._room = Latch()
            if len(self._active) < self._concurrency:
                room.set()
        return room

    def _work_on(self, claimed: Claimed) -> None:
        stint = Stint(self._desk, claimed)
        with self._lock:
            job = self._desk.context.runtime.spawn(self._work(stint), f"pilotis-workflow-{claimed.run.id}")
            self._active[stint] = job

    async def _work(self, stint: Stint) -> None:
        try:
            await stint.work()
        finally:
            with self._lock:
                self._active.pop(stint, None)
                self._room.set()


class Stint:
    """One worker's work on one run, from its claim until it waits, rests or is given back."""

    def __init__(self, desk: Desk, claimed: Claimed) -> None:
        self._desk = desk
        self.id = claimed.run.id
        run = claimed.run
        flow = find_flow(run.name, run.version, run.origin)
        assert flow is not None, "only runs of known workflows are claimed"
        self._replay = Replay(desk, claimed, flow)

    @property
    def _flow(self) -> Flow[..., Any]:
        return self._replay.flow

    def cancel(self) -> None:
        """Note that the run was asked to be cancelled."""
        self._replay.cancelled = True

    async def work(self) -> None:
        """Go as far as the run can go now. Gives it back where the provider fails, and when the engine closes."""
        try:
            await self._go_on_or_leave()
        except (FencedError, Unwind):
            self._replay.stopped = Stop.FENCED
        except BaseException as error:
            if isinstance(error, Exception):
                logger.warning("run %s is given back: %s", self.id, error)
                await self._desk.context.clock.wait(self._desk.closing, PATIENCE)
            self._replay.stopped = Stop.LOST
            await finish(self._give_back())
            if not isinstance(error, Exception):
                raise

    async def _go_on_or_leave(self) -> None:
        try:
            await self._go_on()
        except Unwind:
            await self._leave()

    async def _go_on(self) -> None:
        returned = self._replay.journal.get(RETURN)
        if self._replay.run.status == "compensating":
            await self._compensate()
        elif returned is not None:
            await self._release(returned)
        elif self._replay.cancelled:
            await self._cancelled()
        else:
            await self._play()

    # The function

    async def _play(self) -> None:
        replay = self._replay
        try:
            value = await self._call_function()
        except Unwind:
            pass
        except Exception as error:
            replay.check_reached()
            if replay.stopped is None:
                replay.stopped = Stop.OVER
                await self._failed(fault_of(error))
                return
        else:
            replay.check_reached()
            if replay.stopped is None:
                await self._returned(value)
                return
        await self._leave()

    async def _call_function(self) -> Any:
        replay, run = self._replay, self._replay.run
        args = self._flow.decode(run.input)
        left = None if run.deadline is None or replay.collecting else run.deadline - self._desk.context.clock.time()
        if left is not None and left <= 0:
            replay.stop(Stop.EXPIRED)
        here, staging = place.set(replay), stage.set(replay)
        try:
            return await call_within(self._desk.context, self._desk.strays, left, self._flow.function, *args)
        except TimeIsUp:
            replay.stop(Stop.EXPIRED)
        finally:
            place.reset(here)
            stage.reset(staging)

    async def _leave(self) -> None:
        """Do what has to follow when the function was left before its end."""
        replay = self._replay
        match replay.stopped:
            case Stop.CANCELLED:
                await self._cancelled()
            case Stop.EXPIRED:
                limit = replay.run.timeout or 0.0
                await self._failed(
                    Fault(type="OperationTimeoutError", message=f"the run did not end within {limit:g} s")
                )
            case Stop.STUCK:
                logger.error("run %s is stuck: %s", self.id, replay.stuck)
                await self._rest("stuck", error=self._stuck_fault())
            case Stop.LOST:
                logger.warning("run %s is given back, the provider failed: %s", self.id, replay.lost)
                await self._desk.context.clock.wait(self._desk.closing, PATIENCE)
                await self._give_back()
            case Stop.CLOSING:
                await self._give_back()
            case _:
                return

    async def _returned(self, value: object) -> None:
        replay = self._replay
        try:
            result = JSON.encode(value, f"result of workflow {self._flow.name!r}")
        except InvalidInputError as error:
            replay.stopped = Stop.OVER
            await self._failed(fault_of(error))
            return
        if not replay.staged:
            replay.stopped = Stop.OVER
            await self._rest("completed", result=result)
            return
        now = self._desk.context.clock.time()
        record = StepRecord(
            key=RETURN, order=UNORDERED, status="done", result=result, staged=replay.staged, began=now, ended=now
        )
        await replay.commit(record)
        replay.stopped = Stop.OVER
        await self._release(record)

    async def _release(self, returned: StepRecord) -> None:
        """Let the events of a completed run leave, and finish it. Repeated after a crash, under the same ids."""
        bus = self._desk.bus or self._desk.find_bus()
        if bus is None:
            raise UsageError("the run has events to send, and this engine belongs to no app with an event module")
        await bus.asend(unpack_events(returned.staged))
        await self._rest("completed", result=returned.result)

    def _stuck_fault(self) -> Fault:
        """Return why the run is stuck, after why it is compensated, if it is: that is said when it ends after all."""
        replay = self._replay
        fault = fault_of(replay.stuck or RuntimeError("unknown"))
        if replay.run.verdict is None or replay.run.error is None:
            return fault
        return msgspec.structs.replace(replay.run.error, message=f"{replay.run.error.message}; stuck: {fault.message}")

    # The end

    async def _cancelled(self) -> None:
        await self._turn(cancelled_fault(self.id), "cancelled", "cancelled")

    async def _failed(self, fault: Fault) -> None:
        await self._turn(fault, "failed", "compensated")

    async def _turn(self, fault: Fault, plain: RunStatus, verdict: RunStatus) -> None:
        """Turn to the compensations, or come to rest where there is nothing to compensate."""
        await cancel_children(self._desk.provider, self._replay.journal.values())
        if not self._undoable():
            await self._rest(plain, error=fault)
            return
        before = self._replay
        run = await self._desk.provider.compensate(before.fence, fault, verdict)
        self._replay = Replay(self._desk, Claimed(run, list(before.journal.values())), before.flow)
        self._replay.undoable = before.undoable
        await self._compensate()

    async def _rest(self, status: RunStatus, *, result: bytes | None = None, error: Fault | None = None) -> None:
        await self._desk.provider.finish(self._replay.fence, Ending(status=status, result=result, error=error))

    async def _give_back(self) -> None:
        """Let go of the run, however long the provider fails, unless the engine closes."""
        while True:
            try:
                await self._let_go()
                return
            except Exception:
                logger.exception("run %s could not be given back", self.id)
            if await self._desk.context.clock.wait(self._desk.closing, PATIENCE):
                return

    async def _let_go(self) -> None:
        provider, replay = self._desk.provider, self._replay
        with contextlib.suppress(FencedError):
            await provider.give_back(replay.fence)
            return
        run = await provider.load(self.id)
        turned = Fence(self.id, replay.fence.epoch + 1)
        if run is not None and run.status == "compensating" and (run.epoch, replay.run.verdict) == (turned.epoch, None):
            with contextlib.suppress(FencedError):  # it did turn to its compensations, and only the answer was lost
                await provider.give_back(turned)

    # Compensating

    def _undoable(self) -> list[StepRecord]:
        return [record for record in self._replay.journal.values() if record.undo and record.status == "done"]

    async def _compensate(self) -> None:
        replay, done = self._replay, self._undoable()
        if missing := {record.key for record in done} - replay.undoable.keys():
            await self._collect(missing)
        replay.undoing = True
        for group in sorted({record.group for record in done}, reverse=True):
            keys = [record.key for record in done if record.group == group]
            await replay.settle([UndoCall(replay, replay.undoable[key]) for key in keys])
        await self._compensated()

    async def _collect(self, missing: set[str]) -> None:
        """Run the function again, as far as it is recorded, to learn how its steps are undone."""
        replay = self._replay
        replay.wanted = missing
        with contextlib.suppress(Exception, Unwind):
            await self._call_function()
        if replay.stopped is Stop.COLLECTED:
            replay.stopped = None
        if replay.stopped is not None:
            raise Unwind
        if missing := missing - replay.undoable.keys():
            replay.mismatch(f"{sorted(missing)} are to be compensated, and the code does not call them any more")
        replay.wanted = set()

    async def _compensated(self) -> None:
        replay = self._replay
        failed = [record for record in replay.journal.values() if record.key[0] == "~" and record.status == "failed"]
        if not failed:
            await self._rest(replay.run.verdict or "compensated", error=replay.run.error)
            return
        what = ", ".join(f"{record.key[1:]!r} ({record.error.message})" for record in failed if record.error)
        before = "" if replay.run.error is None else f"{replay.run.error.message}; "
        kind = "CompensationFailed" if replay.run.error is None else replay.run.error.type
        await self._rest("failed", error=Fault(type=kind, message=f"{before}not compensated: {what}"))
