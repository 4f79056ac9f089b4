"""What workers live through: restarts, failovers, scripts and data that are gone, and answers that are lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from pilotis import Pilotis
from pilotis.errors import ConnectionFailedError
from pilotis.modules.event import Message
from pilotis_testing.chaos import AnswerCutter, eventually
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

Scenes = Callable[..., Any]
SLOW_TO_LOAD = ("--key-load-delay", "500")
"""Options of a server that takes half a millisecond more for each command that it reads from its disk."""
MANY_WRITES = "for number = 1, 5000 do redis.call('SET', 'filler', number) end"


def restart(server: RedisServer) -> None:
    server.restart()


def crash(server: RedisServer) -> None:
    server.kill()
    server.start()


def load_slowly(server: RedisServer) -> None:
    """Restart, and see that it takes its time: meanwhile it refuses commands."""
    tell(server.url, "EVAL", MANY_WRITES, 0)
    server.stop()
    server.options = (*server.options, *SLOW_TO_LOAD)
    server.start(until_loaded=False)
    assert tell(server.url, "INFO", "persistence")["loading"]


def demote(server: RedisServer) -> None:
    """Let it be a replica for a while, which refuses to be written to, as a master after a failover is."""
    tell(server.url, "REPLICAOF", "127.0.0.1", 1)
    timer = threading.Timer(1, tell, (server.url, "REPLICAOF", "NO", "ONE"))
    timer.start()


def forget_scripts(server: RedisServer) -> None:
    tell(server.url, "SCRIPT", "FLUSH")


def cut_off(server: RedisServer) -> None:
    tell(server.url, "CLIENT", "KILL", "TYPE", "normal")


@pytest.mark.parametrize("happen", [restart, crash, load_slowly, demote, forget_scripts, cut_off])
def test_workers_live_through(
    set_scene: Scenes, durable_redis: RedisServer, happen: Callable[[RedisServer], None]
) -> None:
    """They handle what came before, and what comes after, each event once; the same processes in the same lives."""
    scene = set_scene(durable_redis.url, liveness=10)
    before = [scene.start(colour) for colour in ("blocking", "async")]
    lives = scene.alive()
    ids = scene.emit("task", *[{}] * 20)
    ids += scene.emit("task", {"gate": "gate"}, prefix="meanwhile")
    eventually(lambda: len(scene.journal.of("plain", "began")) == 21)
    happen(durable_redis)
    scene.open_gate("gate")
    ids += scene.emit("task", *[{}] * 20, prefix="afterwards")
    eventually(lambda: scene.succeeded_or_none("plain", "awaited") == [41, 41])
    for subscription in ("plain", "awaited"):
        assert sorted(ids) == sorted(run.id for run in scene.journal.of(subscription, "done"))
    assert [None, None] == [worker.poll() for worker in before]
    assert lives == scene.alive()


def test_workers_rebuild_the_lanes_of_a_database_that_was_emptied(set_scene: Scenes, redis_url: str) -> None:
    """With a warning; what was in it is gone, and what comes after that is handled."""
    scene = set_scene(redis_url, liveness=2)
    workers = [scene.start(colour) for colour in ("blocking", "async")]
    scene.emit("task", {}, prefix="before")
    eventually(lambda: scene.succeeded("plain", "awaited") == [1, 1])
    tell(redis_url, "FLUSHALL")
    eventually(lambda: {worker.pid for worker in workers} <= scene.alive().keys())
    ids = scene.emit("task", *[{}] * 20, prefix="after")
    eventually(lambda: scene.succeeded("plain", "awaited") == [20, 20])
    for subscription in ("plain", "awaited"):
        assert sorted(["before-0", *ids]) == sorted(run.id for run in scene.journal.of(subscription, "done"))
    assert "was emptied" in scene.team.printed


def test_an_emit_whose_answer_is_cut_off_may_be_repeated(set_scene: Scenes, own_redis: RedisServer) -> None:
    """Its outcome is unknown. One event was sent, many wholly or not at all; repeated, all come once."""
    scene = set_scene(own_redis.url)
    scene.start()
    one = [Message("task", {}, id="one")]
    many = [Message("task", {}, id=f"task-{number}") for number in range(20)]
    with (
        AnswerCutter(own_redis.port) as cutter,
        Pilotis({"name": "shop", "event": f"redis://127.0.0.1:{cutter.port}/0"}, role="emit") as app,
    ):
        app.event.emit("task", {}, id="first")
        for messages in (one, many):
            cutter.cut_next()
            with pytest.raises(ConnectionFailedError) as caught:
                app.event.emit_many(messages)
            assert ("unknown", True) == (caught.value.outcome, caught.value.retryable)
            if messages is one:
                eventually(lambda: scene.succeeded("plain", "awaited") == [2, 2])
            assert scene.lane("plain").emitted in (2, 22)
            assert [message.id for message in messages] == app.event.emit_many(messages)
            assert scene.lane("plain").emitted == (2 if messages is one else 22)
    eventually(lambda: scene.succeeded("plain", "awaited") == [22, 22])
    expected = sorted(["first", "one", *(f"task-{number}" for number in range(20))])
    assert expected == sorted(run.id for run in scene.journal.of("plain", "done"))
