"""What verbs and workers live through: a Redis that is away, forgets, and breaks connections."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import pytest
from pilotis import Pilotis, step, workflow
from pilotis.bridge import drive, run_blocking
from pilotis.errors import ConnectionFailedError, OperationTimeoutError
from pilotis.modules.workflow import Run
from pilotis.providers import Fence, FencedError, RunQuery
from pilotis_testing import Colour
from pilotis_testing.chaos import AnswerCutter, eventually
from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import soon
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer
from pilotis_testing.workflow_base import Engines
from pilotis_testing.workflow_words import FLOWS, a_run, claim, done, fence
from pilotis_workflow_redis import RedisWorkflows
from redis.exceptions import RedisError

WORKERS = "{pilotis:workflows:pilotis}:w"
Make = Callable[..., RedisWorkflows]


@step
def add(left: int, right: int) -> int:
    return left + right


@workflow("sums")
def sums(number: int) -> int:
    return add(add(number, 1), workflow.wait_for("more", type=int))


@pytest.mark.parametrize(
    "command",
    [("SCRIPT", "FLUSH"), ("CLIENT", "KILL", "TYPE", "normal"), ("FLUSHALL",)],
)
def test_workers_go_on_after(redis_url: str, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts that are gone, connections that break, a database that was emptied: only what was in that is gone."""
    monkeypatch.setattr("pilotis_workflow_redis.claims.LOOK", 0.5)  # nobody rings whom the database forgot
    with Pilotis({"name": "shop", "workflow": {"url": redis_url, "liveness": 1}}) as app:
        before = app.workflow.start(sums, 1, id="before")
        eventually(lambda: before.status() == "waiting")
        tell(redis_url, *command)
        after = again_and_again(lambda: app.workflow.start(sums, 2, id="after"))
        runs = [after] if command == ("FLUSHALL",) else [before, after]
        for run in runs:
            again_and_again(lambda run=run: run.signal("more", 10, id="once"))
        assert [12, 13][-len(runs) :] == [run.result(timeout=30) for run in runs]
        assert {run.id: "completed" for run in runs} == {run.id: run.status for run in app.workflow.find()}


def restart(server: RedisServer, log: pytest.LogCaptureFixture) -> None:
    server.restart()
    GATE.set()


def crash(server: RedisServer, log: pytest.LogCaptureFixture) -> None:
    """Have the step end while there is no server."""
    server.kill()
    GATE.set()
    eventually(lambda: "run under-way is given back" in log.text)
    server.start()


def stand_still(server: RedisServer, log: pytest.LogCaptureFixture) -> None:
    """Have what the step writes wait for longer than anybody waits for an answer. It is done all the same, later."""
    server.pause()
    GATE.set()
    eventually(lambda: "run under-way is given back" in log.text)
    eventually(lambda: "cannot tell Redis that it is alive" in log.text)
    server.resume()


def cut_off(server: RedisServer, log: pytest.LogCaptureFixture) -> None:
    tell(server.url, "CLIENT", "KILL", "TYPE", "normal")
    GATE.set()


