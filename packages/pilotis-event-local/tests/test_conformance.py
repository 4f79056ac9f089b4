"""The local provider does what every event provider must do."""

from __future__ import annotations

import pytest
from pilotis_event_local import LocalEvents
from pilotis_testing.event import EventConformance


class TestLocalEvents(EventConformance):
    """The suite."""

    @pytest.fixture
    def provider(self) -> LocalEvents:
        """Lanes in memory."""
        return LocalEvents()
