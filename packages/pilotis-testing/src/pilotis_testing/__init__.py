"""Conformance suites for providers, and what tests of applications need: a controllable clock, both colours."""

from __future__ import annotations

import pytest

for _suite in ("cache", "event", "file", "locking", "notification", "workflow", "conformance", "mutants"):
    pytest.register_assert_rewrite(f"pilotis_testing.{_suite}")

from pilotis_testing.clock import ManualClock  # noqa: E402 - assertions are rewritten first
from pilotis_testing.colours import Colour  # noqa: E402

__all__ = ["Colour", "ManualClock"]
