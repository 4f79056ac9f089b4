"""The conformance suite of locking providers."""

from __future__ import annotations

import pytest

for _part in ("base", "grants", "waiting", "leases", "sharing", "operating", "leading", "cancelling"):
    pytest.register_assert_rewrite(f"pilotis_testing.locking_{_part}")

from pilotis_testing.locking_cancelling import CancellingTests  # noqa: E402 - assertions are rewritten first
from pilotis_testing.locking_grants import GrantTests  # noqa: E402
from pilotis_testing.locking_leading import LeadingTests  # noqa: E402
from pilotis_testing.locking_leases import LeaseTests  # noqa: E402
from pilotis_testing.locking_operating import OperatingTests  # noqa: E402
from pilotis_testing.locking_sharing import SharingTests  # noqa: E402
from pilotis_testing.locking_waiting import WaitingTests  # noqa: E402

__all__ = ["LockingConformance"]


class LockingConformance(
    GrantTests, WaitingTests, LeaseTests, SharingTests, OperatingTests, LeadingTests, CancellingTests
):
    """What every locking provider must do. Needs one fixture: `provider`.

    Time is the fixture `clock`, and moves when a test advances it. Where the backend keeps its own time, override
    `clock` by one whose `advance` makes what the backend holds older as well, and wakes who waits for it to run out;
    its `waiting` has to count those who wait in the backend.
    """
