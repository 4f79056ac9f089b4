"""Workers that are killed, stopped or blocked, and a Redis that is restarted, while events are handled."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from pilotis.modules.event import Message
from pilotis_testing.chaos import FULL, Journal, Process, eventually, extra_runs, size
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer

LONG = 3_000.0 if FULL else 120.0
"""Seconds that the handling of everything may take."""
MOST_AHEAD = 1_000
PATIENT = 3
"""The liveness of workers that must not be taken for dead where the machine holds them up: it would be a crash."""

pytestmark = [pytest.mark.campaign, pytest.mark.slow, pytest.mark.timeout(3600 if FULL else 180)]

Scenes = Callable[..., Any]


class Load:
    """Events that are emitted on a thread of their own: so many at least, and until it is finished.

    There is always something to do, and never too much.
    """

    def __init__(self, scene: Any, count: int) -> None:
        self.ids: list[str] = []
        self._scene = scene
        self._count = count
        self._journal = Journal(scene.folder / "journal")
        self._is_enough = threading.Event()
        self._thread = threading.Thread(target=self._emit, daemon=True)
        self._thread.start()

    def _emit(self) -> None:
        while len(self.ids) < self._count or not self._is_enough.is_set():
            numbers = range(len(self.ids), len(self.ids) + 100)
            self._scene.emit_all([Message("load", number, id=f"load-{number}") for number in numbers])
            self.ids += [f"load-{number}" for number in numbers]
            eventually(lambda: len(self._journal.read()) > 2 * len(self.ids) - MOST_AHEAD)

    def finish(self) -> None:
        """Emit no more than there has to be, and wait until all of it is handled."""
        self._is_enough.set()
        self._thread.join(LONG)
        assert not self._thread.is_alive()
        eventually(self._scene.is_idle, LONG)
        self._journal.close()


def test_nothing_is_lost_while_workers_are_killed_and_redis_is_restarted(
    set_scene: Scenes, durable_redis: RedisServer
) -> None:
    """What is handled twice was in the hands of a worker when it was killed; subscriptions do not touch one another."""
    count, kills, dice = size(1_000, 100_000), size(4, 40), random.Random(5)
    scene = set_scene(durable_redis.url, liveness=5, max_crashes=1_000)
    scene.declare()
    load = Load(scene, count)
    for colour in ("blocking", "async") * 2:
        scene.team.start(colour)
    held: list[int] = []

    def kill_one() -> None:
        victim, in_hand = stopped_at_work(scene, dice)
        held.append(in_hand)
        scene.team.kill(victim)
        scene.team.start(dice.choice(["blocking", "async"]))

    def restart(end: Callable[[], None]) -> None:
        end()
        durable_redis.start()
        eventually(lambda: not tell(durable_redis.url, "INFO", "persistence")["loading"])

    happenings: list[Callable[[], None]] = [kill_one] * kills
    happenings.insert(kills // 3, lambda: restart(durable_redis.stop))
    happenings.insert(2 * kills // 3 + 1, lambda: restart(durable_redis.kill))
    for turn, happen in enumerate(happenings, 1):
        share = 2 * count * turn / (len(happenings) + 1)
        eventually(lambda share=share: len(scene.journal.read()) > share, LONG)
        happen()
    load.finish()

    runs = scene.journal.read()
    everything, hopeless = set(load.ids), set(load.ids[::10])
    handled = {name: {it.id for it in runs if it.subscription == name} for name in ("steady", "shaky", "hopeless")}
    assert {"steady": everything, "shaky": everything, "hopeless": everything - hopeless} == handled
    assert {name: len(those) for name, those in handled.items()} == {
        name: scene.lane(name).succeeded for name in handled
    }
    letters = [(it.subscription, it.id, it.cause) for it in scene.app.event.dead_letters()]
    assert sorted(("hopeless", id, "failed") for id in hopeless) == sorted(letters)
    fenced = sum(scene.lane(name).fenced for name in handled)  # of a worker that the machine held up for long
    assert len(extra_runs(runs)) <= sum(held) + fenced


def stopped_at_work(scene: Any, dice: random.Random) -> tuple[Process, int]:
    """Stop a worker that has something in its hands, and return it, with how many deliveries that is."""
    for _ in range(1_000):
        worker = dice.choice(scene.team.members)
        scene.team.pause(worker)
        if held := scene.held_by(worker):
            return worker, held
        scene.team.resume(worker)
        time.sleep(0.05)
    raise AssertionError("nobody has anything to do")


@pytest.mark.parametrize("colour", ["blocking", "async"])
def test_a_stopped_worker_settles_in_vain_and_starts_afresh(set_scene: Scenes, redis_url: str, colour: str) -> None:
    """Once its liveness is over another one handles what it had; when it goes on, all that it settles is refused."""
    scene = set_scene(redis_url, liveness=1)
    worker = scene.start(colour)
    before = scene.alive()[worker.pid]
    scene.emit("task", *[{"gate": "gate"}] * 3)
    scene.until_began(3, pid=worker.pid)
    scene.team.pause(worker)
    other = scene.start()
    eventually(lambda: other.pid in {run.pid for run in scene.journal.read()})
    scene.open_gate("gate")
    eventually(lambda: scene.succeeded("plain", "awaited") == [3, 3])
    scene.team.kill(other)
    scene.team.resume(worker)
    eventually(lambda: min(scene.lane(it).fenced for it in ("plain", "awaited")) >= 3)
    eventually(lambda: scene.alive().get(worker.pid, before) != before)
    scene.emit("task", {}, prefix="later")
    eventually(lambda: scene.succeeded("plain", "awaited") == [4, 4])
    assert {worker.pid} == {run.pid for run in scene.journal.read() if run.id == "later-0"}


def test_what_kills_its_workers_is_a_dead_letter(set_scene: Scenes, redis_url: str) -> None:
    """After three of them. Those that were with it are handled, and nothing else dies of it."""
    scene = set_scene(redis_url, liveness=PATIENT)
    scene.declare()
    scene.emit("task", *[{}] * 40)
    scene.emit("poison", None)
    scene.emit("task", *[{}] * 40, prefix="behind")
    for colour in ("blocking", "async"):
        scene.team.start(colour)

    def is_over() -> bool:
        for _ in range(scene.team.count_out()):
            scene.team.start("blocking")
        return scene.is_idle()

    eventually(is_over)
    [dead] = scene.app.event.dead_letters()
    assert ("poison", "poison-0", "crashed", 3, 0) == (
        dead.subscription, dead.id, dead.cause, dead.crashes, dead.attempts,
    )  # fmt: skip
    assert dead.worker
    assert 3 == len(scene.journal.of("poison", "began"))
    assert [80, 80] == scene.succeeded("plain", "awaited")


def test_a_handler_may_take_many_times_its_workers_liveness(set_scene: Scenes, redis_url: str) -> None:
    """It runs once, in either colour, although others are idle."""
    scene = set_scene(redis_url, liveness=size(2, 5))
    scene.start("blocking")
    scene.emit("task", {"seconds": size(6, 90)})
    scene.until_began(1)
    scene.start("async")
    scene.emit("task", {"seconds": size(6, 90)}, prefix="second")
    eventually(lambda: scene.succeeded("plain", "awaited") == [2, 2], LONG)
    for subscription in ("plain", "awaited"):
        assert 2 == len(scene.journal.of(subscription, "began"))
        assert 0 == scene.lane(subscription).fenced


@pytest.mark.parametrize("colour", ["blocking", "async"])
def test_a_handler_that_blocks_its_event_loop_is_run_elsewhere(set_scene: Scenes, redis_url: str, colour: str) -> None:
    """The loop of the handlers, or Pilotis' own: after the stall limit the worker's place is lost, until it goes on."""
    scene = set_scene(redis_url, liveness=1, stall=1)
    blocked = scene.start(colour)
    before = scene.alive()[blocked.pid]
    scene.emit("wedge", {"gate": "gate"})
    eventually(lambda: scene.journal.of("wedge", "began"))
    scene.start("blocking")
    eventually(lambda: scene.succeeded("wedge") == [1])
    assert [run.pid for run in scene.journal.of("wedge", "done")] != [blocked.pid]
    scene.open_gate("gate")
    eventually(lambda: scene.lane("wedge").fenced >= 1)
    eventually(lambda: scene.alive().get(blocked.pid, before) != before)
    assert [1] == scene.succeeded("wedge")
