"""What only the Redis provider has: lost answers, deaths, rings, options."""

from __future__ import annotations

import asyncio
import functools
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from pilotis import Pilotis
from pilotis.bridge import drive, run_blocking
from pilotis.errors import ConnectionFailedError, InvalidInputError
from pilotis.providers import Ending, FencedError, Letter, RunQuery
from pilotis_testing import Colour
from pilotis_testing.chaos import AnswerCutter, eventually
from pilotis_testing.colours import together
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer
from pilotis_testing.workflow_words import FLOWS, a_run, claim, done, fence, known, waiting
from pilotis_workflow_redis import RedisWorkflows, RedisWorkflowsOptions
from pilotis_workflow_redis.scripts import SCRIPTS
from redis.exceptions import RedisError

BASE = "{pilotis:workflows:pilotis}"
LINES = [f'{BASE}:i:["flow","1"]', f"{BASE}:i:"]
"""Where idle workers are noted."""
Make = Callable[..., RedisWorkflows]


@pytest.fixture
def store(make: Make) -> RedisWorkflows:
    """A provider."""
    return make()


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


# Options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"namespace": "a b"}, "namespace: expected 1 to 200 characters without spaces and braces"),
        ({"namespace": "{shop}"}, "namespace: expected"),
        ({"liveness": 0.1}, "liveness: expected"),
        ({"stall": 0}, "stall: expected"),
        ({"max_crashes": 0}, "max_crashes: expected 1 or more, got 0"),
        ({"url": "http://localhost"}, "url: expected one that begins with"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], said: str) -> None:
    """Before anything is connected, naming the option."""
    with pytest.raises(InvalidInputError, match=re.escape(said)):
        RedisWorkflowsOptions(**options)


def test_an_address_without_a_server_is_told_at_the_start() -> None:
    """With the module, the provider and the address, and without the password."""
    settings = {
        "name": "shop",
        "workflow": {"url": "redis://:hush@127.0.0.1:1/0", "connect_timeout": 0.2, "reconnects": 0},
    }
    with pytest.raises(
        ConnectionFailedError, match=r"workflow provider 'redis' \(redis://127\.0\.0\.1:1/0\)"
    ) as caught:
        Pilotis(settings).open()
    assert "hush" not in str(caught.value)


def test_services_do_not_see_one_another(make: Make) -> None:
    """Not even where their names contain what ends a hash tag."""
    stores = [make() for _ in range(3)]
    for store, name in zip(stores, ("shop", "sh{op", "sh%7Bop"), strict=True):
        store.context = replace(store.context, name=name)
        drive(store.start(a_run("r", name=name)))
    assert [["shop"], ["sh{op"], ["sh%7Bop"]] == [
        [run.name for run in drive(store.find(RunQuery()))] for store in stores
    ]


# Claims


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
    script, ticket = SCRIPTS["claim"].digest, 1
    taken, _, _ = tell(redis_url, "EVALSHA", script, 1, f"{BASE}:", "w", 1, 0, ticket, ticket, '["flow","1"]')
    assert [] == taken
    assert ["r1"] == [one.run.id for one in await store.claim("w", FLOWS, 1, 0)]


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


# What is kept


async def test_nothing_is_left_of_a_run_whose_retention_is_over(
    store: RedisWorkflows, redis_url: str, colour: Colour
) -> None:
    """Neither of its journal, nor its mailbox, nor its waits."""
    before = set(tell(redis_url, "KEYS", "*"))
    await store.start(a_run("r1", retention=0.001))
    mine = fence(await claim(store))
    await store.park(mine, [waiting("s", signal="go"), waiting("t", 1, due=store.context.clock.time() + 60)], None)
    for name in ("go", "early"):
        await store.signal("r1", name, Letter(b"1"), f"id of {name}")
    await store.finish(fence(await claim(store)), Ending(status="completed", result=b"1"))
    await holds(lambda: drive(store.fire()) is None)
    left = {key.decode().removeprefix(f"{BASE}:").partition(":")[0] for key in tell(redis_url, "KEYS", "*")}
    assert not before
    assert {"names", "seq", "hands", "w", "wi", "o", "b", "news", "i"} >= left
    assert 0 == tell(redis_url, "HLEN", f"{BASE}:o:w")


async def test_notices_cost_nothing_where_nobody_listens(store: RedisWorkflows, redis_url: str, colour: Colour) -> None:
    """They are kept from the first question on."""
    await store.start(a_run("before"))
    assert 0 == tell(redis_url, "EXISTS", f"{BASE}:notices")
    _, cursor = await store.notices(None, 0)
    await store.start(a_run("after"))
    notices, _ = await store.notices(cursor, 0)
    assert [("run.started", "after")] == [(it.event, it.run.id) for it in notices]


async def test_notices_go_when_nobody_asks_any_more(store: RedisWorkflows, redis_url: str, colour: Colour) -> None:
    """They tell of runs whose retention may be over. Each question keeps them on, and so does what it was about."""
    _, cursor = await store.notices(None, 0)
    await store.start(a_run("r1"))
    first = tell(redis_url, "PTTL", f"{BASE}:notices")
    tell(redis_url, "PEXPIRE", f"{BASE}:notices", 300_000)
    _, cursor = await store.notices(cursor, 0)
    second = tell(redis_url, "PTTL", f"{BASE}:notices")
    assert [True, True] == [300_000 < left <= 600_000 for left in (first, second)]


async def test_find_looks_only_at_what_fits(store: RedisWorkflows, colour: Colour) -> None:
    """Page by page, the newest of all names and states first, however many there are."""
    for number in range(240):
        await store.start(a_run(f"r{number}", name=f"flow-{number % 3}", created=float(number // 2)))
    found = [run.id for run in await store.find(RunQuery(limit=200))]
    assert [f"r{number}" for number in range(239, 39, -1)] == found
    names = [run.id for run in await store.find(RunQuery(name="flow-1", limit=70, until=100.0))]
    assert [f"r{number}" for number in range(201, -1, -1) if number % 3 == 1][:70] == names


async def test_a_letter_with_any_bytes_arrives_whole(store: RedisWorkflows, colour: Colour) -> None:
    """Names, keys and ids with spaces, colons and characters of any script, too."""
    id, signal, result = "ordre: é/1 2", "@child:a b:c", bytes(range(256))
    await store.start(a_run(id))
    one = await claim(store)
    await store.park(fence(one), [waiting("clé: 1", signal=signal, due=store.context.clock.time() + 99)], None)
    await store.signal(id, signal, Letter(result))
    again = await claim(store)
    [record] = again.journal
    assert ("clé: 1", "done", result) == (record.key, record.status, record.result)
    await store.park(fence(again), [waiting("12:é", 1, due=store.context.clock.time())], None)
    await store.fire()
    assert ["done", "due"] == [record.status for record in await store.journal(id)]


def test_threads_share_a_provider(store: RedisWorkflows) -> None:
    """Many threads start, claim and end runs at once: each run is ended once."""
    ended: list[str] = []

    def work(worker: str) -> None:
        for number in range(20):
            drive(store.start(a_run(f"{worker}-{number}")))
        while claimed := drive(store.claim(worker, FLOWS, 3, 0)):
            for one in claimed:
                drive(store.finish(fence(one), Ending(status="completed", result=b"1")))
                ended.append(one.run.id)

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(f"w{number}-{at}" for number in range(4) for at in range(20)) == sorted(ended)
