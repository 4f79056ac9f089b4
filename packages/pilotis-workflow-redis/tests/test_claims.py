"""Claims of runs: rings, lost answers, and workers that die."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest
from pilotis.bridge import drive, run_blocking
from pilotis.providers import Ending, FencedError
from pilotis_testing import Colour
from pilotis_testing.chaos import AnswerCutter, eventually
from pilotis_testing.colours import together
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer
from pilotis_testing.workflow_words import FLOWS, a_run, claim, done, fence, known
from pilotis_workflow_redis import RedisWorkflows
from pilotis_workflow_redis.scripts import SCRIPTS
from redis.exceptions import RedisError

BASE = "{pilotis:workflows:pilotis}"
LINES = [f'{BASE}:i:["flow","1"]', f"{BASE}:i:"]
"""Where idle workers are noted."""
Make = Callable[..., RedisWorkflows]


@pytest.fixture
def never_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have workers that wait look for nothing until they are rung."""
    for name in ("claims.LOOK", "provider.LONGEST"):
        monkeypatch.setattr(f"pilotis_workflow_redis.{name}", 200.0)


DISMISS = """
redis.call('ZREM', KEYS[1] .. ':w', ARGV[1])
redis.call('UNLINK', KEYS[1] .. ':b:' .. ARGV[1])
redis.call('XADD', KEYS[1] .. ':news', '*', 'w', 'dead')
"""


def kill(url: str, worker: str) -> None:
    """Say of a worker what those say who find that its time is over: all at once, or it is quicker to come back."""
    tell(url, "EVAL", DISMISS, 1, BASE, worker)


# Rings and answers


async def test_a_claim_whose_answer_was_lost_is_handed_out_again(
    make: Make, own_redis: RedisServer, colour: Colour
) -> None:
    """By the next claim of the same worker: nobody else waits for its death."""
    with AnswerCutter(own_redis.port) as cutter:
        store = make(f"redis://127.0.0.1:{cutter.port}/0", reconnects=0)
        lost = await lose_a_claim(store, cutter)
        run = await known(store, lost)
        assert ("running", "w", 1) == (run.status, run.worker, run.epoch)
        assert [lost] == [one.run.id for one in await store.claim("w", FLOWS, 5, 0)]
        assert [] == await store.claim("w", FLOWS, 5, 0)
        await store.close()


async def lose_a_claim(store: RedisWorkflows, cutter: AnswerCutter) -> str:
    """Have runs claimed until it is the answer to that which is cut off, and return which run it was about."""
    await store.claim("w", FLOWS, 5, 0)
    for number in range(50):
        id = f"r{number}"
        await store.start(a_run(id))
        cutter.cut_next()
        try:
            [one] = await store.claim("w", FLOWS, 5, 0)
        except (RedisError, OSError):
            return id
        assert id == one.run.id
    raise AssertionError("it was always another answer")


async def test_a_waiting_claim_is_rung_for_what_it_learned_meanwhile(
    store: RedisWorkflows, colour: Colour, never_by_itself: None
) -> None:
    """A workflow that is defined while it waits, as when a module is imported late."""
    flows = {("other", "1")}

    async def later() -> list[Any]:
        await holds(lambda: rings(store))
        flows.add(("flow", "1"))
        await store.start(a_run("r1"))
        return []

    claimed, _ = await together(lambda: store.claim("w", flows, 1, 50), later)
    assert ["r1"] == [one.run.id for one in claimed]


async def holds(condition: Callable[[], bool]) -> None:
    """Wait in either colour until a condition holds."""
    await run_blocking(eventually, condition)


def rings(store: RedisWorkflows) -> bool:
    """Tell whether a worker waits to be rung."""
    url = store.options.url
    return tell(str(url), "SCARD", f"{BASE}:i:") == 1


async def test_who_takes_no_more_passes_the_ring_on(
    make: Make, redis_url: str, colour: Colour, never_by_itself: None
) -> None:
    """So a worker that was rung twice at once keeps nobody waiting."""
    idle, busy = make(), make()
    line = f'{BASE}:i:["flow","1"]'

    async def later() -> list[Any]:
        await holds(lambda: rings(idle))
        tell(redis_url, "SREM", line, "idle")
        for number in range(2):
            await busy.start(a_run(f"r{number}"))
        tell(redis_url, "SADD", line, "idle")
        return await busy.claim("busy", FLOWS, 1, 0)

    claimed = await together(lambda: idle.claim("idle", FLOWS, 1, 50), later)
    assert [["r1"], ["r0"]] == [[one.run.id for one in some] for some in claimed]


