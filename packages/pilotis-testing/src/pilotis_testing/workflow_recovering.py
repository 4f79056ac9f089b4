"""What becomes of a run when something goes wrong: compensation, cancelling, time-outs, crashes, new code."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pilotis.backoff import Backoff
from pilotis.bridge import Latch, drive
from pilotis.errors import (
    ConflictError,
    NonDeterminismError,
    NotFoundError,
    WorkflowCancelledError,
    WorkflowFailedError,
)
from pilotis.modules.workflow import Flow, RunInfo, step, workflow
from pilotis.providers import RunQuery

from pilotis_testing.clock import ManualClock
from pilotis_testing.workflow_base import Engines, WorkflowBase, eventually
from pilotis_testing.workflow_crashes import Story, check_crashes, story_of

FOREVER = 30


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


class WorkflowRecoveringChecks(WorkflowBase):
    """Runs that do not go straight to their end."""

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
            return [_error_of(plain.call), _error_of(asynchronous.call)]

        engine = engines()
        run = await engine.start(flow, id="r")
        for _ in range(2):
            await engines.reaches(run, "running")
            await eventually(lambda: engines.clock.waiting >= 2)
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
        await eventually(lambda: engines.clock.waiting >= 2)
        engines.clock.advance(60)
        with pytest.raises(WorkflowFailedError, match="did not end within 60 s"):
            await run.result(timeout=FOREVER)
        assert 1 == engine.stray_calls
        release.set()
        await eventually(lambda: engine.stray_calls == 0)
        assert ["reserve 1", "put back 1 stock-1"] == shop.log
        assert {"reserve", "~reserve"} == {it.step for it in await engine.history("r")}

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
            first = _error_of(pay.call)
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
        ],
    )
    async def test_every_mismatch_is_found(
        self, engines: Engines, caplog: pytest.LogCaptureFixture, before: str, after: str, found: str
    ) -> None:
        """Steps left out, put in, in another place or with other arguments."""
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
            for letter in steps:
                if letter == "!":
                    return
                {"a": a, "b": b}[letter.lower()](int(letter.isupper()))
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

    async def test_a_failed_run_is_retried(self, engine: Any) -> None:
        """Steps that are done stay done."""
        broken, log = [True], list[str]()

        @step
        def first() -> None:
            log.append("first")

        @step
        def second() -> None:
            log.append("second")
            if broken[0]:
                raise ValueError("broken")

        @workflow("retried")
        def flow() -> str:
            first()
            second()
            return "done"

        run = await engine.start(flow, id="r")
        with pytest.raises(WorkflowFailedError):
            await run.result(timeout=FOREVER)
        broken[0] = False
        assert "done" == await (await engine.retry("r")).result(timeout=FOREVER)
        assert ["first", "second", "second"] == log
        with pytest.raises(ConflictError, match="is completed"):
            await engine.retry("r")
        assert "done" == await (await engine.retry("r", from_step="first")).result(timeout=FOREVER)
        assert ["first", "second"] == log[3:]
        with pytest.raises(NotFoundError, match="no record of step 'third'"):
            await engine.retry("r", from_step="third")

    async def test_a_compensated_run_is_retried(self, engine: Any) -> None:
        """What was undone is done again."""
        shop, broken = Shop(), [True]

        @workflow("retried-undone")
        def flow(order: int) -> str:
            shop.reserve(order)
            if broken[0]:
                raise RuntimeError("broken")
            return "done"

        run = await engine.start(flow, 1, id="r")
        with pytest.raises(WorkflowFailedError):
            await run.result(timeout=FOREVER)
        broken[0] = False
        assert "done" == await (await engine.retry("r")).result(timeout=FOREVER)
        assert ["reserve 1", "put back 1 stock-1", "reserve 1"] == shop.log

    async def test_a_fork_goes_its_own_way(self, engine: Any) -> None:
        """It takes over what was recorded before a step; the other run is left as it is."""
        log: list[str] = []

        @step
        def first() -> int:
            log.append("first")
            return len(log)

        @step
        def second() -> int:
            log.append("second")
            return len(log)

        @workflow("forked")
        def flow() -> list[int]:
            return [first(), second()]

        await (await engine.start(flow, id="r")).result(timeout=FOREVER)
        fork = await engine.fork("r", from_step="second", new_id="f")
        assert [1, 3] == await fork.result(timeout=FOREVER)
        assert ["first", "second", "second"] == log
        assert [1, 2] == await (await engine.get("r")).result(timeout=FOREVER)
        with pytest.raises(ConflictError, match="there is a run 'f' already"):
            await engine.fork("r", new_id="f")

    async def test_life_cycle_subscriptions_hear_every_engine(self, engines: Engines) -> None:
        """What happens to runs of one engine is told in another."""
        heard: list[tuple[str, str]] = []

        @workflow("heard")
        def flow(fail: bool) -> None:
            if fail:
                raise ValueError("broken")

        def on(event: str) -> Callable[[RunInfo], None]:
            return lambda info: heard.append((event, info.id))

        listener, worker = engines(role="emit"), engines()
        end = listener.on("run.failed", on("failed"))
        listener.on("run.comp*", on("completed"))
        await listener.start(flow, True, id="a")
        await worker.start(flow, False, id="b")
        await eventually(lambda: sorted(heard) == [("completed", "b"), ("failed", "a")])
        end()
        await worker.start(flow, True, id="c")
        await worker.start(flow, False, id="d")
        await eventually(lambda: ("completed", "d") in heard)
        assert ("failed", "c") not in heard

    async def test_an_emitter_works_on_nothing(self, engines: Engines) -> None:
        """With the role "emit" an engine starts, signals and asks only."""

        @workflow("emitted")
        def flow() -> str:
            return "done"

        emitter = engines(role="emit")
        run = await emitter.start(flow)
        assert not emitter.context.runtime.started
        assert "pending" == await run.status()
        worker = engines()
        await worker.open()
        assert "done" == await run.result(timeout=FOREVER)

    async def test_a_schedule_starts_runs(self, engines: Engines) -> None:
        """At each time of its cron line, once for all engines that have it."""

        @workflow("nightly")
        def nightly(number: int) -> int:
            return number

        for engine in (engines(), engines()):
            await engine.open()
            engine.schedule("0 3 * * *", nightly, 1, id="nightly")
        for day in (1, 2):
            await eventually(lambda: engines.clock.waiting >= 4)
            engines.clock.advance(86_400)
            await eventually(lambda day=day: len(_runs_of(engines, "nightly")) == day)
        fires = [datetime.fromtimestamp(float(id.partition("@")[2]), UTC) for id in _runs_of(engines, "nightly")]
        assert [datetime(2026, 1, day, 3, tzinfo=UTC) for day in (2, 1)] == fires
        assert engine.unschedule("nightly")
        assert not engine.unschedule("nightly")

    async def test_find_lists_runs(self, engine: Any) -> None:
        """By name and state, newest first."""

        @workflow("listed")
        def flow(fail: bool) -> None:
            if fail:
                raise ValueError

        for id, fail in (("a", False), ("b", True), ("c", False)):
            with _ignored(WorkflowFailedError):
                await (await engine.start(flow, fail, id=id)).result(timeout=FOREVER)
        assert ["c", "b", "a"] == [info.id for info in await engine.find(name="listed")]
        assert ["b"] == [info.id for info in await engine.find(status="failed")]
        assert "ValueError: " == (await engine.info("b")).error

    @pytest.mark.parametrize("story", list(Story), ids=lambda story: story.value)
    async def test_a_crash_anywhere_changes_nothing(
        self, engines: Engines, clock: ManualClock, caplog: pytest.LogCaptureFixture, story: Story
    ) -> None:
        """After each operation of the provider in turn: the same outcome, one recorded result for each step."""
        caplog.set_level(logging.CRITICAL, "pilotis")
        assert await check_crashes(engines, story_of(story)) >= 15


def _error_of(call: Callable[[], object]) -> str:
    """Return the kind of error that a step raises, as the workflow sees it."""
    try:
        call()
    except Exception as error:
        return getattr(error, "type", type(error).__name__)
    return "none"


def _runs_of(engines: Engines, name: str) -> list[str]:
    return [run.id for run in drive(engines.provider.find(RunQuery(name=name)))]


def _ignored(kind: type[Exception]) -> Any:
    return contextlib.suppress(kind)
