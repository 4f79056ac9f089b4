"""What a workflow function can call: each kind knows how to go on from its record."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from pilotis.codec import CANONICAL, JSON
from pilotis.errors import InvalidInputError, OperationTimeoutError, StepInterruptedError
from pilotis.modules.workflow.faults import PermanentError, fault_of, run_error, step_error
from pilotis.modules.workflow.flows import typed_values
from pilotis.modules.workflow.limits import TimeIsUp, call_within
from pilotis.modules.workflow.model import ENDED, Fault, StepRecord
from pilotis.modules.workflow.scope import Body, place
from pilotis.scopes import stage

if TYPE_CHECKING:
    from pilotis.modules.workflow.decorators import Step
    from pilotis.modules.workflow.replay import Replay


class Call(ABC):
    """One call of a workflow function, under its key."""

    key: str
    order: int

    def __init__(self, replay: Replay) -> None:
        self.replay = replay

    @property
    def record(self) -> StepRecord | None:
        """What the journal has of it."""
        return self.replay.journal.get(self.key)

    @property
    def is_over(self) -> bool:
        """Whether the journal has its end."""
        return self.record is not None and self.record.status in ("done", "failed")

    @property
    def now(self) -> float:
        return self.replay.desk.context.clock.time()

    @abstractmethod
    async def advance(self) -> StepRecord:
        """Go on from the record. The answer is at an end, or waiting and not written yet."""

    @abstractmethod
    def answer(self, record: StepRecord) -> Any:
        """Return what the function gets, or raise it."""


class StepCall(Call):
    """A step: tried until it is done, or has failed for good."""

    def __init__(
        self, replay: Replay, step: Step[..., Any, Any], args: Any, kwargs: Any, group: int | None = None
    ) -> None:
        super().__init__(replay)
        self.step = step
        self.args, self.kwargs = step.arguments(args, kwargs)
        self.input = CANONICAL.encode([self.args, self.kwargs], f"arguments of step {step.name!r}")
        self.digest = blake2b(self.input, digest_size=8).hexdigest()
        self.key, self.order = replay.take(step.name)
        self.group = self.order if group is None else group
        if self.record is not None:
            self._recognise(self.record)

    async def advance(self) -> StepRecord:
        record = self.record
        if record is None:
            return await self._attempt(1)
        if record.status == "started":
            return await self._interrupted(record)
        if record.status == "due":
            return await self._resume(record)
        self._note_done(record)
        return record

    def answer(self, record: StepRecord) -> Any:
        self.replay.staged += record.staged
        if record.error is None:
            return None if record.result is None else JSON.decode(record.result, self.step.returns, self.key)
        if self.step.options.on_failure == "continue":
            return None
        raise step_error(record.error, self.key, self.step.options.raises)

    def _recognise(self, record: StepRecord) -> None:
        if record.digest != self.digest:
            self.replay.mismatch(f"{self.key!r} had other arguments than the code gives it now")
        if record.group != self.group:
            self.replay.mismatch(f"{self.key!r} ran beside other steps than the code has run beside it now")
        self._note_done(record)

    def _note_done(self, record: StepRecord) -> None:
        if record.undo and record.status == "done":
            self.replay.note_done(self)

    async def _resume(self, record: StepRecord) -> StepRecord:
        """Go on after a wait: for the next attempt, or for the outside, which failed or did not answer."""
        self.replay.at_frontier()
        if record.signal is None:
            return await self._attempt(record.attempts + 1)
        late = Fault(type="OperationTimeoutError", message=f"nobody completed it in {self.step.options.timeout:g} s")
        return await self._failed(record.attempts, record.error or late)

    async def _attempt(self, number: int) -> StepRecord:
        self.replay.at_frontier()
        await self.replay.flush()
        if self.step.options.once:
            await self.replay.commit(self._written("started", number))
        body = Body(self.replay, self.key)
        try:
            result = self._encoded(await self._execute(body))
        except Exception as error:
            return await self._failed(number, fault_of(error, self.step.options.raises))
        if self.step.options.external:
            return self._awaiting(number, body)
        record = await self.replay.commit(self._written("done", number, result=result, staged=body.staged))
        self._note_done(record)
        return record

    async def _execute(self, body: Body) -> Any:
        here, staging = place.set(body), stage.set(body)
        timeout = None if self.step.options.external else self.step.options.timeout
        desk = self.replay.desk
        try:
            return await call_within(desk.context, desk.strays, timeout, self.step.function, *self.args, **self.kwargs)
        except TimeIsUp:
            raise OperationTimeoutError(f"not done after {timeout:g} s") from None
        finally:
            place.reset(here)
            stage.reset(staging)

    def _encoded(self, value: object) -> bytes:
        """Return the result as it is recorded, if it can be read again."""
        if self.step.options.external:
            return b""
        at = f"result of step {self.key!r}"
        try:
            data = JSON.encode(value, at)
            JSON.decode(data, self.step.returns, at)
        except InvalidInputError as error:
            raise PermanentResultError(str(error)) from error
        return data

    async def _failed(self, number: int, fault: Fault) -> StepRecord:
        options = self.step.options
        if fault.permanent or number >= options.attempts:
            return await self.replay.commit(self._written("failed", number, error=fault))
        delay = options.backoff.delay(number)
        return replace(self._written("waiting", number, error=fault), due=self.now + delay)

    def _awaiting(self, number: int, body: Body) -> StepRecord:
        timeout = self.step.options.timeout
        due = None if timeout is None else self.now + timeout
        record = self._written("waiting", number, staged=body.staged)
        return replace(record, due=due, signal=f"@step:{self.key}")

    async def _interrupted(self, record: StepRecord) -> StepRecord:
        error = StepInterruptedError(
            f"step {self.key!r} was interrupted, and once=True forbids to run it again; nobody knows how far it came"
        )
        self.replay.at_frontier()
        return await self.replay.commit(self._written("failed", record.attempts, error=fault_of(error)))

    def _written(
        self, status: Any, attempts: int, *, result: bytes | None = None, error: Fault | None = None, staged: Any = ()
    ) -> StepRecord:
        before, now = self.record, self.now
        return StepRecord(
            key=self.key,
            order=self.order,
            status=status,
            digest=self.digest,
            attempts=attempts,
            result=result,
            error=error,
            undo=self.step.undo is not None and not self.step.options.no_compensation,
            group=self.group,
            staged=list(staged),
            began=now if before is None else before.began,
            ended=now if status in ("done", "failed") else None,
        )


class PermanentResultError(PermanentError):
    """What a step returned cannot be recorded, or does not fit its annotation."""


class UndoCall(StepCall):
    """The compensation of a step that was done."""

    def __init__(self, replay: Replay, done: StepCall) -> None:
        Call.__init__(self, replay)
        assert done.step.undo is not None
        self.done = done
        self.step = done.step.undo
        self.key, self.order, self.group, self.digest = f"~{done.key}", -1, done.group, ""

    async def _execute(self, body: Body) -> Any:
        try:
            self.args, self.kwargs = self._given()
        except InvalidInputError as error:  # an external step was completed with it, or the code has changed
            raise PermanentResultError(str(error)) from error
        return await super()._execute(body)

    def _given(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what the compensation is called with: the arguments of the step, and then its result."""
        done, record = self.done, self.replay.journal[self.done.key]
        assert record.result is not None
        args, kwargs = JSON.decode(done.input, tuple[list[Any], dict[str, Any]])
        typed = typed_values(args, done.step.takes, f"arguments of step {done.key!r}")
        return (*typed, JSON.decode(record.result, done.step.returns, f"result of step {done.key!r}")), kwargs


