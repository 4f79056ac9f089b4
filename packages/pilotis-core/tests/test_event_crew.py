"""How much those who work on a subscription keep at hand, and how their failures are judged."""

from __future__ import annotations

from typing import Any

import pytest
from pilotis.modules.event import RetryLater
from pilotis.modules.event.crew import Crew
from pilotis.modules.event.declaring import HandlerOptions, Subscribing
from pilotis.modules.event.judging import MOST_ERROR, MOST_TRACEBACK, judge
from pilotis.modules.event.subscriptions import Handler, Subscription
from pilotis.providers import Delivery
from pilotis.settings.model import EventSettings


def subscription(settings: EventSettings | None = None, **options: Any) -> Subscription:
    stated = HandlerOptions(**options)
    return Subscription(Subscribing("a", "a", print, stated), [Handler(print)], stated, settings or EventSettings())


def delivery(id: int = 1, body: bytes = b'{"v":1,"at":1,"data":1}') -> Delivery:
    return Delivery("a a", str(id), str(id), "a", body, 1)


def run_one(crew: Crew) -> None:
    assert crew.next()
    crew.done()


@pytest.mark.parametrize(("concurrency", "kept"), [(1, 3), (5, 5)])
def test_a_crew_that_became_slow_gives_back_what_would_wait_for_long(concurrency: int, kept: int) -> None:
    """The last that it took on; it keeps as many as it handled since it was asked last, or can begin at once."""
    crew = Crew(subscription(concurrency=concurrency), begin=lambda _: None, hungry=lambda: None)
    came = [delivery(id) for id in range(20)]
    crew.add(came)
    assert came[concurrency:] == crew.stuck()
    crew.clear()
    crew.add(came)
    for _ in range(3):
        run_one(crew)
    assert came[3 + kept :] == crew.stuck()


@pytest.mark.parametrize(("max_crashes", "is_ahead"), [(3, True), (1, False)])
def test_quick_handlers_have_more_at_hand_unless_a_crash_would_end_it_all(max_crashes: int, is_ahead: bool) -> None:
    """What is at hand when a process dies has one chance less, also what nobody had begun."""
    crew = Crew(
        subscription(EventSettings(max_crashes=max_crashes), concurrency=2),
        begin=lambda _: None,
        hungry=lambda: None,
    )
    most = 0
    for _ in range(50):
        crew.add([delivery(id) for id in range(1_000)])
        for _ in range(1_000):
            run_one(crew)
        most = max(most, crew.free())
    assert is_ahead == (most > 2)


def test_what_a_newer_version_says_of_retries_is_a_dead_letter_at_once() -> None:
    """Options that cannot be read would else be tried again for ever."""
    for error in (ValueError("no"), RetryLater(1)):
        judged = judge(subscription(attempts=9), delivery(body=b'{"v":1,"at":1,"data":1,"attempts":"x"}'), [error])
        assert ("dead", "mismatch") == (judged.outcome.verdict, judged.outcome.cause)
        assert "attempts: expected int" in judged.outcome.error


def test_what_an_error_quotes_is_kept_at_its_ends() -> None:
    """A dead letter is no place for all that a handler was given."""
    outcome = judge(subscription(), delivery(), [ValueError("first" + "x" * 5_000_000 + "last")]).outcome
    assert outcome.error.startswith("ValueError: first")
    assert outcome.error.endswith("last")
    assert "are left out here" in outcome.error
    assert len(outcome.error) < MOST_ERROR + 100
    assert len(outcome.traceback) < MOST_TRACEBACK + 100
