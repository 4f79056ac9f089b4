"""The suite finds providers that break their obligations."""

from __future__ import annotations

import pytest
from pilotis_testing.mutants import assert_caught
from pilotis_testing.workflow import WorkflowConformance

CAUGHT_BY = {
    "StartsTwice": "test_start_of_a_used_id_returns_the_run_there",
    "ClaimsAnything": "test_claim_leaves_unknown_workflows",
    "NeverFences": "test_a_stale_epoch_is_refused",
    "LosesEarlySignals": "test_park_takes_a_letter_that_is_there",
    "SignalsEveryWait": "test_one_signal_ends_one_wait",
    "ForgetsDedupe": "test_a_signal_is_taken_once_by_its_id",
    "FiresEarly": "test_fire_ends_what_is_due",
    "OverwritesAnswers": "test_the_first_to_end_a_wait_wins",
    "RemovesLiving": "test_retention_removes_ended_runs_only",
    "KeepsTheEpoch": "test_compensating_raises_the_epoch",
    "ParksCancelled": "test_park_of_a_cancelled_run_keeps_it",
    "RewindsNothing": "test_rewind_sets_a_run_going_again",
    "FiresAgain": "test_a_fire_is_used_up_by_the_first",
    "TellsNoParent": "test_the_end_of_a_child_is_told_its_parent",
    "ListsTheOldestFirst": "test_find_lists_the_newest_first",
    "TellsTwice": "test_notices_tell_of_every_state",
}


@pytest.mark.parametrize(("mutant", "test"), CAUGHT_BY.items())
def test_a_mutant_is_caught(pytester: pytest.Pytester, mutant: str, test: str) -> None:
    """Each fails the test of the obligation that it breaks."""
    assert_caught(pytester, WorkflowConformance, f"workflow_mutants.{mutant}", test)
