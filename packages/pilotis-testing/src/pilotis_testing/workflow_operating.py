"""What is done with runs from outside: retries, forks, lists, schedules, subscriptions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pilotis.bridge import drive, run_blocking
from pilotis.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    WorkflowCancelledError,
    WorkflowFailedError,
)
from pilotis.modules.workflow import RunInfo, step, workflow
from pilotis.providers import Letter, RunQuery, WorkflowCapability, WorkflowProvider

from pilotis_testing.colours import Colour, soon
from pilotis_testing.workflow_base import FOREVER, Engines, Shop, WorkflowBase, eventually

REFUSED: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (
        lambda engine: engine.start("no-such-workflow"),
        InvalidInputError,
        "workflow: expected a function decorated",
    ),
    (lambda engine: engine.signal("r", "go", object()), InvalidInputError, "payload of signal 'go'"),
    (lambda engine: engine.signal("r", "go", float("nan")), InvalidInputError, "payload of signal 'go'"),
    (lambda engine: engine.signal("r", ""), InvalidInputError, "signal name: expected text"),
    (
        lambda engine: engine.signal("r\n", "go"),
        InvalidInputError,
        "id: expected text without control characters",
    ),
    (lambda engine: engine.signal("nobody", "go"), NotFoundError, "there is no run 'nobody'"),
    (lambda engine: engine.complete_step("r", "pay", object()), InvalidInputError, "result of step 'pay'"),
    (lambda engine: engine.complete_step("nobody", "pay", 1), NotFoundError, "there is no run 'nobody'"),
    (lambda engine: engine.fail_step("nobody", "pay", "lost"), NotFoundError, "there is no run 'nobody'"),
    (lambda engine: engine.cancel("nobody"), NotFoundError, "there is no run 'nobody'"),
    (lambda engine: engine.get("nobody"), NotFoundError, "there is no run 'nobody'"),
    (lambda engine: engine.history("nobody"), NotFoundError, "there is no run 'nobody'"),
    (lambda engine: engine.retry("nobody"), NotFoundError, "there is no run 'nobody'"),
    (lambda engine: engine.retry("r"), ConflictError, "run 'r' is waiting"),
    (lambda engine: engine.fork("r", from_step="pay#9"), NotFoundError, "no record of step 'pay#9'"),
    (lambda engine: engine.fork("r", new_id="r"), ConflictError, "there is a run 'r' already"),
    (lambda engine: engine.find(status="asleep"), InvalidInputError, "status: expected one of"),
    (lambda engine: engine.find(limit=0), InvalidInputError, "limit: expected a whole number from 1"),
]
"""What is asked of an engine about a run "r" that waits, and how it is refused."""


class WorkflowOperatingChecks(WorkflowBase):
    """Runs in the hands of people and programs."""

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

    async def test_a_retry_begins_the_timeout_anew(self, engines: Engines) -> None:
        """The same as at first, however often."""

        @workflow("retried-late", timeout=60)
        def flow() -> None:
            workflow.wait_for("never")

        engine = engines()
        run = await engine.start(flow, id="r")
        for _ in range(3):
            await engines.records(run, "@signal:never", "waiting")
            engines.clock.advance(59)
            await engines.waits(run)
            engines.clock.advance(1)
            with pytest.raises(WorkflowFailedError, match="did not end within 60 s"):
                await run.result(timeout=FOREVER)
            await engine.retry("r", from_step="@signal:never")

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
        """At each time of its cron expression, once for all engines that have it."""

        @workflow("nightly")
        def nightly(number: int) -> int:
            return number

        for engine in (engines(), engines()):
            await engine.open()
            engine.schedule("0 3 * * *", nightly, 1, id="nightly")
        for count, seconds in ((1, 3 * 3600), (2, 24 * 3600)):
            await eventually(lambda seconds=seconds: engines.clock.ending_in(seconds) == 2)
            engines.clock.advance(seconds)
            await eventually(lambda count=count: len(_runs_of(engines, "nightly")) == count)
        started = await run_blocking(_runs_of, engines, "nightly")
        fires = [datetime.fromtimestamp(float(id.partition("@")[2]), UTC) for id in started]
        assert [datetime(2026, 1, day, 3, tzinfo=UTC) for day in (2, 1)] == fires
        assert engine.unschedule("nightly")
        assert not engine.unschedule("nightly")

    @pytest.mark.parametrize(("ask", "kind", "said"), REFUSED)
    async def test_bad_input_leaves_runs_alone(
        self, engines: Engines, ask: Callable[[Any], Any], kind: type[Exception], said: str
    ) -> None:
        """It is told by a typed error; a run that waits goes on waiting, and takes what is sent to it next."""

        @workflow("undisturbed")
        def flow() -> Any:
            return workflow.wait_for("go")

        engine = engines()
        run = await engine.start(flow, id="r")
        await engines.reaches(run, "waiting")
        with pytest.raises(kind, match=said):
            await ask(engine)
        assert [("r", "waiting")] == [(info.id, info.status) for info in await engine.find()]
        await run.signal("go", "on")
        assert "on" == await run.result(timeout=FOREVER)

    @pytest.mark.parametrize("id", ["ordre n° 1/é", "{x}:*?[a]%7B", "@step:~a#2", "'; -- \"", "x" * 1024])
    async def test_ids_may_have_odd_characters(self, engines: Engines, id: str) -> None:
        """They are no patterns and no parts of keys, and neither are those of children."""

        @workflow("odd-child")
        def child() -> str:
            return workflow.wait_for("go", type=str)

        @workflow("odd-parent")
        def parent() -> str:
            return workflow.start_child(child).result()

        engine = engines()
        run = await engine.start(parent, id=id)
        await engines.reaches(run, "waiting")
        await soon(lambda: engines.status(f"{id}/odd-child") == "waiting")
        assert await engines.provider.signal(f"{id}/odd-child", "go", Letter(b'"on"'))
        assert "on" == await run.result(timeout=FOREVER)
        assert id in [info.id for info in await engine.find(name="odd-parent", status="completed")]

    async def test_a_large_result_arrives_whole(self, engine: Any) -> None:
        """Of a step, of a workflow and of a signal."""
        large = "é" * 1_000_000

        @step
        def make() -> str:
            return large

        @workflow("large")
        def flow() -> list[str]:
            return [make(), workflow.wait_for("more", type=str)]

        run = await engine.start(flow)
        await run.signal("more", large)
        assert [large, large] == await run.result(timeout=FOREVER)

    async def test_cancelling_again_does_nothing_more(self, engines: Engines) -> None:
        """It is told whether the run had ended; compensations run once."""
        undone: list[int] = []

        @step
        def reserve() -> int:
            return 1

        @reserve.compensate
        def put_back(reserved: int) -> None:
            undone.append(reserved)

        @workflow("cancelled-twice")
        def flow() -> None:
            reserve()
            workflow.wait_for("never")

        engine = engines()
        run = await engine.start(flow)
        await engines.reaches(run, "waiting")
        assert await run.cancel() is True
        await run.cancel()
        with pytest.raises(WorkflowCancelledError):
            await run.result(timeout=FOREVER)
        assert (False, [1], "cancelled") == (await run.cancel(), undone, await run.status())

    async def test_a_retention_of_nothing_keeps_nothing(self, engines: Engines) -> None:
        """The run is gone soon after its end, and whoever asks is told so."""

        @workflow("forgotten", retention=0)
        def flow() -> None:
            workflow.wait_for("go")

        engine = engines()
        run = await engine.start(flow)
        await engines.reaches(run, "waiting")
        await run.signal("go")
        await soon(lambda: engines.status(run.id) is None)
        with pytest.raises(NotFoundError, match="its retention is over"):
            await run.status()
        assert [] == await engine.find(name="forgotten")

    async def test_capabilities_are_declared(self, provider: WorkflowProvider, colour: Colour) -> None:
        """Who says that other processes see the runs is a shared provider, and the other way round."""
        assert isinstance(provider.capabilities, WorkflowCapability)
        assert provider.shared is bool(provider.capabilities & WorkflowCapability.CROSS_PROCESS)

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


def _runs_of(engines: Engines, name: str) -> list[str]:
    completed = RunQuery(name=name, statuses=frozenset({"completed"}))
    return [run.id for run in drive(engines.provider.find(completed))]


def _ignored(kind: type[Exception]) -> Any:
    return contextlib.suppress(kind)
