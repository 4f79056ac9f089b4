"""The Redis workflow provider of Pilotis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.faces import lazily

if TYPE_CHECKING:
    from pilotis_workflow_redis.options import RedisWorkflowsOptions
    from pilotis_workflow_redis.provider import RedisWorkflows

__all__ = ["RedisWorkflows", "RedisWorkflowsOptions"]

__getattr__ = lazily(
    globals(),
    {
        "pilotis_workflow_redis.options": "RedisWorkflowsOptions",
        "pilotis_workflow_redis.provider": "RedisWorkflows",
    },
)
