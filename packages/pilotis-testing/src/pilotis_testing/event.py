"""The conformance suite of event providers."""

from __future__ import annotations

import pytest

for _part in ("base", "delivering", "retrying", "ordering"):
    pytest.register_assert_rewrite(f"pilotis_testing.event_{_part}")

from pilotis_testing.event_delivering import DeliveringTests  # noqa: E402 - assertions are rewritten first
from pilotis_testing.event_ordering import OrderingTests  # noqa: E402
from pilotis_testing.event_retrying import RetryingTests  # noqa: E402

__all__ = ["EventConformance"]


class EventConformance(DeliveringTests, RetryingTests, OrderingTests):
    """What every event provider must do. Needs one fixture: `provider`.

    Time is the fixture `clock`, and moves when a test advances it. A provider whose backend keeps its own time
    overrides `clock` with one whose `advance` sleeps.
    """
