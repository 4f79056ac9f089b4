"""What the suites of workflow providers share: engines on the provider under test, and time that passes for runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pilotis.backoff import Backoff
from pilotis.bridge import drive, run_blocking
from pilotis.modules.workflow import Run, WorkflowEngine, step
from pilotis.providers import Context, WorkflowProvider
from pilotis.runtime import Runtime
from pilotis.settings.model import WorkflowSettings

from pilotis_testing.clock import ManualClock, until
from pilotis_testing.colours import Colour, soon

FOREVER = 30
"""Seconds of the test's clock, which stands still unless it is told to move: never waited for."""


class Engines:
    """Makes engines on one provider, each with a runtime of its own, as in processes of their own."""

    def __init__(self, provider: WorkflowProvider, clock: ManualClock, colour: Colour) -> None:
        self.provider = provider
        self.clock = clock
        self._colour = colour
        self._made: list[WorkflowEngine] = []

    def __call__(self, *, provider: WorkflowProvider | None = None, role: Any = "all", **settings: Any) -> Any:
        """Return an engine that is called in the colour of the test."""
        context = Context(clock=self.clock, role=role, runtime=Runtime("test"))
        engine = WorkflowEngine(
            provider or self.provider, settings=WorkflowSettings(**settings), context=context
        )  # fmt: skip
        self._made.append(engine)
        return self._colour.voice(engine)

    def close(self) -> None:
        """Close all of them."""
        for engine in self._made:
            engine.close()
            engine.context.runtime.stop()

    async def reaches(self, run: Run, *statuses: str) -> None:
        """Wait until a run is in one of these states."""
        await soon(lambda: self.status(run.id) in statuses)

    def status(self, id: str) -> str | None:
        """Return the state of a run. Not for event loops."""
        record = drive(self.provider.load(id))
        return None if record is None else record.status

    async def records(self, run: Run, key: str, status: str, attempts: int = 0) -> None:
        """Wait until the journal of a run has this record, and the engine waits for the time."""
        await soon(lambda: (status, attempts) == self._record(run.id, key))
        await run_blocking(self.clock.wait_for_waiters)

    def _record(self, id: str, key: str) -> tuple[str, int] | None:
        journal = {record.key: record for record in drive(self.provider.journal(id))}
        return (journal[key].status, journal[key].attempts) if key in journal else None

    async def waits(self, run: Run) -> None:
        """Wait until a run waits, and the engine for its time."""
        await self.reaches(run, "waiting")
        await run_blocking(self.clock.wait_for_waiters)

    async def pass_time(self, run: Run, seconds: float) -> None:
        """Let time pass for a run that waits."""
        await self.waits(run)
        self.clock.advance(seconds)


class WorkflowBase:
    """The fixtures of the suite."""

    @pytest.fixture
    def engines(self, provider: WorkflowProvider, clock: ManualClock, colour: Colour) -> Iterator[Engines]:
        """Make engines; they are closed after the test."""
        engines = Engines(provider, clock, colour)
        yield engines
        engines.close()

    @pytest.fixture
    def engine(self, engines: Engines) -> Any:
        """An engine with the settings as they come."""
        return engines()


def eventually(condition: Callable[[], bool]) -> Any:
    """Wait in either colour until `condition()` holds."""
    return run_blocking(until, condition)


class Shop:
    """Two steps that are compensated, and the log of what they did."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.undo_failures = 0

        @step
        def reserve(order: int) -> str:
            self.log.append(f"reserve {order}")
            return f"stock-{order}"

        @reserve.compensate(attempts=2, backoff=Backoff.fixed(30))
        def put_back(order: int, stock: str) -> None:
            if self.undo_failures:
                self.undo_failures -= 1
                raise OSError("the shelf is stuck")
            self.log.append(f"put back {order} {stock}")

        @step
        def charge(order: int) -> int:
            self.log.append(f"charge {order}")
            return order * 10

        @charge.compensate
        def refund(order: int, payment: int) -> None:
            self.log.append(f"refund {order} {payment}")

        self.reserve, self.charge = reserve, charge

    DONE = ("reserve 1", "charge 1")
    UNDONE = ("refund 1 10", "put back 1 stock-1")


def error_of(call: Callable[[], object]) -> str:
    """Return the kind of error that a step raises, as the workflow sees it."""
    try:
        call()
    except Exception as error:
        return getattr(error, "type", type(error).__name__)
    return "none"
