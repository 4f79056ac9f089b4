"""The conformance suite of locking providers."""

from __future__ import annotations

import pytest

for _part in ("base", "grants", "waiting", "leases"):
    pytest.register_assert_rewrite(f"pilotis_testing.locking_{_part}")

from pilotis_testing.locking_grants import GrantTests  # noqa: E402 - assertions are rewritten first
from pilotis_testing.locking_leases import LeaseTests  # noqa: E402
from pilotis_testing.locking_waiting import WaitingTests  # noqa: E402

__all__ = ["LockingConformance"]


class LockingConformance(GrantTests, WaitingTests, LeaseTests):
    """What every locking provider must do. Needs one fixture: `provider`.

    Time is the fixture `clock`, and moves when a test advances it. A provider whose backend keeps its own time
    overrides `clock` with one whose `advance` sleeps; durations are short enough for that.
    """
