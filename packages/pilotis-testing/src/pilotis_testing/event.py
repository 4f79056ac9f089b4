"""The conformance suite of event providers."""

from __future__ import annotations

import pytest

for _part in ("base", "delivering", "retrying", "timing", "ordering", "batching", "operating", "sharing"):
    pytest.register_assert_rewrite(f"pilotis_testing.event_{_part}")

from pilotis_testing.event_batching import BatchingTests  # noqa: E402 - assertions are rewritten first
from pilotis_testing.event_delivering import DeliveringTests  # noqa: E402
from pilotis_testing.event_operating import OperatingTests  # noqa: E402
from pilotis_testing.event_ordering import OrderingTests  # noqa: E402
from pilotis_testing.event_retrying import RetryingTests  # noqa: E402
from pilotis_testing.event_sharing import SharingTests  # noqa: E402
from pilotis_testing.event_timing import TimingTests  # noqa: E402

__all__ = ["EventConformance"]


class EventConformance(
    DeliveringTests, RetryingTests, TimingTests, OrderingTests, BatchingTests, OperatingTests, SharingTests
):
    """What every event provider must do. Needs one fixture: `provider`.

    Time is the fixture `clock`, and moves when a test advances it. Where the backend keeps its own time, `clock` is
    overridden with one whose `advance` moves that too, and `slack` says by how much it runs on by itself.

    A provider whose lanes are shared by processes overrides the fixture `another` with what makes the provider of
    one more process, and, where it has DURABLE, `die`, which ends one as a kill does.
    """
