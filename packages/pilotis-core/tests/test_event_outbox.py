"""What an outbox keeps of an event and of a run, and which connections it writes through."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from pilotis.errors import InvalidInputError
from pilotis.modules.event.connections import as_callers
from pilotis.modules.event.provider import OutgoingEvent
from pilotis.modules.event.rows import event_of, event_row, run_of, run_row
from pilotis.modules.workflow.model import RunRecord
from pilotis.providers import driver_error

EVENT = OutgoingEvent("id", "order.placed", b'{"v":1,"at":1.5,"data":"\\u0000 \xc3\xa9"}', 0.0, "high", None, "d", 60.0)


@pytest.mark.parametrize(
    "event",
    [EVENT, replace(EVENT, key="k", priority="normal"), replace(EVENT, dedupe=None, dedupe_ttl=0.0, priority="low")],
)
def test_an_event_comes_back_as_it_was(event: OutgoingEvent) -> None:
    """With all of its options; its id is one that others know by then."""
    assert replace(event, generated=False) == event_of(event_row(replace(event, generated=True), 10.0), 10.0)


@pytest.mark.parametrize(("later", "left"), [(0.0, 30.0), (10.0, 20.0), (40.0, 0.0)])
def test_what_is_left_of_a_delay(later: float, left: float) -> None:
    """It counts from the time of writing, and is over at some time."""
    assert left == event_of(event_row(replace(EVENT, delay=30.0), 100.0), 100.0 + later).delay


def test_a_run_comes_back_as_it_was() -> None:
    """With the instance that it is for."""
    run = RunRecord(
        id="r", name="flow", version="1", origin="", input=b"[1]", status="pending", created=1.0, updated=1.0
    )
    row = run_row(run, "sagas")
    assert ("run", "r", "flow", None) == (row.kind, row.id, row.name, row.key)
    assert ("sagas", run) == run_of(row)


def test_what_a_newer_version_wrote_is_no_event() -> None:
    """It is told apart by its version, and left to that one."""
    row = event_row(EVENT, 0.0)
    with pytest.raises(msgspec.ValidationError):
        event_of(replace(row, body=row.body.replace('"v":1', '"v":2', 1)), 0.0)


@pytest.mark.parametrize("connection", [None, "sqlite:///shop.db", object()])
def test_what_is_no_connection_is_refused(connection: Any) -> None:
    """The error lists what could be given."""
    with pytest.raises(InvalidInputError, match=r"connection: expected sqlite3\.Connection, psycopg"):
        as_callers(connection)


def test_an_error_that_wraps_nothing_is_the_drivers() -> None:
    """What SQLAlchemy wraps is told by `orig`."""
    plain = ValueError("plain")
    assert plain is driver_error(plain)
    wrapped: Any = RuntimeError("wrapped")
    wrapped.orig = plain
    assert plain is driver_error(wrapped)
