"""The conformance suite of ledgers catches each one that breaks an obligation."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from pilotis_testing.ledger import LedgerConformance
from pilotis_testing.mutants import assert_caught

MUTANTS = {
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


@pytest.mark.parametrize(("mutant", "test"), MUTANTS.items())
def test_each_mutant_is_caught(pytester: pytest.Pytester, mutant: str, test: str) -> None:
    """By the test that names its obligation."""
    pytester.syspathinsert(Path(__file__).parent)
    mutants = importlib.import_module("notification_ledger_mutants")
    assert_caught(pytester, LedgerConformance, getattr(mutants, mutant), test)
