"""Processes of one service and of several, that emit, work, end and share what there is to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from pilotis import Event, Pilotis
from pilotis_testing.chaos import eventually, extra_runs
from pilotis_testing.redis import tell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

Scenes = Callable[..., Any]


def test_what_was_emitted_before_the_first_worker_is_handled(set_scene: Scenes, redis_url: str) -> None:
    """By a process that knows no handlers, once lanes were declared at deployment. Before that nobody takes it."""
    scene = set_scene(redis_url)
    scene.emit("task", {}, prefix="too early")
    scene.declare()
    scene.emit("task", *[{}] * 50)
    assert [50, 50] == [scene.lane(it).queued for it in ("plain", "awaited")]
    scene.start()
    eventually(scene.is_idle)
    assert {f"task-{number}" for number in range(50)} == {run.id for run in scene.journal.read()}
    assert [50, 50] == scene.succeeded("plain", "awaited")


def test_an_emitting_process_registers_what_it_includes(set_scene: Scenes, redis_url: str) -> None:
    """In role "emit" too: nothing that it emits before the first worker runs is lost."""
    scene = set_scene(redis_url)
    with Pilotis({"name": "shop", "event": redis_url}, role="emit") as app:
        app.event.on("task", id="plain")(print)
        app.event.emit("task", {}, id="early")
    scene.start()
    eventually(lambda: scene.succeeded("plain") == [1])
    assert ["early"] == [run.id for run in scene.journal.of("plain", "done")]


def test_processes_of_a_service_share_and_services_do_not(set_scene: Scenes, redis_url: str) -> None:
    """Three processes of one handle each event once, all three of them some; another service gets every one, too."""
    scene = set_scene(redis_url)
    with Pilotis({"name": "audit", "event": redis_url}) as audit:
        heard: list[str] = []

        def hear(event: Event[Any]) -> None:
            heard.append(event.id)

        audit.event.subscribe("task", hear, id="audit")
        workers = {scene.start(colour).pid for colour in ("blocking", "async", "blocking")}
        ids = scene.emit("task", *[{"gate": "gate"}] * 30)
        eventually(lambda: workers == {run.pid for run in scene.journal.read()})
        scene.open_gate("gate")
        eventually(scene.is_idle)
        eventually(lambda: len(heard) >= 30)
    for subscription in ("plain", "awaited"):
        assert Counter(ids) == Counter(run.id for run in scene.journal.of(subscription, "done"))
    assert Counter(ids) == Counter(heard)


def test_what_a_killed_process_staged_is_dropped(set_scene: Scenes, redis_url: str) -> None:
    """A minute after its death; what it had released is handled."""
    scene = set_scene(redis_url)
    scene.start()
    staging = scene.team.start("stage")
    eventually(lambda: len(scene.journal.of("group", "staged")) == 1)
    scene.team.kill(staging)
    [group] = tell(redis_url, "KEYS", "{pilotis:events}:g:*")
    assert 0 < tell(redis_url, "PTTL", group) <= 60_000
    assert 1 == tell(redis_url, "PEXPIRE", group, 0)  # as it will by itself: nobody is left who would renew it
    scene.app.event.release_group("of the dead")
    scene.emit("task", {}, prefix="afterwards")
    eventually(lambda: scene.succeeded("plain", "awaited") == [2, 2])
    assert {"released-0", "afterwards-0"} == {run.id for run in scene.journal.of("plain", "done")}


def test_a_periodic_event_comes_once_however_many_keep_the_time(set_scene: Scenes, redis_url: str) -> None:
    """Three processes fire `every` and `cron`; one that is killed is not missed. What it had in hand comes again."""
    scene = set_scene(redis_url, liveness=2)
    for _ in range(3):
        scene.team.start("periodic")

    def have_come(count: int) -> bool:
        came = Counter(run.data for run in scene.journal.of("periodic", "done"))
        return min(came["every"], came["cron"]) >= count

    eventually(lambda: have_come(2))
    victim = scene.team.members[0]
    scene.team.pause(victim)
    held = scene.held_by(victim)
    scene.team.kill(victim)
    before = len(scene.journal.of("periodic"))
    eventually(lambda: have_come(before // 2 + 3))
    runs = scene.journal.of("periodic")
    assert len(extra_runs(runs)) <= held + scene.lane("periodic").fenced
