"""The handle of a run, and the checks of what is asked about runs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pilotis.bridge import blocking
from pilotis.durations import optional_seconds
from pilotis.errors import InvalidInputError, NotFoundError
from pilotis.keys import check_text
from pilotis.modules.workflow.model import STATUSES, RunInfo, RunQuery, RunStatus

if TYPE_CHECKING:
    from pilotis.modules.workflow.portable import WorkflowEngine


class Run:
    """A run of a workflow, wherever it is worked on. Made by the engine; cheap, and holds nothing."""

    def __init__(self, engine: WorkflowEngine, id: str, type: Any = Any) -> None:
        self.id = id
        self._engine = engine
        self._type = type

    def __repr__(self) -> str:
        return f"<run {self.id!r}>"

    @property
    def blocking_in_loop(self) -> str:
        return self._engine.blocking_in_loop

    async def aresult(self, timeout: float | timedelta | None = None) -> Any:
        """Wait for the run to end and return what its function returned, as the function's annotation says.

        Raises `WorkflowFailedError`, also when it was compensated; `WorkflowCancelledError`; `NonDeterminismError` when
        it is stuck; `OperationTimeoutError` when it has not ended after `timeout`, which leaves the run alone.
        """
        return await self._engine.aresult_of(self.id, self._type, optional_seconds(timeout, "timeout"))

    result = blocking(aresult)

    async def astatus(self) -> RunStatus:
        """Return the state of the run. Raises `NotFoundError` once it has been removed."""
        return (await self.ainfo()).status

    status = blocking(astatus)

    async def ainfo(self) -> RunInfo:
        """Return what is known of the run. Raises `NotFoundError` once it has been removed."""
        return await self._engine.ainfo(self.id)

    info = blocking(ainfo)

    async def acancel(self) -> bool:
        """Have the run cancelled: the step under way ends, then all are compensated.

        Returns whether it had not ended.
        """
        return await self._engine.acancel(self.id)

    cancel = blocking(acancel)

    async def asignal(self, name: str, payload: object = None, *, id: str | None = None) -> None:
        """Send a signal, which waits until the run asks for it. The same `id` again is ignored.

        Raises `ConflictError` when the run has ended, and `NotFoundError`.
        """
        await self._engine.asignal(self.id, name, payload, signal_id=id)

    signal = blocking(asignal)


def run_query(
    name: str | None, status: RunStatus | None, since: datetime | None, until: datetime | None, limit: int
) -> RunQuery:
    """Return what to look for. Raises `InvalidInputError` naming the parameter."""
    if name is not None:
        check_text(name, "name")
    if status is not None and not (isinstance(status, str) and status in STATUSES):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"status: expected one of {', '.join(sorted(STATUSES))}, got {status!r}")
    return RunQuery(
        name=name,
        statuses=None if status is None else frozenset({status}),
        since=_timestamp(since, "since"),
        until=_timestamp(until, "until"),
        limit=_positive(limit, "limit"),
    )


def check_message(error: object) -> str:
    """Return the text of an error. Raises `InvalidInputError` for anything else."""
    if not isinstance(error, str):
        raise InvalidInputError(f"error: expected text or an exception, got {type(error).__name__}")
    return error


def unknown_run(id: str) -> NotFoundError:
    return NotFoundError(f"there is no run {id!r}: it was never started, or its retention is over")


def _timestamp(value: datetime | None, at: str) -> float | None:
    if value is None:
        return None
    if not isinstance(value, datetime) or value.tzinfo is None:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"{at}: expected a datetime with a time zone, such as datetime.now(UTC)")
    return value.timestamp()


def _positive(value: int, at: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"{at}: expected a whole number from 1, got {value!r}")
    return value
