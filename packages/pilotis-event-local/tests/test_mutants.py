"""The event suite catches providers that break an obligation."""

from __future__ import annotations

import pytest
from pilotis_testing.event import EventConformance
from pilotis_testing.mutants import assert_caught

CAUGHT_BY = {
    "ForgetsDelay": "test_delayed_events_come_in_the_order_of_their_time",
    "ForgetsPriority": "test_high_comes_before_normal_before_low",
    "ForgetsKeys": "test_a_key_waits_for_its_first_event_until_that_is_over",
    "ForgetsIds": "test_an_id_is_taken_once_a_day",
    "RemembersIdsForEver": "test_an_id_is_taken_once_a_day",
    "SettlesTwice": "test_a_delivery_is_settled_once",
    "LosesWhatIsGivenBack": "test_closing_gives_back_what_was_not_done",
    "CountsEveryRetry": "test_a_retry_counts_unless_it_does_not",
    "IgnoresCapacity": "test_receive_hands_out_no_more_than_is_asked_for",
    "IgnoresPauses": "test_a_paused_lane_hands_out_nothing",
    "ReplaysForEver": "test_replay_puts_dead_letters_back_once",
    "ReleasesTwice": "test_a_group_is_released_together",
    "ClearsWholeGroups": "test_a_group_is_cleared",
    "PurgesWhatIsReady": "test_purging_drops_what_waits",
    "ForgetsOnDeclaring": "test_declaring_again_changes_nothing",
    "RoutesStalely": "test_a_lane_that_is_declared_later_gets_later_events",
    "SleepsOn": "test_receive_is_woken_by_an_emit",
    "CountsNothing": "test_lanes_tell_how_they_are_doing",
}


@pytest.mark.parametrize(("mutant", "test"), CAUGHT_BY.items())
def test_a_mutant_is_caught(pytester: pytest.Pytester, mutant: str, test: str) -> None:
    """Each fails the test of the obligation that it breaks."""
    assert_caught(pytester, EventConformance, f"event_mutants.{mutant}", test)
