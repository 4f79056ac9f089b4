"""What a workflow waits for: the time, signals, the outside, children."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pilotis.backoff import Backoff
from pilotis.bridge import Latch, drive, run_blocking
from pilotis.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    OperationTimeoutError,
    WorkflowCancelledError,
    WorkflowFailedError,
)
from pilotis.modules.workflow import step, workflow
from pilotis.providers import Letter
from pilotis.scopes import held_locks

from pilotis_testing.clock import ManualClock
from pilotis_testing.workflow_base import FOREVER, Engines, WorkflowBase


@dataclass
class Order:
    """A value with types that JSON does not have."""

    id: int
    total: Decimal


class WorkflowWaitingChecks(WorkflowBase):
    """Runs that wait."""

    async def test_sleep_takes_its_time(self, engines: Engines, clock: ManualClock) -> None:
        """The run waits, and goes on when it is due, not before."""

        @workflow("sleeps")
        def flow() -> float:
            began = workflow.now()
            workflow.sleep(timedelta(hours=2))
            return (workflow.now() - began).total_seconds()

        run = await engines().start(flow)
        await engines.pass_time(run, 7199)
        assert "waiting" == await run.status()
        await engines.pass_time(run, 1)
        assert 7200 == await run.result(timeout=FOREVER)

    async def test_a_signal_before_its_wait_is_kept(self, engines: Engines) -> None:
        """Signals of one name are taken in their order."""
        go = Latch()

        @step
        async def hold() -> None:
            await go.wait(10)

        @workflow("early-signals")
        def flow() -> list[int]:
            hold.call()
            return [workflow.wait_for("n", type=int), workflow.wait_for("n", type=int)]

        run = await engines().start(flow)
        await run.signal("n", 1)
        await run.signal("n", 2, id="second")
        await run.signal("n", 9, id="second")
        go.set()
        assert [1, 2] == await run.result(timeout=FOREVER)

    async def test_a_signal_wakes_its_wait(self, engines: Engines) -> None:
        """With a payload of the type that is waited for."""

        @workflow("late-signal")
        async def flow() -> Order:
            return await workflow.await_for("order", type=Order)

        run = await engines().start(flow)
        await engines.reaches(run, "waiting")
        await run.signal("order", Order(1, Decimal("2.5")))
        assert Order(1, Decimal("2.5")) == await run.result(timeout=FOREVER)

    async def test_a_wait_has_a_time_out(self, engines: Engines) -> None:
        """It raises OperationTimeoutError in the workflow; a later signal is left for the next wait."""

        @workflow("wait-times-out")
        def flow() -> str:
            try:
                workflow.wait_for("approval", timeout=30)
            except OperationTimeoutError:
                return workflow.wait_for("approval", type=str)
            return "in time"

        run = await engines().start(flow)
        await engines.pass_time(run, 30)
        await engines.records(run, "@signal:approval#2", "waiting")
        await run.signal("approval", "late")
        assert "late" == await run.result(timeout=FOREVER)

    async def test_an_ended_run_takes_no_signal(self, engine: Any) -> None:
        """ConflictError; for an unknown run NotFoundError."""

        @workflow("ended-signal")
        def flow() -> None:
            return None

        run = await engine.start(flow)
        await run.result(timeout=FOREVER)
        with pytest.raises(ConflictError, match="has ended"):
            await run.signal("go")
        with pytest.raises(NotFoundError, match="no run 'nobody'"):
            await engine.signal("nobody", "go")
        with pytest.raises(InvalidInputError, match="signal name"):
            await run.signal("@step:x")

    async def test_an_external_step_is_completed_from_outside(self, engines: Engines) -> None:
        """Its function begins the work; the result comes by complete_step, also before the run waits for it."""
        engine = engines()

        @step(external=True)
        def begin(question: str) -> Order:
            begun.append(question)
            return Order(0, Decimal(0))

        begun: list[str] = []

        @workflow("external")
        def flow() -> Order:
            return begin("how much?")

        run = await engine.start(flow, id="r")
        await engines.reaches(run, "waiting")
        await engine.complete_step("r", "begin", Order(3, Decimal(4)))
        assert Order(3, Decimal(4)) == await run.result(timeout=FOREVER)
        assert ["how much?"] == begun
        with pytest.raises(ConflictError, match="done already"):
            await engine.complete_step("r", "begin", Order(3, Decimal(4)))

    async def test_an_external_step_fails_from_outside(self, engines: Engines) -> None:
        """It is begun again as its attempts allow; nobody answering in time is a failure too."""
        engine, begun = engines(), [0]

        @step(external=True, attempts=3, backoff=Backoff.fixed(0), timeout=60)
        def begin() -> int:
            begun[0] += 1
            return 0

        @workflow("external-fails")
        def flow() -> int:
            return begin()

        run = await engine.start(flow, id="r")
        await engines.records(run, "begin", "waiting", 1)
        await engine.fail_step("r", "begin", "lost")
        await engines.records(run, "begin", "waiting", 2)
        engines.clock.advance(60)
        await engines.records(run, "begin", "waiting", 3)
        assert begun == [3]
        await engine.fail_step("r", "begin", ValueError("really lost"), permanent=True)
        with pytest.raises(WorkflowFailedError, match="ValueError: really lost"):
            await run.result(timeout=FOREVER)

    async def test_a_step_that_waits_is_not_begun_again_for_one_that_is_answered(self, engines: Engines) -> None:
        """Of those side by side one may have its answer before the run waits for it; the others go on waiting."""
        engine, begun = engines(), list[str]()

        @step(external=True)
        async def quick() -> str:
            begun.append("quick")
            await run_blocking(answer_at_once)
            return ""

        @step(external=True)
        def slow() -> str:
            begun.append("slow")
            return ""

        @step(attempts=2, backoff=Backoff.fixed(60))
        def flaky() -> str:
            begun.append("flaky")
            raise ValueError("lost")

        @workflow("answered-at-once")
        def flow() -> list[str]:
            return list(workflow.parallel(slow.bind(), quick.bind(), flaky.bind()))

        def answer_at_once() -> None:
            drive(engines.provider.signal("r", "@step:quick", Letter(b'"soon"')))

        run = await engine.start(flow, id="r")
        await engines.waits(run)
        assert ["flaky", "quick", "slow"] == sorted(begun)
        engines.clock.advance(60)
        await engines.records(run, "flaky", "failed", 2)
        await engine.complete_step("r", "slow", "late")
        with pytest.raises(WorkflowFailedError, match="flaky"):
            await run.result(timeout=FOREVER)
        assert ["flaky", "flaky", "quick", "slow"] == sorted(begun)

    async def test_a_child_is_started_once(self, engines: Engines) -> None:
        """It is a run of its own; its result, or its error, can be waited for."""
        started: list[int] = []

        @step
        def note(number: int) -> None:
            started.append(number)

        @workflow("child")
        def child(number: int) -> int:
            note(number)
            workflow.sleep(10)
            if number < 0:
                raise ValueError("negative")
            return number * 2

        @workflow("parent")
        def parent() -> list[Any]:
            good, bad = workflow.start_child(child, 4), workflow.start_child(child, -1)
            try:
                bad.result()
            except WorkflowFailedError as error:
                return [good.result(), good.result(), "negative" in str(error)]
            return []

        engine = engines()
        run = await engine.start(parent, id="p")
        await engines.reaches(run, "waiting")
        await engines.waits(await engine.get("p/child"))
        await engines.pass_time(await engine.get("p/child#2"), 10)
        assert [8, 8, True] == await run.result(timeout=FOREVER)
        assert [-1, 4] == sorted(started)
        assert "p" == (await engine.info("p/child")).parent

    async def test_waiting_inside_a_lock_is_an_error(self, engine: Any) -> None:
        """The lock would be given up while the run waits."""

        @workflow("locked-wait")
        def flow() -> None:
            token = held_locks.set(frozenset({"stock:1"}))
            try:
                workflow.sleep(5)
            finally:
                held_locks.reset(token)

        with pytest.raises(WorkflowFailedError, match=r"waits inside locking.hold\(stock:1\)"):
            await (await engine.start(flow)).result(timeout=FOREVER)

    async def test_a_cancelled_child_raises_in_its_parent(self, engines: Engines) -> None:
        """As WorkflowCancelledError."""

        @workflow("cancelled-child")
        def child() -> None:
            workflow.wait_for("never")

        @workflow("asking-parent")
        def parent() -> str:
            try:
                workflow.start_child(child).result()
            except WorkflowCancelledError:
                return "cancelled"
            return "completed"

        engine = engines()
        run = await engine.start(parent, id="p")
        await engines.reaches(run, "waiting")
        await engine.cancel("p/cancelled-child")
        assert "cancelled" == await run.result(timeout=FOREVER)
