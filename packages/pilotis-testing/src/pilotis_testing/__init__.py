"""Conformance suites for providers, and what tests of applications need: a controllable clock, both colours."""

from __future__ import annotations

import pkgutil

import pytest

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    pytest.register_assert_rewrite(_module.name)

from pilotis_testing.clock import ManualClock  # noqa: E402 - assertions are rewritten first
from pilotis_testing.colours import Colour  # noqa: E402

__all__ = ["Colour", "ManualClock"]
