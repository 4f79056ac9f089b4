"""Durable functions: workflows whose steps are recorded, and that go on after a crash where they stopped."""

from __future__ import annotations

from pilotis.modules.workflow.decorators import Bound, Step, step
from pilotis.modules.workflow.faults import PermanentError
from pilotis.modules.workflow.flows import Flow
from pilotis.modules.workflow.model import RunInfo, RunStatus, StepInfo
from pilotis.modules.workflow.portable import WorkflowEngine
from pilotis.modules.workflow.runs import Run
from pilotis.modules.workflow.space import Child, workflow

__all__ = [
    "Bound",
    "Child",
    "Flow",
    "PermanentError",
    "Run",
    "RunInfo",
    "RunStatus",
    "Step",
    "StepInfo",
    "WorkflowEngine",
    "step",
    "workflow",
]
