"""What a worker knows of lanes, and does not forget."""

from __future__ import annotations

from pilotis_redis.lanes.outlook import Outlook
from pilotis_redis.lanes.taking import Answer

EMPTY = Answer(taken=[], is_paused=False, next_due=60.0, may_have_more=False)


def test_what_is_heard_of_a_lane_while_it_is_asked_is_not_lost() -> None:
    """Its answer may be older than the news; without any, it is not asked again before something is due."""
    outlook = Outlook()
    wanted = {"a": 1, "b": 1}
    assert wanted == outlook.to_ask(wanted)
    outlook.heat(["a"])
    for lane in wanted:
        outlook.note(lane, EMPTY)
    assert {"a": 1} == outlook.to_ask(wanted)
    outlook.note("a", EMPTY)
    assert {} == outlook.to_ask(wanted)
