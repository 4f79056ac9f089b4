"""Steps and workflow functions without any engine, and what is refused where it is written."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from pilotis.backoff import Backoff
from pilotis.errors import (
    BlockingCallInEventLoopError,
    ConfigurationError,
    InvalidInputError,
    StepFailedError,
    StepInterruptedError,
    UsageError,
)
from pilotis.modules.workflow import PermanentError, step, workflow
from pilotis.modules.workflow.beginnings import kept
from pilotis.modules.workflow.faults import fault_of, step_error
from pilotis.modules.workflow.flows import check_flow, find_flow
from pilotis.modules.workflow.model import StepRecord


@step
def double(number: int) -> int:
    """Twice a number."""
    return number * 2


@step(attempts=3)
async def adouble(number: int) -> int:
    return number * 2


@workflow("outside")
def outside(number: int) -> list[int]:
    return [double(number), *workflow.parallel(double.bind(1), adouble.bind(2))]


class Declined(Exception):
    """A business error."""


class DeclinedForGood(Declined, PermanentError):
    """One that is final."""


class Particular(Exception):
    """Its constructor does not take what it leaves in `args`."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code


# Outside of a workflow


def test_a_step_is_the_plain_function() -> None:
    """No engine is needed to test one."""
    assert 6 == double(3)
    assert 6 == double.call(3)
    assert 6 == asyncio.run(adouble(3))
    assert 6 == asyncio.run(double.acall(3))
    assert "Twice a number." == double.__doc__


def test_a_workflow_is_the_plain_function() -> None:
    """Its steps are called one after the other, and parallel ones too; values are made anew."""
    assert [6, 2, 4] == outside(3)
    assert workflow.now().tzinfo is not None
    assert workflow.new_uuid() != workflow.new_uuid()
    assert 0 <= workflow.random() < 1
    assert (False, False, True) == (workflow.is_replaying(), workflow.cancelled(), workflow.patched("x"))


def test_waits_need_a_workflow() -> None:
    """They say where they belong."""
    for act in (lambda: workflow.sleep(1), lambda: workflow.wait_for("x"), lambda: workflow.start_child(outside, 1)):
        with pytest.raises(UsageError, match=r"outside of a workflow; call it in a function decorated with @workflow"):
            act()
    with pytest.raises(UsageError, match="outside of a step"):
        workflow.step_id()


def test_blocking_verbs_are_refused_in_a_loop() -> None:
    """As everywhere, the message names the twin."""

    async def act() -> None:
        workflow.parallel(double.bind(1))

    with pytest.raises(BlockingCallInEventLoopError, match="aparallel"):
        asyncio.run(act())


# Refused where it is written


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attempts": 0}, "step 'bad': attempts: expected a whole number from 1, got 0"),
        ({"attempts": True}, "attempts: expected a whole number"),
        ({"once": True, "attempts": 2}, "once=True never runs twice"),
        ({"raises": (1,)}, r"raises: expected a tuple of exception classes, \(Declined,\), got \(1,\)"),
        ({"raises": ValueError}, "raises: expected a tuple of exception classes"),
        ({"backoff": 5}, "backoff: expected a Backoff"),
        ({"once": "no"}, "once: expected True or False, got 'no'"),
        ({"on_failure": "ignore"}, 'on_failure: expected "fail" or "continue"'),
        ({"name": "a#2"}, "the characters @ ~ # and / are used in keys"),
    ],
)
def test_odd_options_of_a_step_are_refused(options: dict[str, Any], message: str) -> None:
    """With the name of the step and what was expected."""
    decorate: Any = step
    with pytest.raises(ConfigurationError, match=message):
        decorate(**{"name": "bad", **options})(lambda: None)


def test_methods_are_refused() -> None:
    """A step's arguments are recorded, and an object is no argument."""
    with pytest.raises(ConfigurationError, match="charge is a method"):

        class Gateway:  # pyright: ignore[reportUnusedClass]
            @step
            def charge(self) -> None: ...


def test_odd_functions_and_names_are_refused() -> None:
    """By the decorators, which take functions and text."""
    odd: Any = 5
    with pytest.raises(ConfigurationError, match=r"@workflow\('bad'\) decorates a function, got 5"):
        workflow("bad")(odd)
    with pytest.raises(ConfigurationError, match="@step decorates a function, got 5"):
        step()(odd)
    with pytest.raises(InvalidInputError, match="step name: expected text of 1 to 200 characters"):
        step(name="")(lambda: None)
    with pytest.raises(InvalidInputError, match="workflow 'bad': retention"):
        workflow("bad", retention=-1)


def test_odd_durations_are_refused() -> None:
    """Negative ones and NaN, for steps and workflows."""
    with pytest.raises(InvalidInputError, match="step 'bad': timeout"):
        step(name="bad", timeout=-1)
    with pytest.raises(InvalidInputError, match="workflow 'bad': timeout"):
        workflow("bad", timeout=float("nan"))
    with pytest.raises(InvalidInputError, match="workflow name"):
        workflow("")


