"""The workflow engine: starts runs, works on them, and answers for them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, final

from pilotis.bridge import blocking, reset_after_fork
from pilotis.codec import JSON
from pilotis.context import Context
from pilotis.cron import cron_times
from pilotis.errors import ConflictError, NonDeterminismError, OperationTimeoutError
from pilotis.ids import new_id
from pilotis.keys import check_text
from pilotis.modules.base import Portable, diverted, operation
from pilotis.modules.workflow.beginnings import (
    check_same,
    copied_run,
    kept,
    new_run,
    revive,
    send_back,
    without_unfinished_children,
)
from pilotis.modules.workflow.faults import fault_of, run_error
from pilotis.modules.workflow.flows import Flow, check_flow, find_flow
from pilotis.modules.workflow.model import (
    AT_REST,
    ENDED,
    STATUSES,
    Fault,
    Letter,
    RunInfo,
    RunQuery,
    RunRecord,
    RunStatus,
    StepInfo,
    StepRecord,
    run_info,
    step_info,
)
from pilotis.modules.workflow.outlook import RunOutlook
from pilotis.modules.workflow.provider import WorkflowProvider
from pilotis.modules.workflow.replay import Desk
from pilotis.modules.workflow.runs import Run, check_message, run_query, unknown_run
from pilotis.modules.workflow.schedules import Schedules
from pilotis.modules.workflow.space import check_signal
from pilotis.modules.workflow.subscriptions import Subscriptions
from pilotis.modules.workflow.worker import Worker
from pilotis.runtime import check_function
from pilotis.scopes import transaction
from pilotis.settings.model import WorkflowSettings


@final
class WorkflowEngine(RunOutlook):
    """Starts workflows, works on them unless the role is "emit", and answers for their runs."""

    module = "workflow"

    def __init__(
        self, provider: WorkflowProvider, *, settings: WorkflowSettings | None = None, context: Context | None = None
    ) -> None:
        super().__init__(provider, context=context)
        self._settings = settings or WorkflowSettings()
        self._desk = Desk(self._provider, self.context, self._settings.retention, self._find_bus)
        self._subscriptions = Subscriptions(self._desk)
        self._schedules = Schedules(self._desk)
        self._worker = self._new_worker()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Work on nothing of the parent's; the next verb begins anew."""
        self._desk.after_fork()
        self._subscriptions.after_fork()
        self._schedules.after_fork()
        self._worker = self._new_worker()

    def substitute(self, stand_in: Portable[Any] | None) -> None:
        """Have another engine answer every verb, until None takes it back. What was declared is declared there too."""
        super().substitute(stand_in)
        if isinstance(stand_in, WorkflowEngine):
            stand_in._schedules.take_over(self._schedules)
            stand_in._subscriptions.take_over(self._subscriptions)
            stand_in._begin_schedules()

    def _new_worker(self) -> Worker:
        return Worker(self._desk, new_id(self.context.clock), self._settings.concurrency)

    @property
    @diverted
    def stray_calls(self) -> int:
        """How many plain functions still run although their time is over. Nothing can end them but themselves."""
        return len(self._desk.strays)

    # Starting and finding

    @operation
    async def astart(self, flow: Flow[..., Any] | str, *args: Any, id: str | None = None, now: bool = False) -> Run:
        """Start a run, or return the one that has the `id` already.

        Inside `event.transaction` it starts once that is committed, unless `now` is true. Raises `ConflictError` when
        the run of that id has another workflow or other arguments, and InvalidInputError for arguments that cannot be
        encoded or that the function does not take.
        """
        found = check_flow(flow)
        run = self._new_run(found, args, id)
        around = None if now else transaction.get()
        await (self.abegin(run) if around is None else around.stage_run(run, self.instance))
        return Run(self, run.id, found.returns)

    start = blocking(astart)

    @operation
    async def abegin(self, run: RunRecord) -> None:
        """Begin a run that was made elsewhere, such as in a transaction. Doing so again does nothing.

        Raises `ConflictError` when the run of that id has another workflow or other arguments.
        """
        await self._subscriptions.ready()
        with self.calling("start"):
            there, new = await self._provider.start(run)
        if there is None or not new:
            check_same(there, run)
        self._consume()

    begin = blocking(abegin)

    @operation
    async def aget(self, id: str) -> Run:
        """Return a run by its id. Raises `NotFoundError`."""
        record = await self._load(id)
        return self._handle(record)

    get = blocking(aget)

    @operation
    async def ainfo(self, id: str) -> RunInfo:
        """Return what is known of a run. Raises `NotFoundError`."""
        return run_info(await self._load(id))

    info = blocking(ainfo)

    @operation
    async def afind(
        self,
        *,
        name: str | None = None,
        status: RunStatus | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> list[RunInfo]:
        """Return runs, newest first. `since` and `until` bound the time of their start."""
        query = run_query(name, status, since, until, limit)
        with self.calling("find"):
            return [run_info(run) for run in await self._provider.find(query)]

    find = blocking(afind)

    @operation
    async def ahistory(self, id: str) -> list[StepInfo]:
        """Return what a run has recorded, oldest first. Raises `NotFoundError`."""
        await self._load(id)
        with self.calling("journal"):
            journal = await self._provider.journal(id)
        return [step_info(record) for record in sorted(journal, key=lambda record: (record.began, record.order))]

    history = blocking(ahistory)

    @operation
    async def aresult_of(self, id: str, type: Any = Any, timeout: float | None = None) -> Any:
        """Wait for a run and return its result as a `type`. What `Run.result` does."""
        with self.calling("ended"):
            run = await self._provider.ended(check_text(id, "id"), timeout)
        if run is None:
            raise unknown_run(id)
        if run.status not in AT_REST:
            if timeout is None:  # it was retried a moment after it had ended
                return await self.aresult_of(id, type)
            raise OperationTimeoutError(f"run {id!r} has not ended after {timeout:g} s, it is {run.status}")
        if run.status == "stuck" and not run.crashes:
            raise NonDeterminismError(run.error.message if run.error else f"run {id!r} is stuck")
        if run.result is None:
            raise run_error(run.error, id)
        return JSON.decode(run.result, type, f"result of run {id!r}")

    # Steering

    @operation
    async def acancel(self, id: str) -> bool:
        """Have a run cancelled. Returns whether it had not ended yet. Raises `NotFoundError`."""
        with self.calling("cancel"):
            status = await self._provider.cancel(check_text(id, "id"))
        if status is None:
            raise unknown_run(id)
        self._worker.cancel(id)
        self._consume()
        return status not in ENDED

    cancel = blocking(acancel)

    @operation
    async def asignal(self, id: str, name: str, payload: object = None, *, signal_id: str | None = None) -> None:
        """Send a signal to a run. Raises `ConflictError` when it has ended, and `NotFoundError`."""
        letter = Letter(JSON.encode(payload, f"payload of signal {check_signal(name)!r}"))
        await self._deliver(id, name, letter, None if signal_id is None else check_text(signal_id, "signal id"))

    signal = blocking(asignal)

    @operation
    async def acomplete_step(self, id: str, step: str, result: object = None) -> None:
        """Bring the result of an external step. `step` is its key, such as "charge" or "charge#2".

        Raises `ConflictError` when the step or the run has ended, and `NotFoundError`.
        """
        letter = Letter(JSON.encode(result, f"result of step {check_text(step, 'step')!r}"))
        await self._check_open(id, step)
        await self._deliver(id, f"@step:{step}", letter, None)

    complete_step = blocking(acomplete_step)

    @operation
    async def afail_step(self, id: str, step: str, error: str | Exception, *, permanent: bool = False) -> None:
        """Say that an external step failed. It is tried again as its attempts allow, unless it is `permanent`.

        Raises `ConflictError` when the step or the run has ended, and `NotFoundError`.
        """
        given = error if isinstance(error, Exception) else Exception(check_message(error))
        fault = fault_of(given)
        letter = Letter(error=Fault(type=fault.type, message=fault.message, permanent=permanent or fault.permanent))
        await self._check_open(id, check_text(step, "step"))
        await self._deliver(id, f"@step:{step}", letter, None)

    fail_step = blocking(afail_step)

    @operation
    async def aretry(self, id: str, *, from_step: str | None = None) -> Run:
        """Set a run that failed, was compensated or cancelled, or is stuck, going again; its timeout begins anew.

        Steps that are done stay done, up to the one that failed, or to `from_step`; what was compensated is done again.
        Raises `ConflictError` while the run is on its way or has completed, and `NotFoundError`.
        """
        run = await self._load(id)
        if run.status not in AT_REST or (run.status == "completed" and from_step is None):
            raise ConflictError(
                f"run {id!r} is {run.status}: only one that failed, was cancelled or is stuck is retried"
            )
        with self.calling("retry"):
            await self._send_back(run, from_step)
        self._consume()
        return self._handle(run)

    retry = blocking(aretry)

    @operation
    async def afork(self, id: str, *, from_step: str | None = None, new_id: str | None = None) -> Run:
        """Start a new run with the input of another, and its records up to `from_step`. The other is left as it is.

        Without `from_step` it takes over what a retry would keep. Raises `NotFoundError`.
        """
        run = await self._load(id)
        with self.calling("fork"):
            journal = kept(await self._provider.journal(id), from_step, id)
            journal = await without_unfinished_children(self._provider, journal)
            fork = copied_run(self.context, run, self._fresh(new_id, "new_id"))
            there, new = await self._provider.start(fork, journal)
        if not new:
            raise ConflictError(f"there is a run {fork.id!r} already: {there and there.status}")
        self._consume()
        return self._handle(fork)

    fork = blocking(afork)

    # Schedules and subscriptions

    @diverted
    def schedule(
        self,
        cron: str,
        flow: Flow[..., Any] | str,
        *args: Any,
        id: str,
        overlap: Literal["skip", "allow"] = "skip",
        timezone: str = "UTC",
    ) -> None:
        """Start a run at each time of a cron expression, once for all processes that schedule it under this `id`.

        `timezone` is an IANA name such as "Europe/Paris". With "skip" a fire is left out while the run before is on its
        way. Fires that nobody was there for are not made up for. It begins when the engine is open, with the app or at
        the first verb, and needs a role that works: with the role "emit" nothing is scheduled. Does no I/O.

        Raises `ConfigurationError` for an expression that cannot be read or never comes true, for a time zone that is
        not known, for an `id` that is used, and where the extra `pilotis-core[cron]` is not installed.
        """
        found = check_flow(flow)
        data = found.encode(args)
        self._schedules.add(cron_times(cron, timezone), found, data, check_text(id, "id", maximum=200), overlap)
        self._begin_schedules()

    @diverted
    def unschedule(self, id: str) -> bool:
        """Take a schedule back in this process. Returns whether there was one."""
        return self._schedules.remove(check_text(id, "id"))

    @diverted
    def on(self, event: str, function: Callable[[RunInfo], Any]) -> Callable[[], None]:
        """Have `function(info)` called when runs enter a state, wherever they are worked on. Returns what ends it.

        `event` is "run.started", or "run." and a state, such as "run.failed"; "run.*" is all. It hears what happens
        from now on. What it raises is logged. Does no I/O.
        """
        self._open_soon()
        return self._subscriptions.add(event, check_function(function, "subscriber"))

    # Inside

    async def _started(self) -> None:
        self._subscriptions.open()
        if self.context.role == "emit":
            return
        await self._revive()
        if self._own.shared or self._schedules.any() or await self._anything_to_do():
            self._consume()

    async def _stopping(self) -> None:
        await self._subscriptions.stop()
        await self._schedules.stop()
        with self.calling("stop"):
            await self._worker.stop(self.context.patience(self._settings.grace))

    def _find_bus(self) -> Any:
        """Return the event bus of the app, where a run has events that were emitted in another process."""
        return getattr(self.owner, "event", None)

    def _consume(self) -> None:
        if self.context.role == "emit":
            return
        self._worker.begin()
        self._schedules.begin()

    def _begin_schedules(self) -> None:
        if not self.is_open:
            self._open_soon()
        elif self._schedules.any():
            self._consume()

    async def _revive(self) -> None:
        """Try stuck runs with the code of now, but not those that would kill this worker too."""
        with self.calling("revive"):
            for run in await self._provider.find(RunQuery(statuses=frozenset({"stuck"}), limit=1000)):
                if not run.crashes and find_flow(run.name, run.version, run.origin) is not None:
                    await revive(self._provider, run)

    async def _anything_to_do(self) -> bool:
        with self.calling("find"):
            return bool(await self._provider.find(RunQuery(statuses=STATUSES - AT_REST, limit=1)))

    def _new_run(self, flow: Flow[..., Any], args: tuple[Any, ...], id: str | None) -> RunRecord:
        return new_run(self.context, flow, self._fresh(id, "id"), flow.encode(args), self._settings.retention)

    def _fresh(self, id: str | None, at: str) -> str:
        return new_id(self.context.clock) if id is None else check_text(id, at)

    def _handle(self, run: RunRecord) -> Run:
        flow = find_flow(run.name, run.version, run.origin)
        return Run(self, run.id, Any if flow is None else flow.returns)

    async def _load(self, id: str) -> RunRecord:
        with self.calling("load"):
            run = await self._provider.load(check_text(id, "id"))
        if run is None:
            raise unknown_run(id)
        return run

    async def _deliver(self, id: str, name: str, letter: Letter, dedupe: str | None) -> None:
        with self.calling("signal"):
            taken = await self._provider.signal(check_text(id, "id"), name, letter, dedupe)
        if taken is None:
            raise unknown_run(id)
        if not taken:
            raise ConflictError(f"run {id!r} has ended: it takes no more signals")
        self._consume()

    async def _check_open(self, id: str, step: str) -> None:
        await self._load(id)
        with self.calling("journal"):
            journal: list[StepRecord] = await self._provider.journal(id)
        record = next((record for record in journal if record.key == step), None)
        if record is not None and record.status in ("done", "failed"):
            raise ConflictError(f"step {step!r} of run {id!r} is {record.status} already")

    async def _send_back(self, run: RunRecord, from_step: str | None) -> None:
        deadline = None if run.timeout is None else self.context.clock.time() + run.timeout
        if await send_back(self._provider, run, deadline, from_step) is None:
            raise unknown_run(run.id)
