"""What tests with processes share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from pilotis import Pilotis
from pilotis.errors import ConnectionFailedError, OperationError, OperationTimeoutError
from pilotis.modules.event import Message
from pilotis.providers import LaneInfo
from pilotis_testing.chaos import Journal, Process, Team, eventually, team
from pilotis_testing.redis import tell

HERE = Path(__file__).parent
BUS = "{pilotis:events}"
QUICK = {"connect_timeout": 1}

HELD = """
-- Returns how many entries consumers hold whose name has ARGV[2] in it, of the streams that ARGV[1] matches.
local held = 0
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
    for _, consumer in ipairs(redis.call('XPENDING', key, 'g')[4] or {}) do
        if string.find(consumer[1], ARGV[2], 1, true) then
            held = held + consumer[2]
        end
    end
end
return held
"""


class Scene:
    """Worker processes of `chaos_app.py`, what they wrote down, and a process that emits and knows no handlers."""

    def __init__(self, url: str, folder: Path, crew: Team, app: Pilotis) -> None:
        self.url = url
        self.folder = folder
        self.team = crew
        self.app = app
        self.journal = Journal(folder / "journal")

    def declare(self) -> None:
        """Declare the lanes, as a deployment does."""
        command = [sys.executable, "-c", "import chaos_app; chaos_app.app.event.declare_all()"]
        subprocess.run(command, env={**os.environ, **environment_of(self.folder)}, check=True)

    def start(self, colour: str = "blocking") -> Process:
        """Start a worker, and wait until Redis knows it."""
        worker = self.team.start(colour)
        eventually(lambda: worker.pid in self.alive())
        return worker

    def alive(self) -> dict[int, str]:
        """Return the workers that are taken for alive: how they are called, by process."""
        return {int(id.decode().split(":")[1]): id.decode() for id in tell(self.url, "ZRANGE", f"{BUS}:w", 0, -1)}

    def held_by(self, worker: Process) -> int:
        """Return how many deliveries a process has in its hands."""
        return tell(self.url, "EVAL", HELD, 0, f"{BUS}:l:*:[shnl]", f":{worker.pid}:")

    def open_gate(self, name: str) -> None:
        """Let those go on who wait for it."""
        (self.folder / name).touch()

    def emit(self, name: str, *data: Any, prefix: str = "", **options: Any) -> list[str]:
        """Emit events with ids of their own, again and again if need be."""
        return self.emit_all(
            [Message(name, it, id=f"{prefix or name}-{index}") for index, it in enumerate(data)], **options
        )

    def emit_all(self, messages: list[Message], **options: Any) -> list[str]:
        """Emit events that have ids, until it is known that they are there."""
        ids: list[str] = []

        def is_emitted() -> bool:
            try:
                ids[:] = self.app.event.emit_many(messages, **options)
            except (ConnectionFailedError, OperationTimeoutError):
                return False
            return True

        eventually(is_emitted)
        return ids

    def lane(self, subscription: str) -> LaneInfo:
        """Return how a lane is doing."""
        return next(it for it in self.app.event.lanes() if it.subscription == subscription)

    def is_idle(self) -> bool:
        """Tell whether nothing is left to do in any lane."""
        return not any(it.queued + it.held + it.delayed + it.in_flight for it in self.app.event.lanes())

    def succeeded(self, *subscriptions: str) -> list[int]:
        """Return how many deliveries of subscriptions succeeded."""
        return [self.lane(it).succeeded for it in subscriptions]

    def succeeded_or_none(self, *subscriptions: str) -> list[int] | None:
        """Return the same; None where Redis cannot be asked now."""
        try:
            return self.succeeded(*subscriptions)
        except OperationError:
            return None

    def until_began(self, count: int, *, pid: int | None = None) -> None:
        """Wait until both subscriptions of tasks have begun so many runs, all in all or in one process."""

        def have_begun() -> bool:
            runs = Counter(
                it.subscription for it in self.journal.read() if it.what == "began" and pid in (None, it.pid)
            )
            return min(runs["plain"], runs["awaited"]) >= count

        eventually(have_begun)

    def close(self) -> None:
        """Print how lanes were doing, for who looks into a failure."""
        with suppress(OperationError):  # its Redis may have ended before
            for info in self.app.event.lanes():
                print(info)
        self.journal.close()


def environment_of(folder: Path) -> dict[str, str]:
    return {"CHAOS_FOLDER": str(folder), "PYTHONPATH": str(HERE)}


@pytest.fixture
def set_scene(tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    """What sets a scene at a Redis, with settings of `[event]` for all processes."""
    with ExitStack() as stack:

        def make(url: str, **settings: Any) -> Scene:
            folder = tmp_path / "scene"
            folder.mkdir()
            whole = {"name": "shop", "event": {"url": url, **QUICK, **settings}}
            (folder / "settings.json").write_text(json.dumps(whole))
            app = Pilotis(whole, role="emit")
            stack.callback(app.close)
            command = [sys.executable, str(HERE / "chaos_app.py")]
            crew = stack.enter_context(team(command, folder / "printed", environment_of(folder)))
            scene = Scene(url, folder, crew, app)
            stack.callback(scene.close)
            return scene

        yield make
