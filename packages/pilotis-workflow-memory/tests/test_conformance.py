"""The in-memory provider keeps what workflow providers owe."""

from __future__ import annotations

import pytest
from pilotis_testing.workflow import WorkflowConformance
from pilotis_workflow_memory import MemoryWorkflow


class TestMemoryWorkflow(WorkflowConformance):
    """The suite."""

    @pytest.fixture
    def provider(self) -> MemoryWorkflow:
        """A provider with no runs."""
        return MemoryWorkflow()
