"""Crashing the workers of an application's own workflow, wherever they can crash."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
from pilotis import Backoff, step, workflow
from pilotis_testing import Colour
from pilotis_testing.workflow import acheck_crashes, check_crashes

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Workers that crash say so."""
    caplog.set_level(logging.CRITICAL, "pilotis")


async def test_a_sound_workflow_passes(colour: Colour) -> None:
    """Retries, steps side by side, a signal, a sleep, a child and a compensation: crashes change nothing."""
    tries = Counter[str]()

    @step
    def reserve(order: int) -> str:
        return f"stock-{order}"

    @reserve.compensate
    def put_back(order: int, stock: str) -> None: ...

    @step(attempts=3, backoff=Backoff.fixed(10))
    def charge(order: int) -> int:
        tries[workflow.step_id()] += 1
        if tries[workflow.step_id()] == 1:
            raise ConnectionError("the bank is closed")
        return order * 10

    @workflow("sound-child")
    def survey(order: int) -> None:
        workflow.sleep(60)

    @workflow("sound")
    def sell(order: int) -> None:
        workflow.parallel(reserve.bind(order), charge.bind(order))
        assert workflow.wait_for("approval", type=bool)
        workflow.start_child(survey, order).result()
        raise RuntimeError("no courier")

    signals = {"approval": True}
    if colour is Colour.ASYNC:
        crashes = await acheck_crashes(sell, 7, signals=signals)
    else:
        crashes = check_crashes(sell, 7, signals=signals)
    assert crashes >= 30


def test_a_step_that_counts_its_calls_is_found_out() -> None:
    """Its result is another one after a crash between what it did and its record."""
    tries = Counter[str]()

    @step
    def count() -> int:
        tries[workflow.step_id()] += 1
        return tries[workflow.step_id()]

    @workflow("unsound")
    def flow() -> int:
        return count()

    with pytest.raises(AssertionError, match=r"a crash before operation \d+ changed the outcome"):
        check_crashes(flow)
