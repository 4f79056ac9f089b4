"""What becomes of a run when its worker dies, or its code changes."""

from __future__ import annotations

import logging

import pytest
from pilotis.bridge import Latch
from pilotis.errors import NonDeterminismError, WorkflowCancelledError
from pilotis.modules.workflow import Flow, step, workflow

from pilotis_testing.clock import ManualClock
from pilotis_testing.workflow_base import FOREVER, Engines, Shop, WorkflowBase, error_of, eventually
from pilotis_testing.workflow_crashes import Story, crash_everywhere, lose_every_answer, story_of


class WorkflowRecoveringChecks(WorkflowBase):
    """Runs that another worker goes on with."""

    async def test_a_once_step_is_not_run_again(self, engines: Engines) -> None:
        """An attempt that was interrupted raises StepInterruptedError, and so does every replay of it."""
        begun, tries = Latch(), list[int]()

        @step(once=True)
        async def pay() -> None:
            tries.append(1)
            begun.set()
            await Latch().wait()

        @workflow("once")
        def flow() -> list[str]:
            first = error_of(pay.call)
            workflow.sleep(5)
            return [first]

        engine = engines(grace=0)
        run = await engine.start(flow, id="r")
        assert await begun.wait(10)
        await engine.close()
        again = await engines().get("r")
        await engines.pass_time(run, 5)
        assert ["StepInterruptedError"] == await again.result(timeout=FOREVER)
        assert [1] == tries

    async def test_closing_gives_runs_back(self, engines: Engines) -> None:
        """The step under way ends, and the next engine goes on after it."""
        begun, go, log = Latch(), Latch(), list[str]()

        @step
        async def first() -> None:
            log.append("first")
            begun.set()
            await go.wait(10)

        @step
        def second() -> None:
            log.append("second")

        @workflow("closed-midway")
        def flow() -> str:
            first.call()
            second()
            return "done"

        engine = engines()
        await engine.start(flow, id="r")
        assert await begun.wait(10)
        go.set()
        await engine.close()
        run = await engines().get("r")
        assert "done" == await run.result(timeout=FOREVER)
        assert ["first", "second"] == log

    async def test_a_fenced_worker_writes_nothing(self, engines: Engines) -> None:
        """A worker that was given up, and goes on, cannot record its step a second time."""
        begun, go, tries = Latch(), Latch(), list[int]()

        @step
        async def slow() -> int:
            tries.append(1)
            if len(tries) == 1:
                begun.set()
                await go.wait(10)
            return len(tries)

        @workflow("fenced")
        def flow() -> int:
            return slow.call()

        engine = engines()
        run = await engine.start(flow, id="r")
        assert await begun.wait(10)
        record = await engines.provider.load("r")
        assert record is not None
        assert 1 == await engines.provider.bury(record.worker)
        assert 2 == await run.result(timeout=FOREVER)
        go.set()
        await eventually(lambda: engines.status("r") == "completed")
        assert [2] == [it.result for it in await engine.history("r")]

    async def test_a_run_that_comes_back_to_the_worker_that_lost_it_is_its_own_again(self, engines: Engines) -> None:
        """What was fenced off ends beside it, and takes it from nobody's sight: it is told of a cancellation."""
        begun, go, seen = (Latch(), Latch()), (Latch(), Latch()), list[tuple[int, bool]]()

        @step
        async def slow() -> None:
            turn = 1 if begun[0].is_set() else 0
            begun[turn].set()
            await go[turn].wait(10)
            seen.append((turn, workflow.cancelled()))

        @workflow("lost-and-found")
        def flow() -> None:
            slow.call()

        @workflow("passer-by")
        def passer_by() -> None:
            pass

        engine = engines()
        run = await engine.start(flow, id="r")
        assert await begun[0].wait(10)
        record = await engines.provider.load("r")
        assert record is not None
        await engines.provider.bury(record.worker)
        assert await begun[1].wait(10)
        go[0].set()
        await eventually(lambda: bool(seen))
        await (await engine.start(passer_by)).result(timeout=FOREVER)
        await run.cancel()
        go[1].set()
        await run.result(timeout=FOREVER)
        assert [(0, False), (1, True)] == seen

    async def test_changed_code_leaves_a_run_stuck(self, engines: Engines, caplog: pytest.LogCaptureFixture) -> None:
        """Both are named; the run is not lost, and goes on with code that fits."""
        caplog.set_level(logging.CRITICAL, "pilotis.workflow")

        def deploy(*, changed: bool) -> Flow[..., str]:
            @step
            def old(number: int) -> int:
                return number

            @step
            def new(number: int) -> int:
                return number

            @workflow("deployed")
            def flow() -> str:
                (new if changed else old)(1)
                return workflow.wait_for("go", type=str)

            return flow

        engine = engines()
        run = await engine.start(deploy(changed=False), id="r")
        await engines.reaches(run, "waiting")
        deploy(changed=True)
        await run.signal("go", "on")
        with pytest.raises(NonDeterminismError, match="call 1 was 'old', and the code now calls 'new' there"):
            await run.result(timeout=FOREVER)
        assert "stuck" == await run.status()
        await engine.close()
        deploy(changed=False)
        assert "on" == await (await engines().get("r")).result(timeout=FOREVER)

    @pytest.mark.parametrize(
        ("before", "after", "found"),
        [
            ("ab", "b", "call 1 was 'a', and the code now calls 'b'"),
            ("ab", "a", "call 2 was 'b', and the code now calls '@sleep' there"),
            ("ab", "A", "'a' had other arguments"),
            ("ab", "", "call 1 was 'a', and the code now calls '@sleep' there"),
            ("a", "ab", "call 2 was '@sleep', and the code now calls 'b' there"),
            ("a", "a!", "call 2 was '@sleep', and the code now ends before it"),
            ("ab", "(ab)", "'b' ran beside other steps"),
            ("(ab)", "ab", "'b' ran beside other steps"),
        ],
    )
    async def test_every_mismatch_is_found(
        self, engines: Engines, caplog: pytest.LogCaptureFixture, before: str, after: str, found: str
    ) -> None:
        """Steps left out, put in, in another place, with other arguments, or in brackets: side by side."""
        caplog.set_level(logging.CRITICAL, "pilotis.workflow")
        steps = before

        @step
        def a(number: int) -> int:
            return number

        @step
        def b(number: int) -> int:
            return number

        @workflow("mismatch")
        def flow() -> None:
            bound = [{"a": a, "b": b}[letter.lower()].bind(int(letter.isupper())) for letter in steps.strip("()!")]
            if steps.startswith("("):
                workflow.parallel(*bound)
            else:
                for one in bound:
                    one.step(*one.args)
            if not steps.endswith("!"):
                workflow.sleep(10)

        run = await engines().start(flow)
        await engines.waits(run)
        steps = after
        engines.clock.advance(10)
        with pytest.raises(NonDeterminismError, match=found):
            await run.result(timeout=FOREVER)

    async def test_patched_lets_old_runs_finish(self, engines: Engines) -> None:
        """Runs that had gone past the change do without it; new ones have it."""
        log: list[str] = []
        changed = False

        @step
        def mark(text: str) -> None:
            log.append(text)

        @workflow("patched")
        def flow(name: str) -> None:
            if changed and workflow.patched("greeting"):
                mark(f"{name} new")
            workflow.sleep(10)
            mark(f"{name} end")

        engine = engines()
        old = await engine.start(flow, "old")
        await engines.waits(old)
        changed = True
        new = await engine.start(flow, "new")
        await engines.waits(new)
        engines.clock.advance(10)
        await old.result(timeout=FOREVER)
        await new.result(timeout=FOREVER)
        assert ["new end", "new new", "old end"] == sorted(log)

    async def test_new_code_compensates_old_runs(self, engines: Engines) -> None:
        """It looks at the journal behind a `patched` that the run had gone past."""
        shop, changed = Shop(), False

        @workflow("patched-early")
        def flow(order: int) -> None:
            if changed and workflow.patched("gift"):
                shop.charge(99)
            shop.reserve(order)
            workflow.wait_for("go")

        engine = engines()
        run = await engine.start(flow, 1)
        await engines.waits(run)
        changed = True
        await run.cancel()
        with pytest.raises(WorkflowCancelledError):
            await run.result(timeout=FOREVER)
        assert ["reserve 1", "put back 1 stock-1"] == shop.log

    async def test_a_run_that_was_stuck_remembers_why_it_was_compensated(
        self, engines: Engines, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A cancelled one is cancelled when the code fits again."""
        shop, changed = Shop(), False

        @workflow("forgets-a-step")
        def flow(order: int) -> None:
            if not changed:
                shop.reserve(order)
            workflow.wait_for("go")

        engine = engines()
        run = await engine.start(flow, 1, id="r")
        await engines.waits(run)
        changed = True
        await run.cancel()
        with pytest.raises(NonDeterminismError):
            await run.result(timeout=FOREVER)
        changed = False
        await engine.retry("r")
        with pytest.raises(WorkflowCancelledError):
            await run.result(timeout=FOREVER)
        assert ["reserve 1", "put back 1 stock-1"] == shop.log
        assert "is stuck" in caplog.text

    async def test_a_run_keeps_its_version(self, engines: Engines) -> None:
        """It waits for a worker that has the version it was started with."""

        def define(version: str) -> Flow[..., str]:
            @workflow("versioned", version=version)
            def flow() -> str:
                workflow.sleep(10)
                return version

            return flow

        engine = engines()
        runs = [await engine.start(define(version)) for version in ("1", "2")]
        for run in runs:
            await engines.waits(run)
        engines.clock.advance(10)
        assert ["1", "2"] == [await run.result(timeout=FOREVER) for run in runs]

    @pytest.mark.parametrize("story", list(Story), ids=lambda story: story.value)
    async def test_a_crash_anywhere_changes_nothing(
        self, engines: Engines, clock: ManualClock, caplog: pytest.LogCaptureFixture, story: Story
    ) -> None:
        """After each operation of the provider in turn: the same outcome, one recorded result for each step."""
        caplog.set_level(logging.CRITICAL, "pilotis")
        assert await crash_everywhere(engines, story_of(story)) >= 15

    @pytest.mark.parametrize("story", list(Story), ids=lambda story: story.value)
    async def test_a_lost_answer_changes_nothing(
        self, engines: Engines, clock: ManualClock, caplog: pytest.LogCaptureFixture, story: Story
    ) -> None:
        """To each operation of the provider in turn: what was done is found out, and nobody waits for good."""
        caplog.set_level(logging.CRITICAL, "pilotis")
        assert await lose_every_answer(engines, story_of(story)) >= 10
