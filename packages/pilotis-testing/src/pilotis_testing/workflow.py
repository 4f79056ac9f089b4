"""The conformance suite of workflow providers."""

from __future__ import annotations

from pilotis_testing.conformance import Conformance
from pilotis_testing.workflow_compensating import WorkflowCompensatingChecks
from pilotis_testing.workflow_operating import WorkflowOperatingChecks
from pilotis_testing.workflow_provider import WorkflowProviderChecks
from pilotis_testing.workflow_recovering import WorkflowRecoveringChecks
from pilotis_testing.workflow_running import WorkflowRunningChecks
from pilotis_testing.workflow_waiting import WorkflowWaitingChecks


class WorkflowConformance(
    WorkflowProviderChecks,
    WorkflowRunningChecks,
    WorkflowWaitingChecks,
    WorkflowCompensatingChecks,
    WorkflowRecoveringChecks,
    WorkflowOperatingChecks,
    Conformance,
):
    """What every workflow provider owes: its verbs one by one, and what the engine makes of them."""
