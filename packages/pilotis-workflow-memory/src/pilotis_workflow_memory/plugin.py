"""What `pilotis.workflow` finds under the name `memory`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.hooks import hookimpl

if TYPE_CHECKING:
    from pilotis.providers import WorkflowProvider


@hookimpl
def pilotis_provider() -> type[WorkflowProvider]:
    """Return the provider class."""
    from pilotis_workflow_memory.provider import MemoryWorkflow

    return MemoryWorkflow
