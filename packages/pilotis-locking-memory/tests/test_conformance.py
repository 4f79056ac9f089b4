"""The memory provider does what every locking provider must do."""

from __future__ import annotations

import pytest
from pilotis_locking_memory import MemoryLocking
from pilotis_testing.locking import LockingConformance


class TestMemoryLocking(LockingConformance):
    races = 1000

    @pytest.fixture
    def provider(self) -> MemoryLocking:
        return MemoryLocking()
