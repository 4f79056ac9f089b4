"""What is special about runs in memory: their events, closing, forks, and how an app finds them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace
from pilotis.backoff import Backoff
from pilotis.discovery import resolve
from pilotis.errors import ClosedError, WorkflowCancelledError, WorkflowFailedError
from pilotis.modules.workflow import WorkflowEngine, step, workflow
from pilotis.modules.workflow.beginnings import new_run
from pilotis.providers import Context, Ending, Fence, OutgoingEvent, RunQuery, RunRecord, StepRecord
from pilotis.scopes import stage
from pilotis.settings.model import WorkflowSettings
from pilotis_testing import ManualClock
from pilotis_testing.clock import until
from pilotis_workflow_memory import MemoryWorkflow


class Post:
    """Stands at the end of the event bus that a run hands its events to: keeps what is sent, once for each id."""

    def __init__(self) -> None:
        self.sent: dict[str, str] = {}
        self.failures = 0

    async def aemit(self, name: str) -> None:
        """Hand an event to whatever surrounds the code, as the bus does."""
        around = stage.get()
        assert around is not None
        await around.stage(self, [OutgoingEvent("new", name, b"{}")])

    async def asend(self, events: Sequence[OutgoingEvent]) -> None:
        """Send events, unless the line is down."""
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the line is down")
        self.sent.update({event.id: event.name for event in events})


@pytest.fixture
def engine() -> Any:
    """An engine on a provider of its own."""
    engine = WorkflowEngine(MemoryWorkflow())
    yield engine
    engine.close()
    engine.context.runtime.stop()


def test_settings_find_it() -> None:
    """Under the name `memory`."""
    assert resolve("workflow", "memory") is MemoryWorkflow


def test_events_leave_when_the_run_completes(engine: Any) -> None:
    """Those of the function and those of its steps, in order, once each however often the function is replayed."""
    post = Post()

    @step
    async def inside() -> None:
        await post.aemit("step")

    @workflow("emits")
    async def flow() -> str:
        await post.aemit("before")
        await inside()
        assert not post.sent
        await workflow.asleep(0.01)
        await post.aemit("after")
        return "done"

    assert "done" == engine.start(flow, id="r").result(timeout=10)
    assert {"r/0.0": "before", "r/inside/0.0": "step", "r/2.0": "after"} == post.sent


def test_events_of_a_failed_run_are_dropped(engine: Any) -> None:
    """And so are those of an attempt that failed."""
    post, tries = Post(), list[int]()

    @step(attempts=2, backoff=Backoff.fixed(0))
    async def second_time() -> None:
        tries.append(1)
        await post.aemit(f"try {len(tries)}")
        if len(tries) < 2:
            raise ValueError

    @workflow("emits-and-fails")
    async def flow(fail: bool) -> None:
        await second_time()
        if fail:
            raise RuntimeError

    engine.start(flow, False).result(timeout=10)
    with pytest.raises(WorkflowFailedError):
        engine.start(flow, True).result(timeout=10)
    assert ["try 2"] == list(post.sent.values())


def test_events_are_sent_again_until_they_have_left() -> None:
    """A run is not finished before, and nothing of it is run again."""
    post, clock, calls = Post(), ManualClock(), list[int]()
    post.failures = 2
    engine = WorkflowEngine(MemoryWorkflow(), context=Context(clock=clock))

    @workflow("emits-late")
    async def flow() -> None:
        calls.append(1)
        await post.aemit("placed")

    run = engine.start(flow, id="r")
    for left in (1, 0):
        until(lambda left=left: post.failures == left and clock.ending_in(1) == 1)
        clock.advance(1)
    run.result(timeout=10)
    assert ({"r/0.0": "placed"}, [1]) == (post.sent, calls)
    engine.close()
    engine.context.runtime.stop()


def test_a_completed_run_with_events_can_be_run_again(engine: Any) -> None:
    """From a step on: its recorded result does not stand in the way."""
    post, calls = Post(), list[int]()

    @step
    def count() -> int:
        calls.append(1)
        return len(calls)

    @workflow("emits-again")
    async def flow() -> int:
        await post.aemit("counted")
        return await count.acall()

    assert 1 == engine.start(flow, id="r").result(timeout=10)
    assert 2 == engine.retry("r", from_step="count").result(timeout=10)


class Faulty(MemoryWorkflow):
    """Cannot be reached the first times that something is written."""

    failures = 3

    async def commit(self, fence: Fence, records: Sequence[StepRecord]) -> bool:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("no route")
        return await super().commit(fence, records)


def test_an_outage_is_no_error_of_a_step(caplog: pytest.LogCaptureFixture) -> None:
    """User code never sees it: the run is given back, and goes on when the provider is there again."""
    clock, provider, seen = ManualClock(), Faulty(), list[Exception]()
    engine = WorkflowEngine(provider, context=Context(clock=clock))

    @step
    def one() -> int:
        return 1

    @workflow("outage")
    def flow() -> int:
        try:
            return one()
        except Exception as error:
            seen.append(error)
            raise

    run = engine.start(flow)
    for left in (2, 1, 0):
        until(lambda left=left: provider.failures == left)
        clock.wait_for_waiters(2)
        clock.advance(1)
    assert 1 == run.result(timeout=10)
    assert ([], 3) == (seen, caplog.text.count("the provider failed: no route"))
    engine.close()
    engine.context.runtime.stop()


class FaultyEnd(MemoryWorkflow):
    """Cannot be reached the first time that a run comes to rest, and the first time that one is given back."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = {"finish": 1, "give_back": 1}

    async def finish(self, fence: Fence, ending: Ending) -> RunRecord:
        self._fail("finish")
        return await super().finish(fence, ending)

    async def give_back(self, fence: Fence) -> None:
        self._fail("give_back")
        await super().give_back(fence)

    def _fail(self, verb: str) -> None:
        if self.failures[verb]:
            self.failures[verb] -= 1
            raise ConnectionError("no route")


