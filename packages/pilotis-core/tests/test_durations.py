"""Durations."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilotis.durations import LONGEST, optional_seconds, seconds
from pilotis.errors import InvalidInputError


@given(st.floats(0, LONGEST) | st.integers(0, int(LONGEST)))
def test_numbers_are_seconds(value: float) -> None:
    """A number stands for itself, as a float."""
    assert value == seconds(value, "ttl")
    assert isinstance(seconds(value, "ttl"), float)


@given(st.timedeltas(timedelta(0), timedelta(days=36_500)))
def test_timedeltas_are_converted(value: timedelta) -> None:
    """A timedelta is its seconds."""
    assert value.total_seconds() == seconds(value, "ttl")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-1, "ttl: expected from 0 to 3.1536e+09 seconds, got -1"),
        (timedelta(seconds=-1), "ttl: expected from 0 to 3.1536e+09 seconds, got -1"),
        (1e12, "ttl: expected from 0 to 3.1536e+09 seconds, got 1e+12"),
        (math.nan, "ttl: expected a finite number of seconds, got nan"),
        (math.inf, "ttl: expected a finite number of seconds, got inf"),
        (-(10**400), "ttl: expected a finite number of seconds, got -inf"),
        (True, "ttl: expected seconds as a number, or a timedelta, got bool"),
        ("5", "ttl: expected seconds as a number, or a timedelta, got str"),
        (None, "ttl: expected seconds as a number, or a timedelta, got NoneType"),
    ],
)
def test_what_is_no_duration_is_refused(value: Any, message: str) -> None:
    """The error names the place and what was expected."""
    with pytest.raises(InvalidInputError) as caught:
        seconds(value, "ttl")
    assert message == str(caught.value)


def test_the_bounds_are_the_callers() -> None:
    """A caller may ask for more than zero, and for less than a hundred years."""
    assert seconds(5, "ttl", minimum=5, maximum=5) == 5.0
    with pytest.raises(InvalidInputError, match=r"expected from 1 to 10 seconds, got 0"):
        seconds(0, "ttl", minimum=1, maximum=10)


def test_none_is_allowed_where_it_is_optional() -> None:
    """None stays None; all else is checked the same way."""
    assert optional_seconds(None, "ttl") is None
    assert optional_seconds(timedelta(minutes=1), "ttl") == 60.0
    with pytest.raises(InvalidInputError, match=r"^ttl: expected from 1 "):
        optional_seconds(0, "ttl", minimum=1)
