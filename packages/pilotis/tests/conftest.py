"""What the tests of the command line share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import pytest
from typer.testing import CliRunner

SHOP = """
from pilotis import Backoff, Event, Pilotis, step, workflow
from pilotis_event_local import LocalEvents
from pilotis_locking_memory import MemoryLocking
from pilotis_workflow_memory import MemoryWorkflow

app = Pilotis({"event": LocalEvents(), "locking": MemoryLocking(), "workflow": MemoryWorkflow()})
handled = []

@app.event.on("order.placed", id="confirm")
def confirm(event: Event[dict[str, int]]) -> None:
    handled.append(event.data)
    raise ValueError("no address")

@step
def charge(order: str) -> str:
    return f"paid {order}"

@workflow("place-order")
def place_order(order: str) -> str:
    charge(order)
    return workflow.wait_for("approval", type=str)

app.include(place_order)
"""


class Ended(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document that was printed."""
        return msgspec.json.decode(self.out)


Cli = Callable[..., Ended]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Run in a directory without settings, and forget afterwards what was imported from there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("PILOTIS_APP", raising=False)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def cli(elsewhere: Path) -> Cli:
    """Return what runs a command in this process."""
    from pilotis.cli.program import program

    def run(*arguments: str, stdin: str | None = None) -> Ended:
        result = CliRunner().invoke(program, [*arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ended(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def shop(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Return an imported app module, `shop`, which `PILOTIS_APP` names."""
    import importlib

    (elsewhere / "shop.py").write_text(SHOP)
    sys.path.insert(0, str(elsewhere))
    monkeypatch.setenv("PILOTIS_APP", "shop:app")
    module = importlib.import_module("shop")
    yield module
    module.app.close()
