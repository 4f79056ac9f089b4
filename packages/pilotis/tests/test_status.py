"""What is wrong with lanes and runs, and what mends it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pilotis import Event, Pilotis, WorkflowFailedError, step, workflow
from pilotis.findings import Finding
from pilotis.modules.event import LaneInfo
from pilotis.modules.event.outlook import Outlook
from pilotis_testing import Colour, ManualClock
from pilotis_testing.colours import soon

NOW = 1_000_000.0
WELL = LaneInfo(
    lane="order.* mail", pattern="order.*", subscription="mail", paused=False, queued=0, held=0, delayed=0,
    next_due=None, in_flight=0, dead=0, emitted=0, succeeded=0, retried=0, died=0, readers=2,
)  # fmt: skip


def findings(*, declared: bool = True, **facts: Any) -> list[Finding]:
    lane = LaneInfo(**{field: getattr(WELL, field) for field in WELL.__struct_fields__} | facts)
    return list(Outlook(NOW, 60).findings(lane, declared=declared, died_at=None))


def test_a_lane_that_goes_on_is_no_finding() -> None:
    """Nor is one whose readers nobody can count, nor a lag within what is allowed."""
    assert (
        findings()
        == findings(readers=None, queued=5, oldest=60.0)
        == findings(queued=5, oldest=60.0)
        == findings(queued=1, oldest=3.0)
        == []
    )


@pytest.mark.parametrize(
    ("facts", "severity", "what", "mend"),
    [
        ({"readers": 0, "queued": 1, "oldest": 5.0}, "stuck", "has no live reader", "pilotis worker"),
        ({"readers": 0, "delayed": 1}, "stuck", "has no live reader", "pilotis events unsubscribe mail"),
        ({"readers": 0}, "warning", "has no live reader", "pilotis worker"),
        ({"readers": 0, "declared": False}, "warning", "is declared by nobody", "pilotis events unsubscribe mail"),
        ({"readers": 0, "declared": False, "held": 2}, "stuck", "has no live reader", "unsubscribe mail"),
        ({"paused": True, "queued": 3, "oldest": 99.0}, "warning", "is paused", "pilotis events resume mail"),
        ({"queued": 3, "oldest": 60.5}, "warning", "lags behind", "--processes"),
        ({"queued": 3, "oldest": 60.5, "readers": None}, "warning", "lags behind", "--processes"),
        ({"unit_disagrees": True}, "warning", "has readers that disagree", "ids"),
        ({"dead": 2}, "warning", "has dead letters", "pilotis events dead --subscription mail"),
    ],
)
def test_each_ill_is_found_with_its_remedy(facts: dict[str, Any], severity: str, what: str, mend: str) -> None:
    """One finding for one ill, and what does not go on by itself is called stuck."""
    [finding] = findings(**facts)
    assert (finding.module, finding.severity, finding.what) == ("event", severity, f"lane 'order.* mail' {what}")
    assert mend in finding.mend


def test_a_finding_tells_since_when() -> None:
    """As far as the lag tells."""
    [finding] = findings(readers=0, queued=7, oldest=90.0)
    assert (finding.since, "7 events wait" in finding.why) == (datetime.fromtimestamp(NOW - 90, UTC), True)


def test_a_lane_without_an_id_is_named_for_the_shell() -> None:
    """Its pattern might be taken for the names of files."""
    [finding] = findings(readers=0, declared=False, lane="order.*", subscription=None)
    assert finding.mend == "pilotis events unsubscribe 'order.*'"


# Whole apps


@step
def charge(order: str) -> str:
    """Fail."""
    raise ValueError("no money")


@workflow("status-order")
def place_order(order: str) -> str:
    """Fail, too."""
    return charge(order)


@pytest.fixture
def app(clock: ManualClock) -> Iterator[Pilotis]:
    """An app with a lane that can be paused, and one whose handler fails."""
    app = Pilotis({"event": "local", "workflow": "memory"}, clock=clock)
    app.event.on("order.placed", id="mail")(nothing)
    app.event.on("order.lost", id="search")(fail)
    app.include(place_order)
    yield app
    app.close()


def nothing(event: Event[Any]) -> None:
    """Handle nothing."""


def fail(event: Event[Any]) -> None:
    raise ValueError("nowhere to be found")


async def test_an_app_that_is_well_has_no_findings(app: Pilotis, colour: Colour) -> None:
    """Whether or not it was opened."""
    assert await colour.voice(app).status() == []


async def test_an_app_tells_of_all_its_modules(app: Pilotis, colour: Colour) -> None:
    """What is paused with something waiting, what died and when, which runs failed."""
    bus, engine = colour.voice(app.event), colour.voice(app.workflow)
    await bus.pause("mail")
    await bus.emit("order.placed", 1)
    await bus.emit("order.lost", 2)
    run = await engine.start(place_order, "7", id="run-7")
    await soon(lambda: bool(app.event.tally.get("dead")))
    with pytest.raises(WorkflowFailedError):
        await run.result(20)
    found = {finding.what: finding for finding in await colour.voice(app).status()}
    assert set(found) == {
        "lane 'order.placed mail' is paused",
        "lane 'order.lost search' has dead letters",
        "runs of 'status-order' failed",
    }
    assert found["lane 'order.lost search' has dead letters"].since is not None
    run = found["runs of 'status-order' failed"]
    assert (run.mend, "no money" in run.why) == (
        "pilotis workflows show, then pilotis workflows retry run-7",
        True,
    )


async def test_a_backend_that_cannot_be_used_is_found_first(colour: Colour, tmp_path: Path) -> None:
    """The others are still asked."""
    (tmp_path / "no-folder").touch()
    app = Pilotis({"name": "shop", "event": "local", "file": {"root": str(tmp_path / "no-folder" / "files")}})
    app.event.on("a", id="mail")(fail)
    bus = colour.voice(app.event)
    await bus.pause("mail")
    await bus.emit("a", 1)
    first, second = await colour.voice(app).status()
    await colour.voice(app).close()
    assert (first.module, first.severity, first.what) == ("file", "stuck", "the backend of file cannot be used")
    assert "no-folder" in first.why
    assert (second.module, second.severity) == ("event", "warning")
