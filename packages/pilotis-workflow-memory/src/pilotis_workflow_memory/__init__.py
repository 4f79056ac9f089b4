"""The in-memory workflow provider of Pilotis."""

from __future__ import annotations

from pilotis_workflow_memory.provider import MemoryWorkflow

__all__ = ["MemoryWorkflow"]
