"""What a workflow does on a provider: steps, their errors, and values."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pilotis.backoff import Backoff
from pilotis.bridge import Latch
from pilotis.errors import (
    ConflictError,
    InvalidInputError,
    OperationTimeoutError,
    StepFailedError,
    TypeMismatchError,
    UsageError,
    WorkflowFailedError,
)
from pilotis.modules.workflow import PermanentError, step, workflow

from pilotis_testing.workflow_base import FOREVER, Engines, WorkflowBase, eventually


@dataclass
class Order:
    """A value with types that JSON does not have."""

    id: int
    total: Decimal


class Declined(Exception):
    """An error that a step names in `raises`."""


@step
def double(number: int) -> int:
    """Return twice the number."""
    return number * 2


@step
async def adouble(number: int) -> int:
    """Return twice the number."""
    return number * 2


class WorkflowRunningChecks(WorkflowBase):
    """Runs that go straight on until they complete or fail."""

    async def test_a_plain_workflow_completes(self, engine: Any) -> None:
        """Its steps are recorded, and its result has the annotated type."""

        @workflow("plain")
        def flow(order: Order) -> Order:
            return Order(double(order.id), order.total)

        run = await engine.start(flow, Order(4, Decimal("1.50")), id="r")
        assert Order(8, Decimal("1.50")) == await run.result(timeout=FOREVER)
        assert "completed" == await run.status()
        assert [("double", "done", 8)] == [(it.step, it.status, it.result) for it in await engine.history("r")]

    async def test_an_async_workflow_completes(self, engine: Any) -> None:
        """Async steps are awaited, plain ones by acall, and both side by side."""

        @workflow("async")
        async def flow(number: int) -> list[int]:
            one = await adouble(number)
            two = await double.acall(one)
            return [one, two, *await workflow.aparallel(adouble.bind(1), double.bind(2))]

        run = await engine.start(flow, 5)
        assert [10, 20, 2, 4] == await run.result(timeout=FOREVER)

    async def test_a_plain_workflow_calls_async_steps(self, engine: Any) -> None:
        """By call, and in parallel."""

        @workflow("mixed")
        def flow() -> list[int]:
            return [adouble.call(1), *workflow.parallel(adouble.bind(2), double.bind(3))]

        assert [2, 4, 6] == await (await engine.start(flow)).result(timeout=FOREVER)

    async def test_parallel_steps_overlap(self, engine: Any) -> None:
        """Each of two steps waits for the other to have begun."""
        begun = [Latch(), Latch()]

        @step
        async def meet(index: int) -> bool:
            begun[index].set()
            return await begun[1 - index].wait(10)

        @workflow("overlap")
        def flow() -> list[bool]:
            return list(workflow.parallel(meet.bind(0), meet.bind(1)))

        assert [True, True] == await (await engine.start(flow)).result(timeout=FOREVER)

    async def test_a_used_id_returns_its_run(self, engine: Any) -> None:
        """With the same arguments; others, and another workflow, are refused."""
        calls: list[int] = []

        @step
        def note(number: int) -> None:
            calls.append(number)

        @workflow("once-by-id")
        def flow(number: int) -> int:
            note(number)
            return number

        @workflow("another")
        def other(number: int) -> int:
            return number

        for _ in range(3):
            assert 1 == await (await engine.start(flow, 1, id="r")).result(timeout=FOREVER)
        assert [1] == calls
        with pytest.raises(ConflictError, match="other arguments"):
            await engine.start(flow, 2, id="r")
        with pytest.raises(ConflictError, match="another workflow"):
            await engine.start(other, 1, id="r")

    async def test_bad_input_is_refused_at_the_start(self, engine: Any) -> None:
        """Arguments that the function does not take, that do not fit, and that cannot be encoded."""

        @workflow("input")
        def flow(number: int) -> int:
            return number

        with pytest.raises(InvalidInputError, match="input of workflow 'input': missing a required argument"):
            await engine.start(flow)
        with pytest.raises(TypeMismatchError, match=r"input of workflow 'input'\[0\]"):
            await engine.start(flow, "one")
        with pytest.raises(InvalidInputError, match=r"input of workflow 'input'\[0\]"):
            await engine.start(flow, object())
        with pytest.raises(InvalidInputError, match="id: expected text"):
            await engine.start(flow, 1, id="")
        with pytest.raises(InvalidInputError, match="decorated with @workflow"):
            await engine.start(lambda: 1)

    async def test_a_failing_step_is_tried_again(self, engines: Engines) -> None:
        """As often as its attempts say, with the waits of its backoff; the waits are durable."""
        tries: list[float] = []

        @step(attempts=3, backoff=Backoff.exponential(10))
        def flaky() -> int:
            tries.append(engines.clock.monotonic())
            if len(tries) < 3:
                raise ValueError("not yet")
            return 7

        @workflow("retries")
        def flow() -> int:
            return flaky()

        run = await engines().start(flow)
        await engines.pass_time(run, 10)
        await eventually(lambda: len(tries) == 2)
        await engines.pass_time(run, 20)
        assert 7 == await run.result(timeout=FOREVER)
        assert [0, 10, 30] == tries

    async def test_a_step_that_fails_for_good_fails_the_run(self, engine: Any) -> None:
        """The workflow gets StepFailedError; whoever asks for the result WorkflowFailedError."""
        seen: list[StepFailedError] = []

        @step(attempts=2, backoff=Backoff.fixed(0))
        def broken() -> None:
            raise KeyError("lost")

        @workflow("fails")
        def flow() -> None:
            try:
                broken()
            except StepFailedError as error:
                seen.append(error)
                raise

        run = await engine.start(flow, id="r")
        with pytest.raises(WorkflowFailedError, match="StepFailedError: step 'broken' failed: KeyError: 'lost'"):
            await run.result(timeout=FOREVER)
        assert ("failed", 2) == (await run.status(), (await engine.history("r"))[0].attempts)
        assert [("broken", "KeyError")] == [(error.step, error.type) for error in seen]

    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
    async def test_nothing_that_a_step_raises_ends_the_worker(self, engine: Any, kind: type[BaseException]) -> None:
        """What is no Exception fails the step, or the run, like any other error."""

        @step
        def plain() -> None:
            raise kind("out")

        @step
        async def coroutine() -> None:
            raise kind("out")

        @workflow("escapes")
        def flow(way: int) -> None:
            if way < 2:
                (plain, coroutine)[way].call()
            elif way < 4:
                workflow.parallel((plain, coroutine)[way - 2].bind())
            raise kind("out")

        for way in range(5):
            run = await engine.start(flow, way)
            with pytest.raises(WorkflowFailedError, match=f"{kind.__name__}: out"):
                await run.result(timeout=FOREVER)

    async def test_a_permanent_error_ends_the_attempts(self, engine: Any) -> None:
        """Whatever is left of them."""
        tries: list[int] = []

        @step(attempts=9)
        def hopeless() -> None:
            tries.append(1)
            raise PermanentError("no use")

        @workflow("permanent")
        def flow() -> None:
            hopeless()

        with pytest.raises(WorkflowFailedError, match="no use"):
            await (await engine.start(flow)).result(timeout=FOREVER)
        assert [1] == tries

    async def test_an_error_looks_the_same_when_replayed(self, engines: Engines) -> None:
        """One of `raises` is restored from its arguments, any other is StepFailedError: before and after a wait."""
        seen: list[tuple[type, tuple[Any, ...]]] = []

        @step(raises=(Declined,))
        def declined() -> None:
            raise Declined("funds", 7)

        @step
        def broken() -> None:
            raise LookupError("gone")

        @workflow("same-errors")
        def flow() -> None:
            for call in (declined, broken):
                try:
                    call()
                except (Declined, StepFailedError) as error:
                    seen.append((type(error), error.args))
            workflow.sleep(5)

        run = await engines().start(flow)
        await engines.pass_time(run, 5)
        await run.result(timeout=FOREVER)
        assert seen[:2] == seen[2:]
        failed = (StepFailedError, ("step 'broken' failed: LookupError: gone",))
        assert [(Declined, ("funds", 7)), failed] == seen[:2]

    async def test_a_failure_can_be_passed_over(self, engine: Any) -> None:
        """With on_failure="continue" the workflow gets None."""

        @step(on_failure="continue")
        def optional() -> int | None:
            raise ValueError

        @workflow("continues")
        def flow() -> bool:
            return optional() is None

        assert await (await engine.start(flow)).result(timeout=FOREVER) is True

    async def test_a_step_has_a_stable_id(self, engine: Any) -> None:
        """The same in each attempt, another one for each call."""
        ids: list[str] = []

        @step(attempts=2, backoff=Backoff.fixed(0))
        def identify(fail: bool) -> None:
            ids.append(workflow.step_id())
            if fail and len(ids) < 2:
                raise ValueError

        @workflow("step-ids")
        def flow() -> None:
            identify(True)
            identify(False)

        await (await engine.start(flow, id="r")).result(timeout=FOREVER)
        assert ["r/identify", "r/identify", "r/identify#2"] == ids

    async def test_values_are_made_once(self, engines: Engines) -> None:
        """Time, ids and random numbers are the same on every replay."""
        seen: list[tuple[datetime, UUID, float]] = []

        @workflow("values")
        def flow() -> None:
            seen.append((workflow.now(), workflow.new_uuid(), workflow.random()))
            workflow.sleep(60)

        run = await engines().start(flow)
        await engines.pass_time(run, 60)
        await run.result(timeout=FOREVER)
        assert seen[0] == seen[1]
        assert UTC == seen[0][0].tzinfo

    async def test_steps_overlap_only_in_parallel(self, engine: Any) -> None:
        """Two steps at once, by any other way, are an error of the program."""
        import asyncio

        @step
        async def slow() -> None:
            await Latch().wait(0.05)

        @workflow("overlapping")
        async def flow() -> None:
            await asyncio.gather(slow(), slow())

        with pytest.raises(WorkflowFailedError, match="began while a step was under way"):
            await (await engine.start(flow)).result(timeout=FOREVER)

    async def test_verbs_have_their_place(self, engine: Any) -> None:
        """Waits belong into the workflow function, the id of a step into a step."""

        @step
        def nap() -> None:
            workflow.sleep(1)

        assert not nap.is_async

        @workflow("misplaced")
        def flow() -> None:
            nap()

        with pytest.raises(WorkflowFailedError, match=r"workflow.sleep was used in the body of a step"):
            await (await engine.start(flow)).result(timeout=FOREVER)
        with pytest.raises(UsageError, match="outside of a step"):
            workflow.step_id()

    async def test_result_waits_no_longer_than_asked(self, engines: Engines) -> None:
        """OperationTimeoutError leaves the run alone."""

        @workflow("waits-for-good")
        def flow() -> str:
            return workflow.wait_for("go", type=str)

        run = await engines().start(flow)
        with pytest.raises(OperationTimeoutError, match="has not ended"):
            await run.result(timeout=0)
        await run.signal("go", "on")
        assert "on" == await run.result(timeout=FOREVER)

    async def test_a_result_that_cannot_be_recorded_fails_the_run(self, engine: Any) -> None:
        """The message names the place."""

        @step
        def odd() -> object:
            return object()

        @workflow("odd-step")
        def flow() -> None:
            odd()

        @workflow("odd-result")
        def result() -> float:
            return float("nan")

        for one, place in ((flow, "result of step 'odd'"), (result, "result of workflow 'odd-result'")):
            with pytest.raises(WorkflowFailedError, match=place):
                await (await engine.start(one)).result(timeout=FOREVER)
