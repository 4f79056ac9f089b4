"""`pilotis worker` and `pilotis status` with lanes that outlive processes."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest
from pilotis import Event, Message, Pilotis
from pilotis.bridge import Latch
from pilotis_testing import Colour, ManualClock
from pilotis_testing.clock import until
from pilotis_testing.redis import tell

PATIENCE = 30.0
LIVENESS = 0.5

APP = """
import os
import time
from pathlib import Path
from pilotis import Event, Pilotis

app = Pilotis.load({"name": "shop", "event": {"provider": "redis", "url": os.environ["SHOP_REDIS"], "liveness": 0.5}})

@app.event.on("order.placed", id="pack", concurrency=2)
def pack(event: Event[int]) -> None:
    with open("packed", "a") as packed:
        packed.write(f"{event.data} {os.getpid()}\\n")
    if event.data == 0:
        Path("begun").touch()
        while not Path("gate").exists():
            time.sleep(0.01)
"""


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str) -> Path:
    """A directory with an app."""
    (tmp_path / "shop_app.py").write_text(APP)
    monkeypatch.setenv("SHOP_REDIS", redis_url)
    return tmp_path


@pytest.fixture
def emitter(redis_url: str) -> Iterator[Pilotis]:
    """An app that emits, and knows no handler."""
    with Pilotis({"name": "shop", "role": "emit", "event": {"provider": "redis", "url": redis_url}}) as app:
        yield app


def pilotis(scene: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pilotis", "--app", "shop_app:app", *arguments]
    return subprocess.run(command, cwd=scene, capture_output=True, text=True, check=False, timeout=PATIENCE)


class Working:
    """A worker in a directory, and its log."""

    def __init__(self, scene: Path, *arguments: str) -> None:
        self.scene = scene
        self.log = scene / "log"
        command = [sys.executable, "-m", "pilotis", "worker", "shop_app:app", *arguments]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, cwd=scene, stderr=log, process_group=0)

    def packed(self) -> list[list[int]]:
        """Return what was packed, and by which process."""
        file = self.scene / "packed"
        return [[*map(int, line.split())] for line in file.read_text().splitlines()] if file.exists() else []

    def started(self) -> int:
        """Return how many processes have begun to work."""
        return self.log.read_text().count('msg="worker started"')

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pid in re.findall(r"child=(\d+)", self.log.read_text()):
            until(lambda pid=pid: not _runs(pid), PATIENCE)


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_a_killed_process_had_is_done_by_the_others(scene: Path, emitter: Pilotis) -> None:
    """Nothing is lost, and nothing is done twice but what was in the hands of the one that was killed."""
    assert pilotis(scene, "events", "sync").returncode == 0
    with Working(scene, "--processes", "2") as working:
        until(lambda: working.started() == 2, PATIENCE)
        emitter.event.emit("order.placed", 0)
        until((scene / "begun").exists, PATIENCE)
        [[_, victim]] = working.packed()
        os.kill(victim, signal.SIGKILL)
        (scene / "gate").touch()
        emitter.event.emit_many([Message("order.placed", number) for number in range(1, 50)])
        until(lambda: {number for number, _ in working.packed()} == set(range(50)), PATIENCE)
        until(lambda: len(working.packed()) >= 51, PATIENCE)  # the first one, once more
        until(lambda: working.started() == 3, PATIENCE)
        working.process.send_signal(signal.SIGTERM)
        assert working.process.wait(PATIENCE) == 0
    assert [0, 0] == [number for number, _ in working.packed() if number == 0]
    [lane] = emitter.event.lanes()
    assert (lane.succeeded, lane.queued, lane.in_flight, lane.dead) == (50, 0, 0, 0)


def test_a_status_tells_of_lanes_without_a_worker(scene: Path, emitter: Pilotis) -> None:
    """From when on, and what mends it; a worker does."""
    assert pilotis(scene, "events", "sync").returncode == 0
    ended = pilotis(scene, "status", "--json")
    assert (ended.returncode, [it["what"] for it in msgspec.json.decode(ended.stdout)]) == (
        1,
        ["lane 'order.placed pack' has no live reader"],
    )
    emitter.event.emit("order.placed", 1)
    ended = pilotis(scene, "status", "--json")
    [finding] = msgspec.json.decode(ended.stdout)
    assert (ended.returncode, finding["severity"]) == (2, "stuck")
    assert "1 event waits" in finding["why"]
    with Working(scene) as working:
        until(lambda: [1] == [number for number, _ in working.packed()], PATIENCE)
        until(lambda: emitter.event.lanes()[0].succeeded == 1, PATIENCE)
        ended = pilotis(scene, "status")
        assert (ended.returncode, ended.stdout) == (0, "All is well.\n")


def test_a_lane_that_nobody_declares_any_more_is_removed(scene: Path, emitter: Pilotis, redis_url: str) -> None:
    """A status finds it, and names the command."""
    declare(redis_url, "old")
    assert "lane 'order.lost old' is declared by nobody" in pilotis(scene, "status", "--json").stdout
    ended = pilotis(scene, "events", "unsubscribe", "old", "--yes")
    assert (ended.returncode, ended.stdout) == (0, "Removed 1 lane of old.\n")
    assert [lane.subscription for lane in emitter.event.lanes()] == ["pack"]


def test_a_worker_warns_once_of_what_nobody_reads(
    redis_url: str, colour: Colour, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it looks."""
    declare(redis_url, "old")
    stop = Latch()
    caplog.set_level(logging.WARNING, "pilotis.worker")
    settings = {"name": "shop", "event": {"provider": "redis", "url": redis_url, "liveness": LIVENESS}}
    app = Pilotis(settings, clock=clock)
    app.event.on("order.placed", id="pack")(nothing)
    run = threading.Thread(target=lambda: colour.run(colour.voice(app).run_worker(stop=stop)))
    run.start()
    try:
        until(lambda: app.event.is_open, PATIENCE)
        while not warnings(caplog):
            clock.advance(60)
        looks = asked(redis_url)
        while asked(redis_url) < looks + 3:
            clock.advance(60)
    finally:
        stop.set()
        run.join(PATIENCE)
    assert ["lane 'order.lost old' is declared by nobody"] == [text.partition(":")[0] for text in warnings(caplog)]


def warnings(caplog: pytest.LogCaptureFixture) -> Sequence[str]:
    """Return what workers warned of."""
    return [record.getMessage() for record in caplog.records if record.name == "pilotis.worker"]


def asked(url: str) -> int:
    """Return how often anybody asked how lanes are doing."""
    stats: dict[str, Any] = tell(url, "INFO", "commandstats")
    return next((stat["calls"] for name, stat in stats.items() if name.lower() == "cmdstat_xinfo|groups"), 0)


def declare(url: str, id: str) -> None:
    """Leave behind a lane, as an older version of the program did."""
    with Pilotis({"name": "shop", "role": "emit", "event": {"provider": "redis", "url": url}}) as app:
        app.event.subscribe("order.lost", nothing, id=id)


def nothing(event: Event[Any]) -> None:
    """Handle nothing."""
