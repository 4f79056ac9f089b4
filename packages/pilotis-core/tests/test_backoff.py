"""How long to wait before trying again."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilotis.backoff import Backoff
from pilotis.codec import JSON, MESSAGEPACK
from pilotis.durations import LONGEST
from pilotis.errors import InvalidInputError, TypeMismatchError

backoffs = st.builds(
    Backoff.exponential,
    st.floats(0, 100),
    factor=st.floats(1, 1e6),
    maximum=st.floats(100, LONGEST),
    jitter=st.floats(0, 1),
)
attempts = st.integers(1, 100_000)


def test_fixed_always_waits_the_same() -> None:
    """Each wait is the delay."""
    assert [Backoff.fixed(timedelta(seconds=5)).delay(attempt) for attempt in (1, 2, 10_000)] == [5.0, 5.0, 5.0]


def test_exponential_grows_from_the_first_failure_to_the_maximum() -> None:
    """The first wait is `first`, each next is `factor` times as long, none is over the maximum."""
    backoff = Backoff.exponential(1, factor=2, maximum=60)
    assert [backoff.delay(attempt) for attempt in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


@given(backoffs, attempts)
def test_a_wait_stays_in_its_bounds_without_overflow(backoff: Backoff, attempt: int) -> None:
    """No attempt waits less than nothing or more than the maximum, and none overflows."""
    assert 0 <= backoff.delay(attempt) <= backoff.maximum


@given(backoffs, attempts, st.floats(0, 1))
def test_jitter_spreads_evenly_around_the_wait(backoff: Backoff, attempt: int, chance: float) -> None:
    """Chance 0, half and 1 are the lowest, the middle and the highest wait; the maximum holds in any case."""
    middle = backoff.delay(attempt, lambda: 0.5)
    low, high = middle * (1 - backoff.jitter), min(middle * (1 + backoff.jitter), backoff.maximum)
    wait = backoff.delay(attempt, lambda: chance)
    assert wait == pytest.approx(min(low + (middle * (1 + backoff.jitter) - low) * chance, high))


def test_nothing_to_wait_stays_nothing() -> None:
    """A first wait of zero is zero for every attempt."""
    assert Backoff.exponential(0, factor=10).delay(10_000) == 0.0


@pytest.mark.parametrize("codec", [JSON, MESSAGEPACK], ids=["json", "messagepack"])
@given(backoff=backoffs)
def test_a_backoff_travels_in_messages(codec: Any, backoff: Backoff) -> None:
    """It comes back equal from both formats."""
    assert backoff == codec.decode(codec.encode(backoff), Backoff)


def test_a_damaged_backoff_is_a_mismatch() -> None:
    """What a message holds is checked as well."""
    with pytest.raises(TypeMismatchError, match="expected from 0 to"):
        JSON.decode(b'{"first": -1}', Backoff)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Backoff.fixed(-1), "backoff.delay: expected from 0 to"),
        (lambda: Backoff.exponential(math.nan), "backoff.first: expected a finite number"),
        (lambda: Backoff.exponential(1, factor=0.5), "backoff.factor: expected a finite number from 1 to inf, got 0.5"),
        (lambda: Backoff.exponential(1, factor=math.inf), "backoff.factor: expected a finite number"),
        (lambda: Backoff.exponential(10, maximum=5), "backoff.maximum: expected from 10 to"),
        (lambda: Backoff.exponential(1, jitter=1.5), "backoff.jitter: expected a finite number from 0 to 1, got 1.5"),
        (lambda: Backoff.fixed(1, jitter="much"), "backoff.jitter: expected a number, got str"),  # pyright: ignore[reportArgumentType]
        (lambda: Backoff.fixed(1).delay(0), "attempt: expected 1 or more, got 0"),
    ],
)
def test_what_cannot_work_is_refused(make: Any, message: str) -> None:
    """The error names the part and what was expected."""
    with pytest.raises(InvalidInputError) as caught:
        make()
    assert str(caught.value).startswith(message)