def test_a_compensation_takes_arguments_and_result() -> None:
    """Anything else is refused when it is decorated, and so is a second one."""

    @step
    def book(order: int) -> str:
        return str(order)

    with pytest.raises(ConfigurationError, match="must take the step's 1 arguments, and then its result"):

        @book.compensate
        def too_few(result: str) -> None: ...

    @book.compensate(attempts=2, backoff=Backoff.fixed(1), timeout=timedelta(seconds=5))
    def unbook(order: int, result: str) -> None: ...

    assert book.undo is not None
    assert (2, 5.0) == (book.undo.options.attempts, book.undo.options.timeout)
    with pytest.raises(ConfigurationError, match="two compensations"):
        book.compensate(unbook)


def test_functions_of_one_name_are_told_apart() -> None:
    """By where they are defined. The same one again replaces itself; one that has moved is found by its name."""

    def define() -> Any:
        @workflow("shared-name")
        def flow() -> None: ...

        return flow

    @workflow("shared-name")
    def other() -> None: ...

    first, second = define(), define()
    assert find_flow("shared-name", "1", first.origin) is second
    assert find_flow("shared-name", "1", other.origin) is other
    assert find_flow("shared-name", "1", "moved.flow") is second
    assert find_flow("shared-name", "2", second.origin) is None


def test_a_workflow_is_looked_for_by_name() -> None:
    """An unknown one is told with those that are known."""
    assert check_flow("outside") is outside
    with pytest.raises(
        InvalidInputError, match=r"expected a function decorated with @workflow, got 'no-such' .*outside"
    ):
        check_flow("no-such")


def test_parallel_takes_bound_steps_only() -> None:
    """The message shows how."""
    with pytest.raises(InvalidInputError, match=r"parallel\[0\]: expected a bound step such as charge.bind\(order\)"):
        workflow.parallel(double)  # pyright: ignore[reportArgumentType, reportCallIssue]
    with pytest.raises(TypeError):
        double.bind()  # pyright: ignore[reportCallIssue]


# Errors to records and back


def test_errors_in_raises_are_restored() -> None:
    """A subclass as the class that is named; others as StepFailedError."""
    restored = step_error(fault_of(Declined("funds", 3), (Declined,)), "charge", (Declined,))
    assert (Declined, ("funds", 3)) == (type(restored), restored.args)
    assert type(step_error(fault_of(DeclinedForGood("x"), (Declined,)), "charge", (Declined,))) is Declined
    other = step_error(fault_of(ValueError("odd"), (Declined,)), "charge", (Declined,))
    assert isinstance(other, StepFailedError)
    assert ("charge", "ValueError", "odd") == (other.step, other.type, other.message)


@pytest.mark.parametrize("error", [Particular(4, reason="x"), Declined(object())])
def test_errors_that_cannot_be_restored_are_step_failures(error: Exception) -> None:
    """The first time as well, so that it looks the same on every replay."""
    raises = (Particular, Declined)
    assert isinstance(step_error(fault_of(error, raises), "charge", raises), StepFailedError)


def test_permanent_errors_are_known_as_such() -> None:
    """By themselves, by their base, and by interruption."""
    errors = (PermanentError("x"), DeclinedForGood("x"), StepInterruptedError("x"), ValueError("x"))
    assert [True, True, True, False] == [fault_of(error).permanent for error in errors]


# Rewinding


def _record(key: str, order: int, status: Any = "done", *, group: int | None = None) -> StepRecord:
    return StepRecord(key=key, order=order, status=status, group=order if group is None else group)


@pytest.mark.parametrize(
    ("journal", "keeps"),
    [
        ([_record("a", 0), _record("b", 1)], ["a", "b"]),
        ([_record("@patched:x", -1), _record("a", 0), _record("@return", -1)], ["@patched:x", "a"]),
        ([_record("a", 0), _record("b", 1, "failed")], ["a"]),
        ([_record("a", 0, "failed"), _record("b", 1), _record("c", 2, "failed")], ["a", "b"]),
        ([_record("a", 0), _record("b", 1), _record("~b", -1), _record("c", 2)], ["a"]),
        ([_record("a", 0), _record("@signal:x", 1, "due")], ["a"]),
        ([_record("a", 0), _record("@sleep", 1, "due")], ["a", "@sleep"]),
        ([_record("a", 0), _record("b", 1, "failed", group=1), _record("c", 2, group=1)], ["a"]),
    ],
)
def test_a_retry_keeps_what_was_done(journal: list[StepRecord], keeps: list[str]) -> None:
    """Up to what failed last, or was compensated first."""
    assert keeps == [record.key for record in kept(journal, None, "r")]
