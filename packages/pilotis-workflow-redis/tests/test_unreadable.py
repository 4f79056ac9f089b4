"""Runs that cannot be read: somebody else wrote there, or a version of Pilotis that this one does not know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pilotis import Pilotis, step, workflow
from pilotis.bridge import drive
from pilotis.errors import NonDeterminismError, TypeMismatchError
from pilotis.providers import Ending, Fence, Letter, RunQuery
from pilotis_testing import Colour
from pilotis_testing.chaos import eventually
from pilotis_testing.redis import tell
from pilotis_testing.workflow_words import BOOM, FLOWS, a_run, claim, fence, known, parked, waiting
from pilotis_workflow_redis import RedisWorkflows

BASE = "{pilotis:workflows:pilotis}"
Make = Callable[..., RedisWorkflows]
GARBAGE = b"\xc1\xff"


@step
def add(left: int, right: int) -> int:
    return left + right


@workflow("readable")
def readable(number: int) -> int:
    return add(number, workflow.wait_for("more", type=int))


def spoil(url: str, id: str, field: str, *, hash: str = "r", base: str = BASE) -> None:
    """Write into a field what nobody can read."""
    tell(url, "HSET", f"{base}:{hash}:{id}", field, GARBAGE)


@pytest.mark.parametrize("field", ["made", ":step", "error", "crashes"])
async def test_what_cannot_be_read_is_stuck_and_holds_nothing_up(
    make: Make, redis_url: str, colour: Colour, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever asks is told why; what was claimed with it is handed out."""
    store = make()
    for id in ("bad", "good"):
        await store.start(a_run(id), [waiting("step", due=0.0)])
    spoil(redis_url, "bad", field)
    assert ["good"] == [one.run.id for one in await store.claim("w", FLOWS, 5, 0)]
    assert [] == await store.claim("w", FLOWS, 5, 0)
    run = await known(store, "bad")
    assert ("bad", "flow", "1", "stuck", "") == (run.id, run.name, run.version, run.status, run.worker)
    assert run.error is not None
    assert ("UnreadableRunError", True) == (run.error.type, "cannot be read" in run.error.message)
    assert {"good": "running", "bad": "stuck"} == {it.id: it.status for it in await store.find(RunQuery())}
    assert "run bad is stuck" in caplog.text
    assert [b"good"] == tell(redis_url, "HKEYS", f"{BASE}:o:w")


async def test_a_claim_looks_past_what_cannot_be_read(make: Make, redis_url: str, colour: Colour) -> None:
    """One that asks for a single run, too, and whatever answered a wait."""
    store = make()
    for id in ("first", "second"):
        await parked(store, waiting("step", signal="go"), id=id)
    for id in ("first", "second"):
        await store.signal(id, "go", Letter(b"1"))
    spoil(redis_url, "first", "astep", hash="w")
    assert "second" == (await claim(store)).run.id
    assert "stuck" == (await known(store, "first")).status


async def test_the_last_fault_of_a_stuck_run_is_told(make: Make, redis_url: str, colour: Colour) -> None:
    """Unless it is compensated: then it remembers why."""
    store = make()
    for id in ("plain", "failed"):
        await store.start(a_run(id))
    for one in await store.claim("w", FLOWS, 2, 0):
        mine = fence(one)
        if one.run.id == "failed":
            mine = Fence(mine.id, (await store.compensate(mine, BOOM, "compensated")).epoch)
        again = await store.finish(mine, Ending(status="stuck", error=BOOM))
        spoil(redis_url, one.run.id, ":step")
        await store.rewind(again.id, again.epoch, {"step"}, None)
    assert [] == await store.claim("w", FLOWS, 5, 0)
    faults = [(await known(store, id)).error for id in ("plain", "failed")]
    assert ["UnreadableRunError", "ValueError"] == [fault and fault.type for fault in faults]


async def test_a_run_that_was_removed_by_hand_holds_nothing_up(make: Make, redis_url: str, colour: Colour) -> None:
    """Nor does its wait that ends: it is forgotten."""
    store = make()
    for id in ("asleep", "gone", "there"):
        await store.start(a_run(id))
        if id == "asleep":
            await store.park(fence(await claim(store)), [waiting("nap", due=store.context.clock.time())], None)
        if id != "there":
            tell(redis_url, "UNLINK", f"{BASE}:r:{id}")
    assert await store.fire() is None
    assert ["there"] == [one.run.id for one in await store.claim("w", FLOWS, 5, 0)]


async def test_a_journal_that_cannot_be_read_is_told(make: Make, redis_url: str, colour: Colour) -> None:
    """By its run; writing goes on."""
    store = make()
    await store.start(a_run("r1"), [waiting("step", due=0.0)])
    mine = fence(await claim(store))
    spoil(redis_url, "r1", ":step")
    with pytest.raises(TypeMismatchError, match="journal of run 'r1': what Redis has of it cannot be read"):
        await store.journal("r1")
    await store.give_back(mine)


async def test_a_notice_that_cannot_be_read_tells_of_its_run(make: Make, redis_url: str, colour: Colour) -> None:
    """Those after it are heard."""
    store = make()
    _, cursor = await store.notices(None, 0)
    for id in ("bad", "good"):
        await store.start(a_run(id))
        if id == "bad":
            spoil(redis_url, id, "made")
            await store.cancel(id)
            await store.claim("w", FLOWS, 1, 0)
    told, _ = await store.notices(cursor, 0)
    assert [("run.started", "bad"), ("run.running", "bad"), ("run.stuck", "bad"), ("run.started", "good")] == [
        (notice.event, notice.run.id) for notice in told
    ]


def test_an_app_goes_on_beside_what_it_cannot_read(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its status and its error say so, also to an app that opens later; repaired, it goes on by itself."""
    settings: Any = {"name": "shop", "workflow": {"url": redis_url}}
    base = "{pilotis:workflows:shop}"
    with Pilotis(settings) as app:
        runs = {id: app.workflow.start(readable, 1, id=id) for id in ("bad", "good")}
        for run in runs.values():
            eventually(lambda run=run: run.status() == "waiting")
        whole = tell(redis_url, "HGET", f"{base}:r:bad", ":@signal:more")
        spoil(redis_url, "bad", ":@signal:more", base=base)
        for run in runs.values():
            run.signal("more", 10)
        assert 11 == runs["good"].result(timeout=30)
        eventually(lambda: runs["bad"].status() == "stuck")
        assert "UnreadableRunError" in str(runs["bad"].info().error)
        with pytest.raises(NonDeterminismError, match="cannot be read"):
            runs["bad"].result(timeout=30)
        with pytest.raises(TypeMismatchError, match="journal of run 'bad'"):
            app.workflow.retry("bad")
    with Pilotis(settings) as app:
        assert 12 == drive(again(app, 2))
        assert "run bad stays stuck: journal of run 'bad'" in caplog.text
    tell(redis_url, "HSET", f"{base}:r:bad", ":@signal:more", whole)
    with Pilotis(settings) as app:
        assert 11 == app.workflow.get("bad").result(timeout=30)


async def again(app: Pilotis, number: int) -> int:
    """Run the workflow once more."""
    run = await app.workflow.astart(readable, number)
    await run.asignal("more", 10)
    return await run.aresult(timeout=30)
