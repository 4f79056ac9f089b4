"""The conformance suite of workflow providers, and `check_crashes` for workflows."""

from __future__ import annotations

from pilotis_testing.conformance import Conformance
from pilotis_testing.workflow_compensating import WorkflowCompensatingChecks
from pilotis_testing.workflow_crashes import acheck_crashes, check_crashes
from pilotis_testing.workflow_operating import WorkflowOperatingChecks
from pilotis_testing.workflow_provider import WorkflowProviderChecks
from pilotis_testing.workflow_recovering import WorkflowRecoveringChecks
from pilotis_testing.workflow_running import WorkflowRunningChecks
from pilotis_testing.workflow_waiting import WorkflowWaitingChecks

__all__ = ["WorkflowConformance", "acheck_crashes", "check_crashes"]


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