@pytest.mark.slow
@pytest.mark.parametrize("happen", [restart, crash, stand_still, cut_off])
def test_runs_under_way_live_through(
    durable_redis: RedisServer, happen: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """Each step is recorded once, whatever became of the answers; signals are taken once, and sleeps go on."""
    began.clear()
    GATE.clear()
    caplog.set_level("INFO")
    impatient = {"url": durable_redis.url, "liveness": 1, "timeout": 0.5, "connect_timeout": 0.5, "reconnects": 0}
    with Pilotis({"name": "shop", "workflow": impatient}) as app:
        flows = {"under-way": under_way, "asleep": asleep}
        runs = {id: again_and_again(lambda id=id: app.workflow.start(flows[id], id=id)) for id in flows}
        assert began.wait(30)
        happen(durable_redis, caplog)
        eventually(lambda: sent(runs["under-way"]))
        eventually(lambda: ended(runs.values()))
        assert [11, "rested"] == [run.result(timeout=30) for run in runs.values()]
        history = app.workflow.history("under-way")
        assert [("hold", "done", 1), ("@signal:more", "done", 10)] == [
            (it.step, it.status, it.result) for it in history
        ]


GATE, began = threading.Event(), threading.Event()


@step
def hold() -> int:
    """Take until the test says so."""
    began.set()
    assert GATE.wait(60)
    return 1


@workflow("under-way")
def under_way() -> int:
    return hold() + workflow.wait_for("more", type=int)


@workflow("asleep")
def asleep() -> str:
    workflow.sleep(1)
    return "rested"


def sent(run: Run) -> bool:
    """Send a signal that is taken once, and tell whether that is known."""
    with suppress(ConnectionFailedError, OperationTimeoutError):
        run.signal("more", 10, id="once")
        return True
    return False


def ended(runs: Iterable[Run]) -> bool:
    with suppress(ConnectionFailedError, OperationTimeoutError):
        return all(run.status() == "completed" for run in runs)
    return False


def again_and_again(call: Callable[[], Any]) -> Any:
    """Call until the connections are there again."""
    for _ in range(20):
        try:
            return call()
        except ConnectionFailedError:
            continue
    return call()


async def test_verbs_fail_with_typed_errors_while_redis_is_away(
    make: Make, own_redis: RedisServer, colour: Colour
) -> None:
    """And work again when it is back; what was written is there, and fences hold."""
    own_redis.options = ("--appendonly", "yes", "--appendfsync", "always")
    own_redis.restart()
    store = make(own_redis.url, reconnects=0, connect_timeout=0.5)
    await store.start(a_run("r1"))
    mine = fence(await claim(store))
    own_redis.stop()
    with pytest.raises(RedisError) as caught:
        await store.commit(mine, [done("a", 0)])
    assert store.classify(caught.value) is ConnectionFailedError
    own_redis.start()
    await store.commit(mine, [done("a", 0)])
    assert ["a"] == [record.key for record in await store.journal("r1")]
    with pytest.raises(FencedError):
        await store.commit(Fence("r1", 99), [])
    await store.close()


async def test_a_fire_is_not_lost_to_an_outage(
    make: Make, own_redis: RedisServer, colour: Colour, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a schedule: it is tried again until the next one is due."""
    store, clock = make(own_redis.url, reconnects=0, connect_timeout=0.5), ManualClock()
    engines = Engines(store, clock, colour)
    engine = engines()
    await engine.open()
    engine.schedule("0 3 * * *", asleep, id="nightly")
    await soon(lambda: clock.ending_in(3 * 3600) == 1)
    await run_blocking(own_redis.stop)
    clock.advance(3 * 3600)
    await soon(lambda: "schedule nightly could not start workflow asleep" in caplog.text)
    await run_blocking(own_redis.start)

    def is_there() -> bool:
        clock.advance(1)
        return len(drive(store.find(RunQuery(name="asleep")))) == 1

    await soon(is_there)
    await run_blocking(engines.close)


def test_closing_while_redis_is_away_is_no_error(own_redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """As a process that was killed: what it had is handed on when its liveness is over."""
    app = Pilotis({"name": "shop", "workflow": {"url": own_redis.url, "connect_timeout": 0.5, "reconnects": 0}})
    run = app.workflow.start(sums, 1)
    eventually(lambda: run.status() == "waiting")
    own_redis.stop()
    app.close()
    assert "ends without a word to its provider" in caplog.text


async def test_a_worker_whose_beginning_had_no_answer_begins_again(
    make: Make, own_redis: RedisServer, colour: Colour
) -> None:
    """Redis knew it, but it gave no further sign of life: its runs would be taken from it."""
    with AnswerCutter(own_redis.port) as cutter:
        store = make(f"redis://127.0.0.1:{cutter.port}/0", reconnects=0, liveness=0.5)
        await lose_a_beginning(store, own_redis.url, cutter)
        await store.claim("w", FLOWS, 1, 0)
        first = tell(own_redis.url, "ZSCORE", WORKERS, "w")
        await run_blocking(eventually, lambda: tell(own_redis.url, "ZSCORE", WORKERS, "w") > first)
        await store.close()


async def lose_a_beginning(store: RedisWorkflows, url: str, cutter: AnswerCutter) -> None:
    """Have a worker begin until it is the answer to that which is cut off."""
    for _ in range(50):
        await store.claim("w", FLOWS, 1, 0)  # Redis knows the scripts now, and there is a connection
        await store.bury("w")
        cutter.cut_next()
        try:
            await store.claim("w", FLOWS, 1, 0)
        except (RedisError, OSError):
            if tell(url, "ZSCORE", WORKERS, "w") is not None:
                return
    raise AssertionError("it was always another answer")
