"""The plain data behind the provider."""

from __future__ import annotations

from pilotis.providers import RunRecord
from pilotis_workflow_memory.store import TIMERS, Store


def test_timers_of_waits_that_ended_early_do_not_pile_up() -> None:
    """They would stay until they are due."""
    store = Store()
    run = RunRecord(id="r", name="n", version="1", input=b"", status="waiting", created=0, updated=0)
    entry = store.add(run)
    for due in range(3 * TIMERS):
        entry.due = float(due)
        store.set_timer(entry.due, "r", None)
        store.set_timer(float(due), "gone", None)
    assert len(store.timers) <= TIMERS
    assert ("r", 3 * TIMERS - 1) in {(id, due) for due, _, id, _ in store.timers}