@pytest.mark.parametrize("stuck", [False, True])
def test_no_run_is_lost_to_an_outage_at_its_end(stuck: bool, caplog: pytest.LogCaptureFixture) -> None:
    """It is given back as soon as that works, and comes to rest the same way the second time."""
    clock, provider = ManualClock(), FaultyEnd()
    engine = WorkflowEngine(provider, context=Context(clock=clock))

    @step
    def one() -> int:
        return 1

    @workflow("outage-at-the-end")
    def flow() -> int:
        return 1 if stuck else one()

    if stuck:
        record = StepRecord(key="other", order=0, status="done", result=b"1")
        run = new_run(engine.context, flow, "r", b"[]", None)
        asyncio.run(provider.start(run, [record]))
        engine.open()
    else:
        engine.start(flow, id="r")
    for _ in range(2):
        clock.wait_for_waiters(2)
        clock.advance(1)
    until(lambda: engine.get("r").status() == ("stuck" if stuck else "completed"))
    assert {"finish": 0, "give_back": 0} == provider.failures
    engine.close()
    engine.context.runtime.stop()


def test_async_code_runs_on_its_home_loop() -> None:
    """Workflow and steps share the loop of the app, and what is bound to it."""

    async def main() -> None:
        home = asyncio.get_running_loop()
        lock = asyncio.Lock()
        engine = WorkflowEngine(MemoryWorkflow())
        engine.context.runtime.home = home

        @step
        async def locked() -> bool:
            async with lock:
                await asyncio.sleep(0)
                return asyncio.get_running_loop() is home

        @workflow("at-home")
        async def flow() -> list[bool]:
            return [await locked(), *await workflow.aparallel(locked.bind(), locked.bind())]

        @workflow("plain-at-home")
        def plain() -> list[bool]:
            return [locked.call(), *workflow.parallel(locked.bind(), locked.bind())]

        for one in (flow, plain):
            assert [True] * 3 == await (await engine.astart(one)).aresult(timeout=10)
        await engine.aclose()
        engine.context.runtime.stop()

    asyncio.run(main())