async def test_a_start_reaches_the_living_beside_one_that_died_idle(
    make: Make, redis_url: str, colour: Colour, never_by_itself: None
) -> None:
    """Nobody knows of its death yet: it may be the first to be rung."""
    store, ghost = make(), make()
    await ghost.claim("ghost", FLOWS, 1, 0)
    for number in range(8):
        start = functools.partial(start_beside_idle, store, f"r{number}", "ghost")
        claimed, _ = await together(lambda: store.claim("w", FLOWS, 1, 50), start)
        assert [f"r{number}"] == [one.run.id for one in claimed]


async def start_beside_idle(store: RedisWorkflows, id: str, *others: str) -> list[Any]:
    """Start a run while a worker waits, and others are noted as idle that do not."""
    await holds(lambda: rings(store))
    for line in LINES:
        tell(str(store.options.url), "SADD", line, *others)
    await store.start(a_run(id))
    for line in LINES:
        tell(str(store.options.url), "SREM", line, *others)
    return []


async def test_who_is_not_rung_looks_by_itself(
    store: RedisWorkflows, redis_url: str, colour: Colour, never_by_itself: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a moment: those that were rung may all be dead."""
    monkeypatch.setattr("pilotis_workflow_redis.claims.LOOK", 0.2)

    async def later() -> list[Any]:
        await holds(lambda: rings(store))
        tell(redis_url, "UNLINK", *LINES)
        await store.start(a_run("r1"))
        return []

    claimed, _ = await together(lambda: store.claim("w", FLOWS, 1, 100), later)
    assert ["r1"] == [one.run.id for one in claimed]


async def test_who_died_idle_is_forgotten(store: RedisWorkflows, redis_url: str, colour: Colour) -> None:
    """Also where nothing is started that they would be rung for: else each process that there ever was is kept."""
    for line in LINES:
        tell(redis_url, "SADD", line, "dead", "gone")

    async def later() -> list[Any]:
        await holds(lambda: all(set(tell(redis_url, "SMEMBERS", line)) == {b"w"} for line in LINES))
        await store.start(a_run("r1"))
        return []

    await together(lambda: store.claim("w", FLOWS, 1, 50), later)


async def test_a_claim_that_is_given_up_leaves_nothing_behind(store: RedisWorkflows) -> None:
    """What it had just been given is given out again by the next one."""
    task = asyncio.ensure_future(store.claim("w", FLOWS, 1, 30))
    await holds(lambda: rings(store))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.start(a_run("r1"))
    assert ["r1"] == [one.run.id for one in await store.claim("w", FLOWS, 1, 0)]


async def test_a_claim_that_arrives_after_a_later_one_takes_nothing(
    store: RedisWorkflows, redis_url: str, colour: Colour
) -> None:
    """As when a packet was held up: who sent it has given it up and had an answer since, and would not ask again."""
    for _ in range(2):
        await store.claim("w", FLOWS, 1, 0)
    await store.start(a_run("r1"))
    assert [] == claim_late(redis_url)
    assert ["r1"] == [one.run.id for one in await store.claim("w", FLOWS, 1, 0)]


def claim_late(url: str) -> list[Any]:
    """Have a claim arrive that was held up."""
    numbers = (1, 1)
    return tell(url, "EVALSHA", SCRIPTS["claim"].digest, 1, f"{BASE}:", "w", 1, 0, *numbers, '["flow","1"]')[0]


async def test_a_claim_that_arrives_late_takes_the_ring_from_nobody(
    store: RedisWorkflows, redis_url: str, colour: Colour, never_by_itself: None
) -> None:
    """The later one waits, and is rung."""

    async def later() -> list[Any]:
        await holds(lambda: rings(store))
        claim_late(redis_url)
        await store.start(a_run("r1"))
        return []

    claimed, _ = await together(lambda: store.claim("w", FLOWS, 1, 100), later)
    assert ["r1"] == [one.run.id for one in claimed]


# Death


async def test_runs_of_a_dead_worker_are_handed_on(make: Make, redis_url: str, colour: Colour) -> None:
    """Whoever hears of its death does it; what it writes then is refused."""
    dying, living = make(), make()
    await dying.start(a_run("r1"))
    mine = fence(await claim(dying, "dying"))
    await living.claim("living", FLOWS, 1, 0)
    kill(redis_url, "dying")
    [again] = await living.claim("living", FLOWS, 1, 30)
    assert ("r1", 1, mine.epoch + 1) == (again.run.id, again.run.crashes, again.run.epoch)
    with pytest.raises(FencedError, match="has changed hands since epoch 1"):
        await dying.commit(mine, [done("late", 0)])
    assert [] == await living.journal("r1")


@pytest.mark.parametrize("knows", [False, True])
async def test_a_worker_that_was_taken_for_dead_lives_again(
    make: Make, redis_url: str, colour: Colour, knows: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """With its next claim, whether it has noticed or not."""
    store = make(liveness=0.5 if knows else 15)
    await store.claim("w", FLOWS, 1, 0)
    kill(redis_url, "w")
    if knows:
        await holds(lambda: "worker w was taken for dead" in caplog.text)
    await store.start(a_run("r1"))
    assert ["r1"] == [one.run.id for one in await store.claim("w", FLOWS, 1, 0)]
    assert tell(redis_url, "ZSCORE", f"{BASE}:w", "w") is not None


async def test_a_claim_that_waits_goes_on_when_its_worker_was_taken_for_dead(
    make: Make, redis_url: str, colour: Colour, never_by_itself: None
) -> None:
    """Nobody would ring the dead."""
    store = make(liveness=0.5)

    async def later() -> list[Any]:
        await holds(lambda: rings(store))
        kill(redis_url, "w")
        await store.start(a_run("r1"))
        await holds(lambda: drive(store.load("r1")).status == "running")  # pyright: ignore[reportOptionalMemberAccess]
        return []

    claimed, _ = await together(lambda: store.claim("w", FLOWS, 1, 100), later)
    assert ["r1"] == [one.run.id for one in claimed]


async def test_suspects_are_handed_out_one_at_a_time(make: Make, redis_url: str, colour: Colour) -> None:
    """The next one when the first came further. Others are not kept back by them."""
    dying, living = make(), make()
    for number in range(2):
        await dying.start(a_run(f"r{number}"))
    assert 2 == len(await dying.claim("dying", FLOWS, 2, 0))
    await living.claim("living", FLOWS, 1, 0)
    kill(redis_url, "dying")
    [first] = await living.claim("living", FLOWS, 5, 30)
    await living.start(a_run("fresh"))
    assert ["fresh"] == [one.run.id for one in await living.claim("living", FLOWS, 5, 0)]
    await living.commit(fence(first), [done("a", 0)])
    [second] = await living.claim("living", FLOWS, 5, 0)
    assert {"r0", "r1"} == {first.run.id, second.run.id}
    assert (0, 1) == ((await known(living, first.run.id)).crashes, second.run.crashes)


async def test_a_run_that_workers_die_of_is_stuck(make: Make, redis_url: str, colour: Colour) -> None:
    """In a row, and without coming further; it is set going by a rewind alone."""
    living = make(max_crashes=2)
    await living.claim("living", {("none", "1")}, 1, 0)
    await living.start(a_run("r1"))
    for worker in ("first", "second"):
        dying = make(max_crashes=2)
        [one] = await dying.claim(worker, FLOWS, 1, 30)
        kill(redis_url, worker)
        if worker == "first":
            await holds(lambda: drive(living.load("r1")).status == "pending")  # pyright: ignore[reportOptionalMemberAccess]
    await holds(lambda: drive(living.load("r1")).status == "stuck")  # pyright: ignore[reportOptionalMemberAccess]
    run = await known(living, "r1")
    assert (2, "", "WorkerDiedError") == (run.crashes, run.worker, run.error and run.error.type)
    again = await living.rewind("r1", one.run.epoch, set(), None)
    assert ("pending", 0) == (again and again.status, again and again.crashes)


async def test_a_run_that_comes_to_rest_forgets_who_died_of_it(make: Make, redis_url: str, colour: Colour) -> None:
    """It did not kill its worker: one that is stuck because of its code goes on with other code, by itself."""
    dying, living = make(), make()
    await dying.start(a_run("r1"))
    await claim(dying, "dying")
    await living.claim("living", {("none", "1")}, 1, 0)
    kill(redis_url, "dying")
    [again] = await living.claim("living", FLOWS, 1, 30)
    assert 1 == again.run.crashes
    assert 0 == (await living.finish(fence(again), Ending(status="stuck"))).crashes


async def test_closing_says_good_bye(make: Make, redis_url: str, colour: Colour) -> None:
    """What its workers held is for others at once, and nothing of the workers is left."""
    leaving, staying = make(), make()
    await leaving.start(a_run("r1"))
    await claim(leaving, "leaving")
    await leaving.close()
    [one] = await staying.claim("staying", FLOWS, 1, 0)
    assert (2, 0) == (one.run.epoch, one.run.crashes)
    assert [b"staying"] == tell(redis_url, "ZRANGE", f"{BASE}:w", 0, -1)
    assert [b"staying"] == tell(redis_url, "HKEYS", f"{BASE}:wi")
