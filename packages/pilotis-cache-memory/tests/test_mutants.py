"""The suite itself is tested: each provider that breaks an obligation fails the test of that obligation."""

from __future__ import annotations

import pytest
from pilotis_testing.cache import CacheConformance
from pilotis_testing.mutants import assert_caught

CAUGHT_BY = {
    "ForgetsTtl": "test_an_entry_ends_after_its_ttl",
    "TakesMonthsForDates": "test_a_ttl_may_be_short_or_long",
    "NormalisesKeys": "test_keys_and_tags_of_every_kind",
    "KeepsOldTtl": "test_writing_replaces_value_and_ttl",
    "IgnoresOnlyAbsent": "test_only_absent_leaves_what_is_there",
    "LooksThenWrites": "test_of_several_writers_at_once_one_stores",
    "SharesBuffers": "test_values_come_back_byte_for_byte",
    "ReadsInItsOwnOrder": "test_read_answers_in_the_order_of_keys",
    "TellsAtOnceWhatIsOver": "test_what_is_told_at_once_is_what_is_read",
    "ServesWhatIsOver": "test_an_entry_that_is_over_is_absent_for_every_verb",
    "CountsInTwoSteps": "test_count_is_atomic",
    "RenewsWhenCounting": "test_count_keeps_the_ttl_of_an_existing_number",
    "CountsWithText": "test_count_refuses_what_is_no_number",
    "CountsWhatItWasAsked": "test_remove_tells_how_many_there_were",
    "SearchesAnywhere": "test_remove_matching_matches_the_whole_key",
    "ReadsGlobs": "test_remove_matching_takes_all_else_literally",
    "ClearsTooMuch": "test_clear_touches_one_namespace",
    "Unbounded": "test_a_bounded_cache_evicts_the_least_recently_used",
    "EvictsTheNewest": "test_a_bounded_cache_evicts_the_least_recently_used",
    "ExpiresWhatIsAbsent": "test_expire_creates_nothing",
    "FoldsCase": "test_different_keys_are_different_entries",
    "DeclaresTooLittle": "test_a_bounded_cache_evicts_the_least_recently_used",
}


@pytest.mark.parametrize(("mutant", "test"), CAUGHT_BY.items())
def test_a_mutant_is_caught(pytester: pytest.Pytester, mutant: str, test: str) -> None:
    """Each fails the test of the obligation that it breaks."""
    assert_caught(pytester, CacheConformance, f"cache_mutants.{mutant}", test)
