"""The suite itself is tested: each provider that breaks an obligation fails the test of that obligation."""

from __future__ import annotations

import pytest
from pilotis_testing.locking import LockingConformance
from pilotis_testing.mutants import assert_caught

CAUGHT_BY = {
    "GrantsToAll": "test_a_held_key_is_refused_to_others",
    "ForgetsExpiry": "test_a_lease_ends_after_its_ttl",
    "RepeatsTokens": "test_tokens_grow_with_every_grant",
    "TakesPart": "test_several_keys_are_taken_all_or_none",
    "KeepsPartAfterWaiting": "test_a_wait_ends_in_time",
    "ReleasesByName": "test_release_checks_the_token",
    "AlwaysReleases": "test_releasing_twice_is_false",
    "Revives": "test_renewing_never_revives",
    "RenewsTheFirstOnly": "test_renewing_tells_of_each",
    "CutsShort": "test_extend",
    "FreesOthers": "test_release_all_frees_one_owner_alone",
    "CountsAgain": "test_the_same_owner_may_acquire_again",
    "FoldsCase": "test_different_keys_are_different_locks",
    "InspectsNothing": "test_inspect_tells_who_holds",
    "LeavesOrphans": "test_a_cancelled_acquire_leaves_no_lock",
    "LingersInQueues": "test_a_cancelled_waiter_leaves_nothing",
    "ServesTheLastFirst": "test_first_come_first_served",
    "LetsSharersPass": "test_sharers_queue_behind_a_waiter",
    "SuspendsAfterTheGrant": "test_a_cancelled_block_leaves_no_lock",
    "SuspendsBeforeTheRelease": "test_no_lock_is_left_at_any_wait",
    "SuspendsAfterThePermit": "test_no_permit_is_left_at_any_wait",
    "DeclaresTooMuch": "test_owners_need_the_capability",
    "GrantsPermitsToAll": "test_a_semaphore_has_so_many_permits",
    "TakesOnePermitTooMany": "test_never_more_than_the_permits",
    "CountsTheOwnerToo": "test_an_owner_has_one_permit",
    "CountsWhoWaitsForMoreTwice": "test_an_owner_who_waits_for_more_has_one_permit",
    "RemembersTheFirstBound": "test_each_request_has_its_own_bound",
    "LetsPermitsPass": "test_a_semaphore_excludes_who_wants_it_alone",
    "LetsInAfterTheFirst": "test_a_waiter_is_let_in_after_the_last_sharer",
    "SharesTokens": "test_sharers_have_tokens_of_their_own",
    "CountsOneHolder": "test_inspect_tells_of_sharers",
    "RenewsWhatIsLeft": "test_part_of_a_lease_may_be_released",
    "ReleasesAllOrNothing": "test_breaking_leaves_other_keys",
    "GivesUpWhatItHas": "test_an_owner_keeps_what_it_has_while_it_waits_for_more",
    "TakesAwayWhenCancelled": "test_a_cancelled_wait_for_more_takes_nothing_away",
    "CountsNobody": "test_inspect_counts_who_waits",
    "ListsEverything": "test_what_is_held_is_listed",
    "ListsByPattern": "test_what_is_held_is_listed",
    "ListsWithoutLimit": "test_a_list_is_limited",
    "ListsTheFirstKeys": "test_a_list_is_limited",
    "ListsUnsorted": "test_what_is_held_is_listed",
    "RemembersWhatItListed": "test_a_list_forgets_what_ran_out",
    "BreaksNothing": "test_a_broken_lock_is_free",
    "BreaksTheWholeLease": "test_breaking_leaves_other_keys",
    "BreaksOneOfMany": "test_a_shared_lock_is_taken_from_all",
    "BreaksAndTells": "test_leaving_a_block_tells_that_its_lock_was_broken",
    "IgnoresConnections": "test_a_transaction_needs_the_capability",
}


@pytest.mark.parametrize(("mutant", "test"), CAUGHT_BY.items())
def test_a_mutant_is_caught(pytester: pytest.Pytester, mutant: str, test: str) -> None:
    """Each fails the test of the obligation that it breaks."""
    assert_caught(pytester, LockingConformance, f"locking_mutants.{mutant}", test)
