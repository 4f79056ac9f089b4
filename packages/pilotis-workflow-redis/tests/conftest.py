"""What tests with processes share."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pilotis import Pilotis
from pilotis.bridge import drive
from pilotis.errors import ConnectionFailedError, OperationTimeoutError
from pilotis.modules.workflow import Run
from pilotis_testing.chaos import Journal, Process, Team, eventually, team
from pilotis_testing.redis import tell
from pilotis_workflow_redis import RedisWorkflows, RedisWorkflowsOptions

HERE = Path(__file__).parent
SPACE = "{pilotis:workflows:shop}"
QUICK = {"connect_timeout": 1}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count the tests of the suite that crash after each operation in turn among the slow ones."""
    for item in items:
        if "_changes_nothing" in item.name:
            item.add_marker(pytest.mark.slow)


class Scene:
    """Worker processes of `flow_app.py`, what they wrote down, and an app that starts runs and works on none."""

    def __init__(self, url: str, folder: Path, crew: Team, app: Pilotis, flows: Any) -> None:
        self.url = url
        self.folder = folder
        self.team = crew
        self.app = app
        self.flows = flows
        """The module with the workflows."""
        self.journal = Journal(folder / "journal")

    def start(self, colour: str = "blocking") -> Process:
        """Start a worker, and wait until Redis knows it."""
        worker = self.team.start(colour)
        eventually(lambda: worker.pid in self.alive())
        return worker

    def alive(self) -> dict[int, str]:
        """Return the workers that are taken for alive: how they are called, by process."""
        infos = tell(self.url, "HGETALL", f"{SPACE}:wi")
        return {json.loads(info)["pid"]: worker.decode() for worker, info in infos.items()}

    def held_by(self, worker: Process) -> int:
        """Return how many runs a process has in its hands."""
        id = self.alive().get(worker.pid)
        return 0 if id is None else tell(self.url, "HLEN", f"{SPACE}:o:{id}")

    def open_gate(self, name: str) -> None:
        """Let those go on who wait for it."""
        (self.folder / name).touch()

    def run(self, flow: Any, *args: Any, id: str) -> Run:
        """Start a run, again and again if need be."""
        runs: list[Run] = []

        def is_started() -> bool:
            try:
                runs.append(self.app.workflow.start(flow, *args, id=id))
            except (ConnectionFailedError, OperationTimeoutError):
                return False
            return True

        eventually(is_started)
        return runs[0]

    def statuses(self, **query: Any) -> dict[str, str]:
        """Return the states of runs, by id."""
        return {run.id: run.status for run in self.app.workflow.find(limit=100_000, **query)}


@pytest.fixture
def set_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Scene]]:
    """What sets a scene at a Redis, with settings of `[workflow]` for all processes."""
    with ExitStack() as stack:

        def make(url: str, **settings: Any) -> Scene:
            folder = tmp_path / "scene"
            folder.mkdir()
            whole = {"name": "shop", "workflow": {"url": url, **QUICK, **settings}}
            (folder / "settings.json").write_text(json.dumps(whole))
            environment = {"CHAOS_FOLDER": str(folder), "PYTHONPATH": str(HERE)}
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
            monkeypatch.setattr(sys, "path", [str(HERE), *sys.path])
            sys.modules.pop("flow_app", None)
            flows = importlib.import_module("flow_app")
            app = Pilotis(whole, role="emit")
            stack.callback(app.close)
            command = [sys.executable, str(HERE / "flow_app.py")]
            crew = stack.enter_context(team(command, folder / "printed", environment))
            scene = Scene(url, folder, crew, app, flows)
            stack.callback(scene.journal.close)
            stack.callback(flows.journal.close)
            return scene

        yield make


@pytest.fixture
def make(redis_url: str) -> Iterator[Callable[..., RedisWorkflows]]:
    """Make providers, as in processes of their own; they are closed after the test."""
    made: list[RedisWorkflows] = []

    def make(url: str = redis_url, **options: Any) -> RedisWorkflows:
        made.append(RedisWorkflows(RedisWorkflowsOptions(url=url, **options)))
        return made[-1]

    yield make
    for provider in made:
        drive(provider.close())


@pytest.fixture
def store(make: Callable[..., RedisWorkflows]) -> RedisWorkflows:
    """A provider."""
    return make()
