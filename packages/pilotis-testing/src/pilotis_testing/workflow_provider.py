"""What the verbs of a workflow provider owe, one by one."""

from __future__ import annotations

from typing import ClassVar

import pytest
from msgspec.structs import replace
from pilotis.bridge import run_blocking
from pilotis.providers import Claimed, Ending, Fence, FencedError, Letter, RunQuery, RunRecord, WorkflowProvider

from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import Colour, together
from pilotis_testing.workflow_words import (
    BOOM,
    FLOWS,
    a_run,
    claim,
    done,
    ended,
    fence,
    fired,
    found,
    known,
    parked,
    waiting,
    write,
)


class WorkflowProviderChecks:
    """The obligations of the provider's verbs."""

    slack: ClassVar[float] = 0.0
    """Seconds that may pass by themselves during a test: for providers whose backend has a clock of its own."""

    @pytest.fixture
    def store(self, provider: WorkflowProvider, clock: ManualClock) -> WorkflowProvider:
        """The provider, with the clock of the test."""
        provider.context = replace(provider.context, clock=clock)
        return provider

    async def test_start_of_a_used_id_returns_the_run_there(self, store: WorkflowProvider, colour: Colour) -> None:
        """The second start changes nothing."""
        first, new = await store.start(a_run("r1", input=b"[1]"))
        again, newer = await store.start(a_run("r1", input=b"[2]"))
        assert (True, False) == (new, newer)
        assert first is not None
        assert again is not None
        assert b"[1]" == again.input

    async def test_start_takes_over_a_journal(self, store: WorkflowProvider, colour: Colour) -> None:
        """What the run begins with is handed out with it."""
        await store.start(a_run("r1"), [done("a", 0)])
        assert ["a"] == [record.key for record in (await claim(store)).journal]

    async def test_claim_hands_out_the_oldest_first(self, store: WorkflowProvider, colour: Colour) -> None:
        """At most `limit` runs, in the order of their start."""
        for number in range(4):
            await store.start(a_run(f"r{number}"))
        claimed = [one.run.id for one in await store.claim("w", FLOWS, 3, 0)]
        assert ["r0", "r1", "r2"] == claimed

    async def test_claim_takes_a_run_from_others(self, store: WorkflowProvider, colour: Colour) -> None:
        """A claimed run is running, belongs to its worker, and is not handed out again."""
        await store.start(a_run("r1"))
        run = (await claim(store)).run
        assert ("running", "w", 1) == (run.status, run.worker, run.epoch)
        assert [] == await store.claim("other", FLOWS, 1, 0)

    async def test_claim_leaves_unknown_workflows(self, store: WorkflowProvider, colour: Colour) -> None:
        """Name and version must both fit."""
        await store.start(a_run("r1", name="other"))
        await store.start(a_run("r2", version="2"))
        assert [] == await store.claim("w", FLOWS, 5, 0)

    async def test_claim_of_nothing_hands_out_nothing(self, store: WorkflowProvider, colour: Colour) -> None:
        """A limit of zero is no limit of one."""
        await store.start(a_run("r1"))
        assert [] == await store.claim("w", FLOWS, 0, 0)

    async def test_claim_is_woken_by_a_start(self, store: WorkflowProvider, colour: Colour, clock: ManualClock) -> None:
        """Waiting for work is no polling: no time passes here."""

        async def later() -> list[Claimed]:
            await run_blocking(clock.wait_for_waiters)
            await store.start(a_run("r1"))
            return []

        claimed, _ = await together(lambda: store.claim("w", FLOWS, 1, 60), later)
        assert ["r1"] == [one.run.id for one in claimed]

    @pytest.mark.parametrize("verb", ["commit", "park", "compensate", "finish", "give_back"])
    async def test_a_stale_epoch_is_refused(self, store: WorkflowProvider, colour: Colour, verb: str) -> None:
        """Whoever lost a run writes nothing any more."""
        await store.start(a_run("r1"))
        old = fence(await claim(store))
        await store.bury("w")
        new = fence(await claim(store, "other"))
        with pytest.raises(FencedError):
            await write(store, verb, old)
        assert [] == await store.journal("r1")
        assert (await known(store, "r1")).status == "running"
        await write(store, verb, new)

    @pytest.mark.parametrize("verb", ["commit", "park", "compensate", "finish", "give_back"])
    async def test_a_run_that_was_let_go_is_refused(self, store: WorkflowProvider, colour: Colour, verb: str) -> None:
        """A fence holds only as long as the claim."""
        await store.start(a_run("r1"))
        mine = fence(await claim(store))
        await store.finish(mine, Ending(status="completed", result=b"1"))
        with pytest.raises(FencedError):
            await write(store, verb, mine)
        with pytest.raises(FencedError):
            await write(store, verb, Fence("nobody", 1))

    async def test_commit_replaces_records_by_key(self, store: WorkflowProvider, colour: Colour) -> None:
        """The journal has one record for a key, and is in order."""
        await store.start(a_run("r1"))
        mine = fence(await claim(store))
        await store.commit(mine, [done("b", 1), done("a", 0)])
        await store.commit(mine, [replace(done("b", 1), result=b"2")])
        assert [("a", b"1"), ("b", b"2")] == [(it.key, it.result) for it in await store.journal("r1")]

    async def test_commit_tells_of_a_cancellation(self, store: WorkflowProvider, colour: Colour) -> None:
        """The worker learns of it with its next write."""
        await store.start(a_run("r1"))
        mine = fence(await claim(store))
        assert await store.commit(mine, []) is False
        assert "running" == await store.cancel("r1")
        assert await store.commit(mine, []) is True

    async def test_park_lets_go_of_the_run(self, store: WorkflowProvider, colour: Colour) -> None:
        """A parked run is waiting, and nobody's."""
        await parked(store, waiting("s", signal="go"))
        run = await known(store, "r1")
        assert ("waiting", "") == (run.status, run.worker)
        assert [] == await store.claim("w", FLOWS, 1, 0)

    async def test_park_takes_a_letter_that_is_there(self, store: WorkflowProvider, colour: Colour) -> None:
        """A signal before the wait ends it at once, and is used up; the oldest comes first."""
        await store.start(a_run("r1"))
        mine = fence(await claim(store))
        await store.signal("r1", "go", Letter(b"1"))
        await store.signal("r1", "go", Letter(b"2"))
        answers = [await store.park(mine, [waiting(key, signal="go")], None) for key in ("s", "t", "u")]
        results = [[record.result for record in answer.resolved] for answer in answers]
        assert [[b"1"], [b"2"], []] == results
        assert "waiting" == (await known(store, "r1")).status

    async def test_park_of_a_cancelled_run_keeps_it(self, store: WorkflowProvider, colour: Colour) -> None:
        """The worker goes on, to compensate."""
        await store.start(a_run("r1"))
        mine = fence(await claim(store))
        await store.cancel("r1")
        assert (await store.park(mine, [waiting("s", signal="go")], None)).cancelled
        await store.commit(mine, [])

    async def test_a_signal_ends_a_wait(self, store: WorkflowProvider, colour: Colour) -> None:
        """The record is done with the payload, and the run is handed out again."""
        await parked(store, waiting("s", signal="go"))
        assert await store.signal("r1", "go", Letter(b"7")) is True
        record = (await claim(store)).journal[0]
        assert ("done", b"7") == (record.status, record.result)

    async def test_a_fault_makes_a_wait_due(self, store: WorkflowProvider, colour: Colour) -> None:
        """A letter with a fault is for the engine to judge."""
        await parked(store, waiting("s", signal="go"))
        await store.signal("r1", "go", Letter(error=BOOM))
        assert ["due", BOOM] == [it for record in (await claim(store)).journal for it in (record.status, record.error)]

    async def test_one_signal_ends_one_wait(self, store: WorkflowProvider, colour: Colour) -> None:
        """Two waits for one name need two signals."""
        await parked(store, waiting("s", signal="go"), waiting("t", 1, signal="go"))
        await store.signal("r1", "go", Letter(b"7"))
        assert ["done", "waiting"] == [record.status for record in await store.journal("r1")]

    async def test_a_signal_is_taken_once_by_its_id(self, store: WorkflowProvider, colour: Colour) -> None:
        """The same id again is accepted and ignored."""
        await store.start(a_run("r1"))
        mine = fence(await claim(store))
        for _ in range(2):
            assert await store.signal("r1", "go", Letter(b"1"), "id-1") is True
        answers = [await store.park(mine, [waiting(key, signal="go")], None) for key in ("s", "t")]
        assert [1, 0] == [len(answer.resolved) for answer in answers]

    async def test_a_wait_that_is_over_is_not_begun_again(self, store: WorkflowProvider, colour: Colour) -> None:
        """Two waits, and the second ends while the first is worked on. A new attempt is a new wait."""
        second = waiting("t", 1, signal="on")
        await parked(store, waiting("s", signal="go"), second)
        await store.signal("r1", "go", Letter(b"1"))
        mine = fence(await claim(store))
        await store.signal("r1", "on", Letter(b"2"))
        assert [b"2"] == [record.result for record in (await store.park(mine, [second], None)).resolved]
        assert [] == (await store.park(mine, [replace(second, attempts=1, signal=None)], None)).resolved

    async def test_ended_and_unknown_runs_take_no_signal(self, store: WorkflowProvider, colour: Colour) -> None:
        """False for the one, None for the other."""
        await ended(store, "r1")
        assert await store.signal("r1", "go", Letter(b"1")) is False
        assert await store.signal("nobody", "go", Letter(b"1")) is None

    async def test_fire_ends_what_is_due(self, store: WorkflowProvider, colour: Colour, clock: ManualClock) -> None:
        """Not before its time; then the record is due, and the run is handed out."""
        await parked(store, waiting("s", due=clock.time() + 10))
        assert 10 == pytest.approx(await store.fire(), abs=self.slack)
        clock.advance(9)
        assert 1 == pytest.approx(await store.fire(), abs=self.slack)
        assert [] == await store.claim("w", FLOWS, 1, 0)
        clock.advance(1)
        assert await store.fire() is None
        assert "due" == (await claim(store)).journal[0].status

    async def test_the_first_to_end_a_wait_wins(
        self, store: WorkflowProvider, colour: Colour, clock: ManualClock
    ) -> None:
        """A signal in time is not undone by the time-out, nor a time-out by a late signal."""
        await parked(store, waiting("s", due=clock.time() + 10, signal="go"))
        await parked(store, waiting("s", due=clock.time() + 10, signal="go"), id="r2")
        await store.signal("r1", "go", Letter(b"1"))
        clock.advance(10)
        await store.fire()
        await store.signal("r2", "go", Letter(b"1"))
        assert ["done", "due"] == [(await store.journal(id))[0].status for id in ("r1", "r2")]

    async def test_a_due_run_goes_on_with_its_waits(
        self, store: WorkflowProvider, colour: Colour, clock: ManualClock
    ) -> None:
        """The deadline of a run wakes it, and ends none of its waits."""
        await store.start(a_run("r1"))
        await store.park(fence(await claim(store)), [waiting("s", signal="go")], clock.time() + 5)
        clock.advance(5)
        await store.fire()
        assert "waiting" == (await claim(store)).journal[0].status

    async def test_compensating_raises_the_epoch(self, store: WorkflowProvider, colour: Colour) -> None:
        """What the function still writes is refused; the worker goes on with the new epoch."""
        await store.start(a_run("r1"))
        mine = fence(await claim(store))
        run = await store.compensate(mine, BOOM, "compensated")
        assert ("compensating", "compensated", BOOM) == (run.status, run.verdict, run.error)
        with pytest.raises(FencedError):
            await store.commit(mine, [done("late", 0)])
        await store.commit(Fence("r1", run.epoch), [done("~a", -1)])

    async def test_a_compensating_run_stays_one(self, store: WorkflowProvider, colour: Colour) -> None:
        """Parked, given back or claimed again, it is compensating, and a cancellation does not keep it from waiting."""
        await store.start(a_run("r1"))
        run = await store.compensate(fence(await claim(store)), BOOM, "cancelled")
        await store.give_back(Fence("r1", run.epoch))
        again = await claim(store)
        await store.cancel("r1")
        answer = await store.park(fence(again), [waiting("~a", -1, signal="go")], None)
        assert ("compensating", []) == (again.run.status, answer.resolved)
        await store.signal("r1", "go", Letter(b"1"))
        assert "compensating" == (await claim(store)).run.status

    async def test_a_given_back_run_is_pending(self, store: WorkflowProvider, colour: Colour) -> None:
        """The next worker has it."""
        await store.start(a_run("r1"))
        await store.give_back(fence(await claim(store)))
        assert "pending" == (await known(store, "r1")).status
        assert 2 == (await claim(store, "other")).run.epoch

    async def test_bury_hands_on_the_runs_of_a_worker(self, store: WorkflowProvider, colour: Colour) -> None:
        """Those of others stay."""
        await store.start(a_run("r1"))
        await store.start(a_run("r2"))
        await claim(store, "dead")
        await claim(store, "alive")
        assert 1 == await store.bury("dead")
        assert 0 == await store.bury("dead")
        assert ["r1"] == [one.run.id for one in await store.claim("w", FLOWS, 5, 0)]

    async def test_the_end_of_a_child_is_told_its_parent(self, store: WorkflowProvider, colour: Colour) -> None:
        """Result and fault come as letters."""
        await parked(store, waiting("c", signal="@child:r1/good"), waiting("d", 1, signal="@child:r1/bad"))
        await ended(store, "r1/good", parent="r1")
        await ended(store, "r1/bad", parent="r1", status="failed")
        good, bad = await store.journal("r1")
        assert ("done", b"1") == (good.status, good.result)
        assert ("due", BOOM) == (bad.status, bad.error)

    async def test_retention_removes_ended_runs_only(
        self, store: WorkflowProvider, colour: Colour, clock: ManualClock
    ) -> None:
        """Ended ones when their time has come, others never."""
        await ended(store, "short", retention=10)
        await ended(store, "for-good", retention=None)
        await parked(store, waiting("s", signal="go"))
        clock.advance(9)
        await store.fire()
        assert "completed" == (await known(store, "short")).status
        clock.advance(1)
        await store.fire()
        assert await store.load("short") is None
        assert [] == await store.find(RunQuery(name="flow", statuses=frozenset({"failed"})))
        assert {"for-good", "r1"} == {run.id for run in await store.find(RunQuery())}

    async def test_cancel_wakes_a_waiting_run(self, store: WorkflowProvider, colour: Colour) -> None:
        """It is handed out, cancelled. An ended run is left as it is."""
        await parked(store, waiting("s", signal="go"))
        assert "waiting" == await store.cancel("r1")
        assert (await claim(store)).run.cancelled
        await ended(store, "r2")
        assert ("completed", None) == (await store.cancel("r2"), await store.cancel("nobody"))
        assert not (await known(store, "r2")).cancelled

    async def test_rewind_sets_a_run_going_again(
        self, store: WorkflowProvider, colour: Colour, clock: ManualClock
    ) -> None:
        """With the records it keeps, a higher epoch and a new deadline; its retention does not remove it any more."""
        await store.start(a_run("r1", retention=10))
        mine = fence(await claim(store))
        await store.commit(mine, [done("a", 0), done("b", 1)])
        run = await store.finish(mine, Ending(status="failed", error=BOOM))
        with pytest.raises(FencedError):
            await store.rewind("r1", run.epoch - 1, {"a"}, None)
        await store.rewind("r1", run.epoch, {"a"}, 99.0)
        clock.advance(10)
        await store.fire()
        again = await claim(store)
        assert (["a"], 99.0, None) == ([it.key for it in again.journal], again.run.deadline, again.run.error)
        assert again.run.epoch > run.epoch
        with pytest.raises(FencedError):
            await store.rewind("r1", again.run.epoch, set(), None)
        assert await store.rewind("nobody", 0, set(), None) is None

    async def test_a_stuck_run_keeps_what_it_has(self, store: WorkflowProvider, colour: Colour) -> None:
        """Letters included; it is not handed out, and a letter does not change that."""
        await store.start(a_run("r1"))
        mine = fence(await claim(store))
        await store.finish(mine, Ending(status="stuck", error=BOOM))
        assert await store.signal("r1", "go", Letter(b"1")) is True
        assert [] == await store.claim("w", FLOWS, 1, 0)
        await store.rewind("r1", mine.epoch, set(), None)
        answer = await store.park(fence(await claim(store)), [waiting("s", signal="go")], None)
        assert [b"1"] == [record.result for record in answer.resolved]

    async def test_a_fire_is_used_up_by_the_first(self, store: WorkflowProvider, colour: Colour) -> None:
        """Nobody starts a second run for it, nor one for an earlier time."""
        assert await fired(store, 100.0, "allow")
        assert not await fired(store, 100.0, "allow")
        assert not await fired(store, 40.0, "allow")
        assert await fired(store, 160.0, "allow")

    async def test_a_fire_can_be_left_out(self, store: WorkflowProvider, colour: Colour) -> None:
        """With "skip" while the run before is on its way; the fire is used up then."""
        assert await fired(store, 100.0, "skip")
        assert not await fired(store, 160.0, "skip")
        await store.finish(fence(await claim(store)), Ending(status="completed", result=b"1"))
        assert not await fired(store, 160.0, "skip")
        assert await fired(store, 220.0, "skip")

    async def test_find_lists_the_newest_first(
        self, store: WorkflowProvider, colour: Colour, clock: ManualClock
    ) -> None:
        """By name, state and time of creation, up to a limit."""
        for number in range(4):
            clock.advance(10)
            await store.start(a_run(f"r{number}", name="flow" if number % 2 else "other", created=clock.time()))
        await claim(store)
        assert ["r3", "r2", "r1", "r0"] == await found(store)
        assert ["r3", "r2"] == await found(store, limit=2)
        assert ["r3", "r1"] == await found(store, name="flow")
        assert ["r1"] == await found(store, statuses=frozenset({"running"}))
        assert ["r3", "r2", "r0"] == await found(store, statuses=frozenset({"pending", "stuck"}))
        assert ["r3", "r2"] == await found(store, since=clock.time() - 10)
        assert ["r1", "r0"] == await found(store, until=clock.time() - 20)

    async def test_ended_waits_for_rest(self, store: WorkflowProvider, colour: Colour, clock: ManualClock) -> None:
        """Woken by the end; after the time-out the run as it is; None for an unknown one."""
        await store.start(a_run("r1"))
        mine = fence(await claim(store))
        assert "running" == (await store.ended("r1", 0) or a_run("")).status

        async def later() -> RunRecord:
            await run_blocking(clock.wait_for_waiters)
            return await store.finish(mine, Ending(status="completed", result=b"5"))

        run, _ = await together(lambda: store.ended("r1", 60), later)
        assert run is not None
        assert b"5" == run.result
        assert await store.ended("nobody", 0) is None

    async def test_notices_tell_of_every_state(self, store: WorkflowProvider, colour: Colour) -> None:
        """In order, from the cursor on."""
        await store.start(a_run("before"))
        nothing, cursor = await store.notices(None, 0)
        await ended(store, "r1")
        notices, cursor = await store.notices(cursor, 0)
        assert [] == nothing
        told = [notice.event for notice in notices if notice.run.id == "r1"]
        assert ["run.started", "run.running", "run.completed"] == told
        assert [] == (await store.notices(cursor, 0))[0]