class WaitCall(Call):
    """A wait for the time, for a signal or for a child."""

    def __init__(self, replay: Replay, name: str, timeout: float | None, signal: str | None = None) -> None:
        super().__init__(replay)
        self.name = name
        self.timeout = timeout
        self.signal = signal
        self.key, self.order = replay.take(name)

    async def advance(self) -> StepRecord:
        if self.record is not None:
            return self.record
        self.replay.at_frontier()
        now = self.now
        return StepRecord(
            key=self.key,
            order=self.order,
            status="waiting",
            due=None if self.timeout is None else now + self.timeout,
            signal=self.signal,
            group=self.order,
            began=now,
        )


class SleepCall(WaitCall):
    """A wait for the time alone."""

    def answer(self, record: StepRecord) -> None:
        return None


class SignalCall(WaitCall):
    """A wait for a signal."""

    type: Any = Any

    def answer(self, record: StepRecord) -> Any:
        if record.result is None:
            raise OperationTimeoutError(f"no signal {self.signal!r} came within {self.timeout:g} s")
        return JSON.decode(record.result, self.type, f"signal {self.signal!r}")


class ChildCall(WaitCall):
    """A wait for the end of a child."""

    child: str = ""
    type: Any = Any

    async def advance(self) -> StepRecord:
        """Look at the child before waiting: it may have ended long ago, and been waited for by another attempt."""
        record = await super().advance()
        if record.status != "waiting" or self.record is not None:
            return record
        run = await self.replay.write(self.replay.desk.provider.load(self.child))
        if run is None or run.status not in ENDED:
            return record
        status = "done" if run.status == "completed" else "due"
        return await self.replay.commit(replace(record, status=status, result=run.result, error=run.error, due=None))

    def has_answer(self, record: StepRecord) -> bool:
        """Whether the child has ended."""
        return record.result is not None or record.error is not None

    def answer(self, record: StepRecord) -> Any:
        if record.error is not None:
            raise run_error(record.error, self.child)
        if record.result is None:
            raise OperationTimeoutError(f"child {self.child!r} did not end within {self.timeout:g} s")
        return JSON.decode(record.result, self.type, f"result of child {self.child!r}")


class RecordCall(Call):
    """Something the engine does once, such as starting a child."""

    def __init__(self, replay: Replay, name: str, act: Callable[[str], Any]) -> None:
        super().__init__(replay)
        self.key, self.order = replay.take(name)
        self._act = act

    async def advance(self) -> StepRecord:
        if self.record is not None:
            return self.record
        self.replay.at_frontier()
        await self.replay.flush()
        began = self.now
        result = JSON.encode(await self._act(self.key))
        return await self.replay.commit(
            StepRecord(
                key=self.key,
                order=self.order,
                status="done",
                result=result,
                group=self.order,
                began=began,
                ended=self.now,
            )
        )

    def answer(self, record: StepRecord) -> Any:
        assert record.result is not None
        return JSON.decode(record.result)