def test_retention_comes_from_the_workflow_or_the_settings() -> None:
    """What the workflow says counts more; None keeps runs for good."""
    provider = MemoryWorkflow()
    engine = WorkflowEngine(provider, settings=WorkflowSettings(retention=7), context=Context(role="emit"))

    @workflow("kept-default")
    def default() -> None: ...

    @workflow("kept-short", retention=5)
    def short() -> None: ...

    @workflow("kept-for-good", retention=None)
    def good() -> None: ...

    for flow in (default, short, good):
        engine.start(flow)
    runs = asyncio.run(provider.find(RunQuery()))
    assert [None, 5, 7] == [run.retention for run in runs]
    engine.close()


def test_no_thread_is_started_without_work() -> None:
    """Opening, asking and closing need none."""
    engine = WorkflowEngine(MemoryWorkflow())
    engine.open()
    assert [] == engine.find()
    engine.on("run.failed", print)
    assert engine.context.runtime.started
    engine.close()
    quiet = WorkflowEngine(MemoryWorkflow())
    quiet.open()
    quiet.close()
    assert not quiet.context.runtime.started
    engine.context.runtime.stop()
    with pytest.raises(ClosedError):
        engine.find()


def test_concurrency_is_bounded() -> None:
    """More runs than that wait for their turn."""
    engine = WorkflowEngine(MemoryWorkflow(), settings=WorkflowSettings(concurrency=2))
    running, most = [0], [0]

    @step
    async def busy() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        await asyncio.sleep(0.002)
        running[0] -= 1

    @workflow("bounded")
    async def flow() -> None:
        await busy()

    for run in [engine.start(flow) for _ in range(10)]:
        run.result(timeout=10)
    assert [2] == most
    engine.close()
    engine.context.runtime.stop()


def test_many_runs_at_once(engine: Any) -> None:
    """All end, and are found."""

    @step
    def one() -> int:
        return 1

    @workflow("many")
    def flow() -> int:
        return one() + one() + one()

    runs = [engine.start(flow) for _ in range(500)]
    assert {3} == {run.result(timeout=20) for run in runs}
    assert 500 == len(engine.find(name="many", limit=1000))


def test_steps_of_a_parallel_begin_together(engine: Any) -> None:
    """A cancellation that comes as they begin finds all of them under way: each is recorded, and compensated."""
    log: list[str] = []

    @step
    async def first() -> None:
        await engine.acancel("r")
        await asyncio.sleep(0.01)
        log.append("first")

    @step
    async def second() -> None:
        log.append("second")

    for it in (first, second):

        @it.compensate
        def undo(result: None, name: str = it.name) -> None:
            log.append(f"not {name}")

    @workflow("together")
    def flow() -> None:
        workflow.parallel(first.bind(), second.bind())
        workflow.wait_for("go")

    with pytest.raises(WorkflowCancelledError):
        engine.start(flow, id="r").result(timeout=10)
    assert ["first", "not first", "not second", "second"] == sorted(log)


def test_a_result_outlasts_a_retry() -> None:
    """Who waits without a limit goes on waiting when the run was set going again as it ended."""

    class Hasty(MemoryWorkflow):
        hasty = True

        async def ended(self, id: str, timeout: float | None) -> RunRecord | None:
            run = await super().ended(id, timeout)
            if run is not None and self.hasty:
                self.hasty = False
                return replace(run, status="pending", result=None)
            return run

    @workflow("again")
    def flow() -> int:
        return 1

    engine = WorkflowEngine(Hasty())
    assert 1 == engine.start(flow).result()
    engine.close()
    engine.context.runtime.stop()
