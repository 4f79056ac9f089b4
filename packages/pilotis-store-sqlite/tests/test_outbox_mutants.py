"""The conformance suite of outboxes catches each one that breaks an obligation."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from pilotis_testing.mutants import assert_caught

CAUGHT_BY = {
    "WritesOnItsOwn": "test_what_is_rolled_back_never_was",
    "LosesKeys": "test_a_key_is_in_one_relays_hands",
    "LosesBodies": "test_what_is_committed_is_handed_over_once",
    "IgnoresTheLimit": "test_a_claim_is_limited",
    "MixesBuses": "test_buses_are_apart",
    "TakesAnyKind": "test_a_relay_takes_the_kinds_it_names",
    "CallsForNothing": "test_what_is_committed_is_handed_over_once",
    "HandsOverBackwards": "test_a_claim_is_limited",
    "LooksWithoutClaiming": "test_two_relays_never_have_the_same_row",
    "ClaimsOneOfAKey": "test_a_whole_key_can_be_claimed_at_once",
    "RetriesAtOnce": "test_a_row_that_is_due_later_holds_up_its_key",
    "CountsWhatIsKept": "test_an_attempt_in_vain_is_counted",
    "CountsNoAttempts": "test_an_attempt_in_vain_is_counted",
    "DropsWhatIsSetAside": "test_what_is_set_aside_holds_up_nobody",
    "SetsNothingAside": "test_what_is_set_aside_holds_up_nobody",
    "ForgetsErrors": "test_what_is_set_aside_holds_up_nobody",
    "RetriesEverything": "test_what_is_set_aside_holds_up_nobody",
    "DiscardsEverything": "test_what_is_set_aside_can_be_removed",
    "SwallowsErrors": "test_a_failure_leaves_rows_as_they_were",
    "KeepsWhatFailed": "test_being_cancelled_leaves_rows_as_they_were",
    "WaitsSinceEver": "test_status_tells_how_long_the_first_has_waited",
    "CountsWrong": "test_a_row_that_is_due_later_holds_up_its_key",
    "AlwaysMakesSomething": "test_migrating_again_changes_nothing",
}


@pytest.mark.parametrize(("mutant", "test"), CAUGHT_BY.items())
def test_a_mutant_is_caught(pytester: pytest.Pytester, mutant: str, test: str) -> None:
    """Each fails the test of the obligation that it breaks."""
    pytester.syspathinsert(Path(__file__).parent)
    suite = importlib.import_module("outbox_mutants").Suite
    assert_caught(
        pytester,
        suite,
        f"outbox_mutants.{mutant}",
        test,
        fixtures="tmp_path",
        arguments="Mutant.Options(url=f'sqlite:///{tmp_path}/shop.db')",
    )
