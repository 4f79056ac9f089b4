"""The entry point: found by discovery, imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.providers import hookimpl

if TYPE_CHECKING:
    from pilotis.providers import WorkflowProvider


@hookimpl
def pilotis_provider() -> type[WorkflowProvider]:
    """Return the provider class."""
    from pilotis_workflow_redis.provider import RedisWorkflows

    return RedisWorkflows
