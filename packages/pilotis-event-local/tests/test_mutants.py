"""The event suite catches providers that break an obligation."""

from __future__ import annotations

import pytest
from pilotis_testing.event import EventConformance
from pilotis_testing.mutants import assert_caught

CAUGHT_BY = [
    ("ForgetsDelay", "test_delayed_events_come_in_the_order_of_their_time"),
    ("ForgetsPriority", "test_high_comes_before_normal_before_low"),
    ("ForgetsKeys", "test_a_key_waits_for_its_first_event_until_that_is_over"),
    ("ForgetsIds", "test_an_id_is_taken_once_a_day"),
    ("RemembersIdsForEver", "test_an_id_is_taken_once_a_day"),
    ("SettlesTwice", "test_a_delivery_is_settled_once"),
    ("LosesWhatIsGivenBack", "test_closing_gives_back_what_was_not_done"),
    ("CountsEveryRetry", "test_a_retry_counts_unless_it_does_not"),
    ("IgnoresCapacity", "test_receive_hands_out_no_more_than_is_asked_for"),
    ("IgnoresPauses", "test_a_paused_lane_hands_out_nothing"),
    ("ReplaysForEver", "test_replay_puts_dead_letters_back_once"),
    ("ReleasesTwice", "test_a_group_is_released_together"),
    ("ClearsWholeGroups", "test_a_group_is_cleared"),
    ("PurgesWhatIsReady", "test_purging_drops_what_waits"),
    ("ForgetsOnDeclaring", "test_declaring_again_changes_nothing"),
    ("RoutesStalely", "test_a_lane_that_is_declared_later_gets_later_events"),
    ("SleepsOn", "test_receive_is_woken_by_an_emit"),
    ("CountsNothing", "test_lanes_tell_how_they_are_doing"),
    ("DeclaresWithoutAnswer", "test_declaring_answers_with_what_was_known"),
    ("DeclaresWithoutAnswer", "test_all_lanes_are_declared_in_any_role"),
    ("ForgetsNothing", "test_a_subscription_is_forgotten_for_good"),
    ("KnowsNoLag", "test_lanes_tell_their_lag"),
    ("CountsNoDeliveries", "test_what_is_handed_out_is_counted"),
    ("SettlesTwice", "test_a_bus_goes_on_after_what_it_settled_in_vain"),
    ("TailsNothing", "test_events_can_be_looked_at_as_they_are_emitted"),
    ("KnowsNoBeginnings", "test_a_dead_letter_tells_its_story"),
    ("KnowsNoBeginnings", "test_what_is_put_off_has_not_failed"),
    ("BlamesWhatIsPutOff", "test_what_is_put_off_has_not_failed"),
    ("ReplaysForEver", "test_replaying_side_by_side_puts_letters_back_once"),
    ("KeepsAttempts", "test_what_is_replayed_may_die_again"),
    ("RoundsDelays", "test_each_wait_is_that_of_the_backoff"),
    ("HurriesRetries", "test_jitter_stays_within_its_bounds"),
    ("CountsEveryRetry", "test_each_event_of_a_batch_may_end_in_its_own_way"),
    ("ForgetsKeys", "test_a_batch_holds_one_event_of_a_key"),
    ("LetsRetriesBeOvertaken", "test_a_key_is_handled_in_order_by_several_processes"),
    ("TakesInTwice", "test_processes_share_the_work"),
    ("ForgetsIds", "test_a_periodic_event_is_emitted_once_for_all"),
    ("GuessesReaders", "test_lanes_tell_who_reads_them"),
]


@pytest.mark.parametrize(("mutant", "test"), CAUGHT_BY)
def test_a_mutant_is_caught(pytester: pytest.Pytester, mutant: str, test: str) -> None:
    """Each fails the test of the obligation that it breaks."""
    assert_caught(pytester, EventConformance, f"event_mutants.{mutant}", test)
