"""`workflow`: the decorator, and the name space of what is used inside a workflow function."""

from __future__ import annotations

import inspect
import random as _random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, TypeVar, overload
from uuid import UUID, uuid4

from msgspec import UNSET, UnsetType

from pilotis.bridge import blocking, gather
from pilotis.clock import SYSTEM_CLOCK, Clock
from pilotis.durations import optional_seconds, seconds
from pilotis.errors import ConfigurationError, InvalidInputError
from pilotis.keys import check_text
from pilotis.modules.workflow.beginnings import start_record
from pilotis.modules.workflow.calls import ChildCall, RecordCall, SignalCall, SleepCall
from pilotis.modules.workflow.decorators import Bound
from pilotis.modules.workflow.flows import Flow, check_flow, enlist
from pilotis.modules.workflow.scope import current_replay, current_step_id, require_replay, surrounding_replay

P = ParamSpec("P")
R = TypeVar("R")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")


class Child:
    """A child that a workflow function has started. `id` is the id of its run."""

    blocking_in_loop = "error"

    def __init__(self, id: str, type: Any) -> None:
        self.id = id
        self._type = type
        self._ended: ChildCall | None = None

    async def aresult(self, *, timeout: float | timedelta | None = None) -> Any:
        """Wait, durably, for the child's result.

        Raises `WorkflowFailedError` or `WorkflowCancelledError` as the child ended, and `OperationTimeoutError` after
        `timeout`.
        """
        replay = require_replay("start_child(...).result")
        limit = optional_seconds(timeout, "timeout")

        def make() -> ChildCall:
            call = ChildCall(replay, f"@result:{self.id}", limit, f"@child:{self.id}")
            call.child, call.type = self.id, self._type
            self._ended = call
            return call

        ended = self._ended
        if ended is not None and ended.record is not None and ended.has_answer(ended.record):
            return ended.answer(ended.record)
        return await replay.call(make)

    result = blocking(aresult)


