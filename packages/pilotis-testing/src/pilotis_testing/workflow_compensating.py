"""What becomes of a run that fails, is cancelled, or takes too long."""

from __future__ import annotations

from typing import Any

import pytest
from pilotis.bridge import Latch, drive
from pilotis.errors import (
    WorkflowCancelledError,
    WorkflowFailedError,
)
from pilotis.modules.workflow import step, workflow

from pilotis_testing.workflow_base import FOREVER, Engines, Shop, WorkflowBase, error_of, eventually


class WorkflowCompensatingChecks(WorkflowBase):
    """Runs that do not complete."""

    async def test_a_failed_run_is_compensated_in_reverse(self, engine: Any) -> None:
        """Each compensation gets the arguments and the result of its step."""
        shop = Shop()

        @workflow("fails-late")
        def flow(order: int) -> None:
            shop.reserve(order)
            shop.charge(order)
            raise RuntimeError("no courier")

        run = await engine.start(flow, 1, id="r")
        with pytest.raises(WorkflowFailedError, match="RuntimeError: no courier"):
            await run.result(timeout=FOREVER)
        assert [*Shop.DONE, *Shop.UNDONE] == shop.log
        assert "compensated" == await run.status()
        undone = [it.step for it in await engine.history("r") if it.step.startswith("~")]
        assert {"~charge", "~reserve"} == set(undone)

    async def test_what_was_not_done_is_not_compensated(self, engine: Any) -> None:
        """Neither steps that failed, nor those with no_compensation; such a run is failed."""
        undone: list[str] = []

        @step
        def broken() -> None:
            raise ValueError("broken")

        @broken.compensate
        def unbreak(result: None) -> None:
            undone.append("broken")

        @step(no_compensation=True)
        def kept() -> None:
            return None

        @kept.compensate
        def unkeep(result: None) -> None:
            undone.append("kept")

        @workflow("nothing-to-undo")
        def flow() -> None:
            kept()
            broken()

        run = await engine.start(flow)
        with pytest.raises(WorkflowFailedError):
            await run.result(timeout=FOREVER)
        assert ("failed", []) == (await run.status(), undone)

    async def test_compensations_are_tried_again(self, engines: Engines) -> None:
        """The wait is durable; the run is compensating meanwhile."""
        shop = Shop()
        shop.undo_failures = 1

        @workflow("stubborn-undo")
        def flow(order: int) -> None:
            shop.reserve(order)
            raise RuntimeError("no courier")

        run = await engines().start(flow, 1)
        await engines.records(run, "~reserve", "waiting", 1)
        assert "compensating" == await run.status()
        engines.clock.advance(30)
        await engines.reaches(run, "compensated")
        assert ["reserve 1", "put back 1 stock-1"] == shop.log

    async def test_the_function_is_not_run_past_its_last_step(self, engines: Engines) -> None:
        """When it is run again to learn how its steps are undone: what made it fail may hang now."""
        shop = Shop()
        shop.undo_failures = 1

        @workflow("fails-once")
        def flow(order: int) -> None:
            shop.reserve(order)
            shop.log.append("after")
            raise RuntimeError("no courier")

        run = await engines().start(flow, 1)
        await engines.records(run, "~reserve", "waiting", 1)
        engines.clock.advance(30)
        with pytest.raises(WorkflowFailedError, match="no courier"):
            await run.result(timeout=FOREVER)
        assert ["reserve 1", "after", "put back 1 stock-1"] == shop.log

    async def test_a_result_that_does_not_fit_is_not_compensated(self, engine: Any) -> None:
        """An external step was completed with it: the run says so, and ends."""

        @step(external=True)
        def weigh() -> int:
            return 0

        @weigh.compensate
        def unweigh(result: int) -> None: ...

        @workflow("weighs")
        def flow() -> int:
            return weigh()

        run = await engine.start(flow, id="r")
        await engine.complete_step("r", "weigh", "heavy")
        with pytest.raises(WorkflowFailedError, match=r"not compensated: 'weigh' .*expected int, got str"):
            await run.result(timeout=FOREVER)
        assert "failed" == await run.status()

    async def test_a_compensation_that_fails_for_good_fails_the_run(self, engines: Engines) -> None:
        """The others are done all the same, and the error names it."""
        shop = Shop()
        shop.undo_failures = 9

        @workflow("hopeless-undo")
        def flow(order: int) -> None:
            shop.charge(order)
            shop.reserve(order)
            raise RuntimeError("no courier")

        run = await engines().start(flow, 1)
        await engines.records(run, "~reserve", "waiting", 1)
        engines.clock.advance(30)
        with pytest.raises(WorkflowFailedError, match=r"no courier; not compensated: 'reserve' \(the shelf is stuck\)"):
            await run.result(timeout=FOREVER)
        assert "failed" == await run.status()
        assert "refund 1 10" == shop.log[-1]

    async def test_steps_of_a_parallel_are_compensated_side_by_side(self, engine: Any) -> None:
        """Each compensation waits for the other to have begun."""
        begun = [Latch(), Latch()]

        @step
        def book(index: int) -> None:
            return None

        @book.compensate
        async def unbook(index: int, result: None) -> None:
            begun[index].set()
            assert await begun[1 - index].wait(10)

        @workflow("undo-together")
        def flow() -> None:
            workflow.parallel(book.bind(0), book.bind(1))
            raise RuntimeError

        run = await engine.start(flow)
        with pytest.raises(WorkflowFailedError):
            await run.result(timeout=FOREVER)
        assert "compensated" == await run.status()

    async def test_cancelling_compensates(self, engines: Engines) -> None:
        """A waiting run leaves its wait; asking for the result raises WorkflowCancelledError."""
        shop = Shop()

        @workflow("cancelled-waiting")
        def flow(order: int) -> None:
            shop.reserve(order)
            shop.charge(order)
            workflow.wait_for("never")

        run = await engines().start(flow, 1)
        await engines.reaches(run, "waiting")
        assert await run.cancel()
        with pytest.raises(WorkflowCancelledError):
            await run.result(timeout=FOREVER)
        assert [*Shop.DONE, *Shop.UNDONE] == shop.log
        assert ("cancelled", False) == (await run.status(), await run.cancel())

    async def test_the_step_under_way_is_compensated_too(self, engine: Any) -> None:
        """It ends first, may see that it is cancelled, and no other step begins."""
        begun, log = Latch(), list[str]()

        @step
        async def long() -> str:
            begun.set()
            while not workflow.cancelled():
                await Latch().wait(0.001)
            log.append("ended")
            return "half"

        @long.compensate
        def undo(result: str) -> None:
            log.append(f"undone {result}")

        @step
        def never() -> None:
            log.append("never")

        @workflow("cancelled-running")
        def flow() -> None:
            long.call()
            never()

        run = await engine.start(flow)
        assert await begun.wait(10)
        await run.cancel()
        with pytest.raises(WorkflowCancelledError):
            await run.result(timeout=FOREVER)
        assert ["ended", "undone half"] == log

    async def test_children_are_cancelled_with_their_parent(self, engines: Engines) -> None:
        """Those that are on their way."""

        @workflow("orphan")
        def child() -> None:
            workflow.wait_for("never")

        @workflow("failing-parent")
        def parent() -> None:
            workflow.start_child(child)
            raise RuntimeError("alas")

        engine = engines()
        run = await engine.start(parent, id="p")
        with pytest.raises(WorkflowFailedError):
            await run.result(timeout=FOREVER)
        await engines.reaches(await engine.get("p/orphan"), "cancelled")

    async def test_a_step_is_timed_out_while_it_runs(self, engines: Engines) -> None:
        """An async one is cancelled; a plain one is abandoned and counted, and its late result is refused."""
        release, ended = Latch(), list[str]()

        @step(timeout=5)
        def plain() -> int:
            drive(release.wait(10))
            ended.append("plain")
            return 1

        @step(timeout=5)
        async def asynchronous() -> int:
            try:
                await Latch().wait()
            finally:
                ended.append("async")
            return 1

        @workflow("steps-time-out")
        def flow() -> list[str]:
            return [error_of(plain.call), error_of(asynchronous.call)]

        engine = engines()
        run = await engine.start(flow, id="r")
        for _ in range(2):
            await engines.reaches(run, "running")
            await eventually(lambda: engines.clock.ending_in(5) == 1)
            engines.clock.advance(5)
            if not ended:
                await eventually(lambda: engine.stray_calls == 1)
        assert ["OperationTimeoutError"] * 2 == await run.result(timeout=FOREVER)
        assert ["async"] == ended
        release.set()
        await eventually(lambda: engine.stray_calls == 0)
        assert ["failed", "failed"] == [it.status for it in await engine.history("r")]

    async def test_a_run_is_timed_out_while_it_waits(self, engines: Engines) -> None:
        """Wall time counts, waits included; it is compensated."""
        shop = Shop()

        @workflow("run-times-out", timeout=60)
        def flow(order: int) -> None:
            shop.reserve(order)
            workflow.wait_for("never")

        run = await engines().start(flow, 1)
        await engines.pass_time(run, 60)
        with pytest.raises(WorkflowFailedError, match="the run did not end within 60 s"):
            await run.result(timeout=FOREVER)
        assert ("compensated", "put back 1 stock-1") == (await run.status(), shop.log[-1])

    async def test_a_run_is_timed_out_while_a_step_hangs(self, engines: Engines) -> None:
        """What was done is compensated; what the step still does is refused."""
        shop, begun, release = Shop(), Latch(), Latch()

        @step
        def hang() -> int:
            begun.set()
            drive(release.wait(10))
            return 1

        @hang.compensate
        def unhang(result: int) -> None:
            shop.log.append("unhang")

        @workflow("run-hangs", timeout=60)
        def flow(order: int) -> None:
            shop.reserve(order)
            hang()

        engine = engines()
        run = await engine.start(flow, 1, id="r")
        assert await begun.wait(10)
        await eventually(lambda: engines.clock.ending_in(60) == 1)
        engines.clock.advance(60)
        with pytest.raises(WorkflowFailedError, match="did not end within 60 s"):
            await run.result(timeout=FOREVER)
        assert 1 == engine.stray_calls
        release.set()
        await eventually(lambda: engine.stray_calls == 0)
        assert ["reserve 1", "put back 1 stock-1"] == shop.log
        assert {"reserve", "~reserve"} == {it.step for it in await engine.history("r")}
