"""Workers that are killed and stopped, and a Redis that is restarted, while they work on runs."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from pilotis.errors import WorkflowFailedError
from pilotis_testing.chaos import FULL, eventually, size
from pilotis_testing.servers import RedisServer

LONG = 3_000.0 if FULL else 120.0
"""Seconds that everything may take."""
STEPS = ["reserve", "charge", "pack", "label", "ship"]

pytestmark = [pytest.mark.campaign, pytest.mark.slow, pytest.mark.timeout(3600 if FULL else 180)]

Scenes = Callable[..., Any]


def test_every_run_ends_while_workers_are_killed_and_redis_is_restarted(
    set_scene: Scenes, durable_redis: RedisServer
) -> None:
    """Each step is recorded once; what failed is wholly compensated; what ran twice was in the hands of the killed."""
    count, kills, dice = size(100, 1_000), size(3, 40), random.Random(7)
    scene = set_scene(durable_redis.url, liveness=1, max_crashes=1_000)
    for colour in ("blocking", "async", "blocking"):
        scene.team.start(colour)
    starting = threading.Thread(target=start_runs, args=(scene, count), daemon=True)
    starting.start()
    for turn in range(1, kills + 1):
        share = len(STEPS) * count * turn / (kills + 2)
        eventually(lambda share=share: len(scene.journal.read()) > share, LONG)
        if turn == (kills + 1) // 2:
            durable_redis.kill()
            durable_redis.start()
        scene.team.kill(dice.choice(scene.team.members))
        scene.team.start(dice.choice(["blocking", "async"]))
    starting.join(LONG)
    eventually(lambda: is_done(scene, count), LONG)

    expected = {f"load-{number}": "completed" if number % 10 else "compensated" for number in range(count)}
    assert expected == scene.statuses(name="load")
    for number in range(count):
        check_run(scene, number)


def start_runs(scene: Any, count: int) -> None:
    for number in range(count):
        scene.run(scene.flows.load, number, id=f"load-{number}")


def is_done(scene: Any, count: int) -> bool:
    states = Counter[str](scene.statuses(name="load").values())
    return states["completed"] + states["compensated"] == count


def check_run(scene: Any, number: int) -> None:
    """See that the records of a run are what it did."""
    id = f"load-{number}"
    history = {it.step: it for it in scene.app.workflow.history(id)}
    noted = Counter((it.what, it.subscription) for it in scene.journal.read() if it.id == id)
    if number % 10:
        results = [number + more for more in range(5)]
        assert results == [history[step].result for step in STEPS]
        assert results == scene.app.workflow.get(id).result()
        assert not [what for what, _ in noted if what == "undone"]
    else:
        undone = [f"~{step}" for step in STEPS[:4]]
        assert sorted([*STEPS, *undone]) == sorted(history)
        assert {"done"} == {history[step].status for step in undone}
        assert {("undone", step) for step in STEPS[:4]} <= noted.keys()
    assert {("done", step) for step in STEPS[: 5 if number % 10 else 4]} <= noted.keys()


@pytest.mark.parametrize("colour", ["blocking", "async"] if FULL else ["async"])
def test_a_stopped_worker_writes_in_vain(set_scene: Scenes, redis_url: str, colour: str) -> None:
    """Once its liveness is over another one finishes its runs; what it writes when it goes on is refused."""
    scene = set_scene(redis_url, liveness=1)
    worker = scene.start(colour)
    runs = [scene.run(scene.flows.gated, "gate", id=f"gated-{number}") for number in range(3)]
    eventually(lambda: len(scene.journal.of("hold", "began")) == 3)
    scene.team.pause(worker)
    other = scene.start()
    eventually(lambda: other.pid in {it.pid for it in scene.journal.of("hold", "began")})
    scene.open_gate("gate")
    assert [other.pid] * 3 == [run.result(timeout=LONG) for run in runs]
    scene.team.resume(worker)
    eventually(lambda: len(scene.journal.of("hold", "done")) == 6)
    scene.team.kill(other)
    eventually(lambda: other.pid not in scene.alive())  # until then it may be the one that is rung
    assert worker.pid == scene.run(scene.flows.gated, "gate", id="later").result(timeout=LONG)
    assert [other.pid] * 3 == [run.result() for run in runs]
    assert [["done"]] * 3 == [[it.status for it in scene.app.workflow.history(run.id)] for run in runs]


def test_a_run_that_kills_its_workers_is_stuck(set_scene: Scenes, redis_url: str) -> None:
    """After three of them. Those that were with it are completed. A new worker leaves it alone; a retry does not."""
    scene = set_scene(redis_url, liveness=1)
    runs = [scene.run(scene.flows.load, number, id=f"load-{number}") for number in range(1, 10)]
    poison = scene.run(scene.flows.poison, id="poison")
    runs += [scene.run(scene.flows.load, number, id=f"load-{number}") for number in range(11, 20)]
    for colour in ("blocking", "async"):
        scene.team.start(colour)

    def is_over() -> bool:
        for _ in range(scene.team.count_out()):
            scene.team.start("blocking")
        return poison.status() == "stuck" and all(run.status() == "completed" for run in runs)

    eventually(is_over, LONG)
    assert 3 == len(scene.journal.of("kill", "began"))
    with pytest.raises(WorkflowFailedError, match="3 workers in a row died"):
        poison.result()
    assert 2 == len(scene.team.members)
    assert "rested" == scene.run(scene.flows.nap, 0.1, id="nap").result(timeout=LONG)
    assert (0, "stuck") == (scene.team.count_out(), poison.status())
    scene.app.workflow.retry("poison")
    eventually(lambda: len(scene.journal.of("kill", "began")) > 3)


def test_no_signal_is_lost_between_a_check_and_a_wait(set_scene: Scenes, redis_url: str) -> None:
    """Many race their waits; each is taken once, and in the order in which they came."""
    runs, signals = size(20, 50), size(30, 100)
    scene = set_scene(redis_url, concurrency=20)
    for colour in ("blocking", "async"):
        scene.team.start(colour)
    collecting = [scene.run(scene.flows.collect, signals, id=f"collect-{number}") for number in range(runs)]

    def send(mine: list[Any]) -> None:
        for number in range(signals):
            for run in mine:
                run.signal("number", number, id=f"{number}")

    senders = [threading.Thread(target=send, args=(collecting[part::4],), daemon=True) for part in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(LONG)
    assert [list(range(signals))] * runs == [run.result(timeout=LONG) for run in collecting]


def test_a_timer_outlives_its_worker(set_scene: Scenes, redis_url: str) -> None:
    """A sleep that began with one worker ends with another, which was not there then."""
    scene = set_scene(redis_url, liveness=1)
    worker = scene.start()
    run = scene.run(scene.flows.nap, 1, id="nap")
    eventually(lambda: run.status() == "waiting")
    scene.team.kill(worker)
    scene.start("async")
    assert "rested" == run.result(timeout=LONG)