class WorkflowSpace:
    """`@workflow("name")` decorates a workflow function; the verbs are called inside of one."""

    blocking_in_loop = "error"

    def __call__(
        self,
        name: str,
        *,
        timeout: float | timedelta | None = None,
        retention: float | timedelta | UnsetType | None = UNSET,
        version: str = "1",
    ) -> Callable[[Callable[P, R]], Flow[P, R]]:
        """Decorate a function, plain or async, that is to survive crashes.

        `timeout` bounds the wall time of a whole run, waits included. `retention` is how long a run is kept after its
        end; the settings say so where it is not given, and None keeps it for good. Runs go on with the `version` that
        they were started with, as long as a function of that version is defined somewhere.
        """
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance] - @workflow without parentheses
            raise ConfigurationError(f'@workflow needs a name: @workflow("place-order"), got {name!r}')
        check_text(name, "workflow name", maximum=200)
        check_text(version, "workflow version", maximum=100)
        limit = optional_seconds(timeout, f"workflow {name!r}: timeout")
        keep = retention if retention is UNSET else optional_seconds(retention, f"workflow {name!r}: retention")

        def decorate(function: Callable[P, R]) -> Flow[P, R]:
            if not inspect.isroutine(function):
                raise ConfigurationError(f"@workflow({name!r}) decorates a function, got {function!r}")
            flow = Flow(function, name, version, limit, keep)
            enlist(flow)
            return flow

        return decorate

    # Steps side by side

    @overload
    async def aparallel(self, one: Bound[T1], /) -> tuple[T1]: ...
    @overload
    async def aparallel(self, one: Bound[T1], two: Bound[T2], /) -> tuple[T1, T2]: ...
    @overload
    async def aparallel(self, one: Bound[T1], two: Bound[T2], three: Bound[T3], /) -> tuple[T1, T2, T3]: ...
    @overload
    async def aparallel(
        self, one: Bound[T1], two: Bound[T2], three: Bound[T3], four: Bound[T4], /
    ) -> tuple[T1, T2, T3, T4]: ...
    @overload
    async def aparallel(self, *steps: Bound[Any]) -> tuple[Any, ...]: ...

    async def aparallel(self, *steps: Bound[Any]) -> tuple[Any, ...]:
        """Run bound steps side by side, and return their results in order.

        All of them come to an end; then the first error, in their order, is raised. Outside of a workflow they are
        called as plain functions.
        """
        for index, bound in enumerate(steps):
            if not isinstance(bound, Bound):  # pyright: ignore[reportUnnecessaryIsInstance] - callers may be untyped
                raise InvalidInputError(
                    f"parallel[{index}]: expected a bound step such as charge.bind(order), got {bound!r}"
                )
        replay = current_replay()
        if replay is not None:
            return await replay.parallel(steps)
        return tuple(await gather(*(bound.step.acall(*bound.args, **bound.kwargs) for bound in steps)))

    parallel = blocking(aparallel)

    # Waiting

    async def asleep(self, delay: float | timedelta) -> None:
        """Wait for `delay`, durably: the run holds no slot meanwhile, and goes on after a crash when it is due."""
        replay = require_replay("sleep")
        length = seconds(delay, "delay")
        await replay.call(lambda: SleepCall(replay, "@sleep", length))

    sleep = blocking(asleep)

    async def await_for(self, name: str, *, type: Any = Any, timeout: float | timedelta | None = None) -> Any:
        """Wait for a signal and return its payload as a `type`. One that came earlier is taken at once.

        Raises `OperationTimeoutError` when none came within `timeout`, and `TypeMismatchError` for one that does not
        fit.
        """
        replay = require_replay("wait_for")
        check_signal(name)
        limit = optional_seconds(timeout, "timeout")

        def make() -> SignalCall:
            call = SignalCall(replay, f"@signal:{name}", limit, name)
            call.type = type
            return call

        return await replay.call(make)

    wait_for = blocking(await_for)

    async def astart_child(self, flow: Flow[..., Any] | str, *args: Any) -> Child:
        """Start another workflow once, and go on.

        The child is cancelled when this run fails or is cancelled before it.
        """
        replay = require_replay("start_child")
        found = check_flow(flow)
        data = found.encode(args)
        name = f"@child:{found.name}"
        id = await replay.call(lambda: RecordCall(replay, name, lambda key: start_record(replay, found, data, key)))
        return Child(id, found.returns)

    start_child = blocking(astart_child)

    # Values that are made once

    def now(self) -> datetime:
        """Return the time, in UTC: the same on every replay. In a step, and outside of workflows, the time."""
        here = surrounding_replay()
        clock = SYSTEM_CLOCK if here is None else here.desk.context.clock
        replay = current_replay()
        if replay is None:
            return _utc(clock)
        return replay.note("@now", lambda: _utc(clock), datetime)

    def new_uuid(self) -> UUID:
        """Return a random UUID: the same on every replay."""
        replay = current_replay()
        return uuid4() if replay is None else replay.note("@uuid", uuid4, UUID)

    def random(self) -> float:
        """Return a random number from 0 to 1: the same on every replay."""
        replay = current_replay()
        return _random.random() if replay is None else replay.note("@random", _random.random, float)

    def patched(self, name: str) -> bool:
        """Tell whether the code that is guarded runs: yes in new runs, no in those that had gone past it.

        A run gets the same answer each time. Outside of a workflow function it is yes.
        """
        check_text(name, "patch name", maximum=200)
        replay = current_replay()
        if replay is None:
            return True
        return replay.note(f"@patched:{name}", lambda: not replay.replaying, bool, ordered=False)

    # Where the code stands

    def step_id(self) -> str:
        """Return the id of the step whose body calls: the same in every attempt, an idempotency key for the outside.

        Raises `UsageError` outside of a step.
        """
        return current_step_id()

    def is_replaying(self) -> bool:
        """Tell whether recorded calls are still to come. False outside of a workflow function."""
        replay = current_replay()
        return replay is not None and replay.replaying

    def cancelled(self) -> bool:
        """Tell whether the run was asked to be cancelled: for steps that take long and can end early."""
        replay = surrounding_replay()
        return replay is not None and replay.cancelled


def _utc(clock: Clock) -> datetime:
    return datetime.fromtimestamp(clock.time(), UTC)


def check_signal(name: str) -> str:
    """Return the name of a signal. Raises `InvalidInputError`; names with `@` in front are the engine's own."""
    check_text(name, "signal name", maximum=200)
    if name.startswith("@"):
        raise InvalidInputError(f"signal name: expected text that does not begin with '@', got {name!r}")
    return name


workflow = WorkflowSpace()
"""The decorator of workflow functions, and the name space of what they call."""
