"""The conformance suite of ledgers catches each one that breaks an obligation."""

from __future__ import annotations

import pytest
from pilotis_testing.ledger import LedgerConformance
from pilotis_testing.mutants import assert_caught

CAUGHT_BY = {
    "KnowsNoKeys": "test_a_key_belongs_to_whoever_came_first",
    "SharesTheMissingKey": "test_entries_without_a_key_are_all_written",
    "LooksThenWrites": "test_of_concurrent_callers_one_gets_the_key",
    "LosesBytes": "test_an_entry_comes_back_as_it_was",
    "LeavesOutGaps": "test_an_entry_comes_back_as_it_was",
    "IgnoresVersions": "test_of_concurrent_changes_one_is_made",
    "WritesUnknownEntries": "test_only_the_next_version_replaces",
    "ReplacesAllOrNone": "test_only_the_next_version_replaces",
    "FindsOldestFirst": "test_find_is_newest_first_and_limited",
    "FindsAll": "test_find_is_newest_first_and_limited",
    "ForgetsTheResource": "test_find_by_every_filter",
    "SinceIsAfter": "test_find_by_every_filter",
    "TrustsTheStatus": "test_an_ended_lease_is_unknown",
}


@pytest.mark.parametrize(("mutant", "test"), CAUGHT_BY.items())
def test_a_mutant_is_caught(pytester: pytest.Pytester, mutant: str, test: str) -> None:
    """Each fails the test of the obligation that it breaks."""
    assert_caught(pytester, LedgerConformance, f"notification_ledger_mutants.{mutant}", test)
