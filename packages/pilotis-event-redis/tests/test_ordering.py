"""Events of one key, handled by several processes that die: one at a time, and in order."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import pytest
from pilotis.modules.event import Message
from pilotis_testing.chaos import FULL, eventually, overlaps, size

pytestmark = [pytest.mark.campaign, pytest.mark.slow, pytest.mark.timeout(3600 if FULL else 180)]

Scenes = Callable[..., Any]

DEADLY = size(23, 211)
"""One event of so many kills its worker: each death takes some seconds."""


def told(key: int, number: int) -> Message:
    """Return the next event of a key: some fail once, some always, some kill their worker, some are delayed."""
    place = key * 5 + number
    fails = {0: 1, 3: 9}.get(place % 7, 0)
    task = {"key": f"k{key}", "number": number, "fails": fails, "dies": place % DEADLY == 5}
    delay = 0.3 if place % 11 == 2 else None
    return Message("ordered", task, id=f"k{key}-{number}", key=f"k{key}", delay=delay)


def test_events_of_a_key_keep_their_order_whatever_happens(set_scene: Scenes, redis_url: str) -> None:
    """Through retries, delays, crashes, dead letters and several workers. Other keys wait for none of that."""
    keys, length = size(6, 100), size(10, 200)
    scene = set_scene(redis_url, liveness=1, max_crashes=1_000)
    scene.declare()
    messages = [told(key, number) for number in range(length) for key in range(keys)]
    scene.emit_all(messages)
    for colour in ("blocking", "async", "blocking"):
        scene.team.start(colour)

    def is_over() -> bool:
        for _ in range(scene.team.count_out()):
            scene.team.start("blocking")
        return scene.is_idle()

    eventually(is_over, size(120, 3_000))
    runs = scene.journal.of("ordered")
    assert [] == overlaps(runs, lambda run: run.data[0])
    for key in range(keys):
        ended = [(run.data[1], run.attempt) for run in runs if run.what != "began" and run.data[0] == f"k{key}"]
        assert attempts_of(key, length) == [place for place, _ in groupby(ended)]
    hopeless = {message.id for message in messages if message.data["fails"] == 9}
    assert hopeless == {dead.id for dead in scene.app.event.dead_letters()}
    assert len(messages) - len(hopeless) == scene.succeeded("ordered")[0]


def attempts_of(key: int, length: int) -> list[tuple[int, int]]:
    """Return each number of a key with each of its attempts, three at most. One may be run twice: a worker died of it,
    or with it.
    """
    return [
        (number, attempt)
        for number in range(length)
        for attempt in range(1, min(3, 1 + told(key, number).data["fails"]) + 1)
    ]


def test_a_key_that_waits_holds_up_no_other(set_scene: Scenes, redis_url: str) -> None:
    """One is stuck in its first event until all others are done; then it goes on where it was."""
    scene = set_scene(redis_url)
    scene.start("blocking")
    scene.start("async")
    scene.emit_all([
        Message("ordered", {"key": key, "number": number, "gate": gate}, id=f"{key}-{number}", key=key)
        for key, gate in (("stuck", "gate"), ("a", None), ("b", None))
        for number in range(5)
    ])  # fmt: skip
    eventually(lambda: scene.succeeded("ordered") == [10])
    assert [["stuck", 0]] == [run.data for run in scene.journal.of("ordered", "began") if run.data[0] == "stuck"]
    scene.open_gate("gate")
    eventually(lambda: scene.succeeded("ordered") == [15])
    for key in ("stuck", "a", "b"):
        ended = [run.data[1] for run in scene.journal.of("ordered", "done") if run.data[0] == key]
        assert [0, 1, 2, 3, 4] == ended
