"""What is declared to an engine beside its workflows, and the time that it goes by."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pilotis import Pilotis
from pilotis.cron import cron_times
from pilotis.errors import ConfigurationError, InvalidInputError
from pilotis.modules.workflow import RunInfo, WorkflowEngine, step, workflow
from pilotis.providers import Context
from pilotis_testing import ManualClock
from pilotis_testing.clock import until
from pilotis_workflow_memory import MemoryWorkflow


@pytest.fixture
def engine() -> Iterator[Any]:
    """An engine on a provider of its own."""
    engine = WorkflowEngine(MemoryWorkflow())
    yield engine
    engine.close()
    engine.context.runtime.stop()


def test_a_forked_child_leaves_the_runs_to_its_parent(engine: Any) -> None:
    """It starts with none, and can work on its own. What was declared is declared there too."""

    @workflow("before-fork")
    def flow(number: int) -> int:
        return number

    heard: list[str] = []

    def hear(info: RunInfo) -> None:
        heard.append(info.id)

    engine.on("run.completed", hear)
    engine.schedule("0 0 29 2 *", flow, 3, id="leap")
    assert 1 == engine.start(flow, 1, id="r").result(timeout=10)
    until(lambda: heard == ["r"])
    pid = os.fork()
    if pid == 0:
        fine = not engine.find() and engine.start(flow, 2, id="child").result(timeout=10) == 2
        until(lambda: heard == ["r", "child"])
        os._exit(0 if fine and engine.unschedule("leap") else 1)
    assert 0 == os.waitpid(pid, 0)[1]
    assert 1 == engine.get("r").result(timeout=10)


def test_schedules_and_subscriptions_are_checked(engine: Any) -> None:
    """Odd cron expressions, used ids, and events that do not exist."""

    @workflow("scheduled")
    def flow() -> None: ...

    engine.schedule("0 3 * * *", flow, id="nightly")
    with pytest.raises(ConfigurationError, match="there is a schedule 'nightly' already"):
        engine.schedule("0 4 * * *", flow, id="nightly")
    with pytest.raises(ConfigurationError, match="cron expression"):
        engine.schedule("now and then", flow, id="other")
    with pytest.raises(ValueError, match="overlap"):
        engine.schedule("0 3 * * *", flow, id="other", overlap="queue")
    with pytest.raises(ValueError, match="event: expected one of run"):
        engine.on("run.exploded", print)


def test_a_subscriber_that_fails_does_not_stop_others(engine: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What it raises is logged."""
    heard: list[str] = []

    def broken(info: object) -> None:
        raise ValueError("deaf")

    def hear(info: RunInfo) -> None:
        heard.append(info.id)

    engine.on("run.completed", broken)
    engine.on("run.completed", hear)

    @workflow("listened-to")
    def flow() -> None: ...

    engine.start(flow, id="r").result(timeout=10)
    until(lambda: heard == ["r"])
    assert "a subscriber to run.completed failed for run r" in caplog.text


def test_an_override_has_what_was_declared() -> None:
    """Schedules and subscriptions, which follow its clock."""
    heard: list[str] = []

    @workflow("overridden")
    def flow() -> None: ...

    def hear(info: RunInfo) -> None:
        heard.append(info.id)

    clock = ManualClock()
    with Pilotis({"workflow": "memory"}) as app:
        app.workflow.on("run.completed", hear)
        app.workflow.schedule("0 3 * * *", flow, id="nightly")
        with app.override(clock=clock) as other:
            other.workflow.open()
            clock.wait_for_waiters(3)
            clock.advance(3 * 3600)
            until(lambda: len(heard) == 1)
        assert not app.workflow.find()
    assert heard[0].startswith("nightly@")


def test_time_is_that_of_the_clock() -> None:
    """In a step too."""
    clock = ManualClock(start=86_400.0)
    engine = WorkflowEngine(MemoryWorkflow(), context=Context(clock=clock))

    @step
    def today() -> str:
        return workflow.now().isoformat()

    @workflow("tells-the-time")
    def flow() -> list[str]:
        return [today(), workflow.now().isoformat()]

    assert ["1970-01-02T00:00:00+00:00"] * 2 == engine.start(flow).result(timeout=10)
    engine.close()
    engine.context.runtime.stop()


def test_cron_expressions() -> None:
    """The next time after another; odd expressions are refused."""
    assert 3 * 3600.0 == cron_times("0 3 * * *")(0.0)
    with pytest.raises(ConfigurationError, match="cron expression 'often' cannot be read"):
        cron_times("often")
    with pytest.raises(ConfigurationError, match=r"never comes true|cannot be read"):
        cron_times("0 0 30 2 *")
    with pytest.raises(InvalidInputError, match="expression: expected text, got int"):
        cron_times(5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigurationError, match="time zone 'Europe/Atlantis' is not known"):
        cron_times("0 3 * * *", "Europe/Atlantis")


@pytest.mark.parametrize(
    ("expression", "zone", "after", "expected"),
    [
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00", "2028-02-29T00:00:00+00:00"),
        ("30 2 * * *", "Europe/Paris", "2026-03-28T12:00", "2026-03-29T03:00:00+02:00"),  # 02:30 does not exist
        ("30 2 * * *", "Europe/Paris", "2026-10-24T12:00", "2026-10-25T02:30:00+02:00"),
        ("30 2 * * *", "Europe/Paris", "2026-10-25T02:30", "2026-10-26T02:30:00+01:00"),  # not again at +01:00
    ],
)
def test_odd_days_of_the_calendar(expression: str, zone: str, after: str, expected: str) -> None:
    """Leap days, the hour that is skipped in spring, and the one that is repeated in autumn."""
    begin = datetime.fromisoformat(after).replace(tzinfo=ZoneInfo(zone)).timestamp()
    following = cron_times(expression, zone)(begin)
    assert expected == datetime.fromtimestamp(following, ZoneInfo(zone)).isoformat()


ODD: list[tuple[str, list[Any], dict[str, Any], str]] = [
    ("find", [], {"name": []}, "name: expected text"),
    ("find", [], {"status": []}, "status: expected one of"),
    ("find", [], {"since": datetime(2026, 1, 1)}, "since: expected a datetime with a time zone"),  # noqa: DTZ001
    ("signal", ["r", "go"], {"signal_id": []}, "signal id: expected text"),
    ("fail_step", ["r", "pay", 5], {}, "error: expected text or an exception, got int"),
    ("unschedule", [[]], {}, "id: expected text"),
    ("on", ["run.failed", 5], {}, "subscriber: expected a function"),
    ("schedule", ["* * * * *", print], {"id": "s"}, "workflow: expected a function decorated with @workflow"),
]


@pytest.mark.parametrize(("verb", "args", "options", "message"), ODD)
def test_odd_arguments_are_refused(
    engine: Any, verb: str, args: list[Any], options: dict[str, Any], message: str
) -> None:
    """Naming the argument, before anything is done."""
    with pytest.raises(InvalidInputError, match=message):
        getattr(engine, verb)(*args, **options)
