"""Lanes: reliable queues in Redis. docs/design/lanes.md says how they work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.faces import lazily

if TYPE_CHECKING:
    from pilotis_redis.lanes.entry import Head, Letter, Push, Pushed, Taken, WorkerInfo
    from pilotis_redis.lanes.lanes import Lanes
    from pilotis_redis.lanes.letters import Meant
    from pilotis_redis.lanes.registry import LaneSpec, Registry
    from pilotis_redis.lanes.settling import Ending
    from pilotis_redis.lanes.state import LaneState
    from pilotis_redis.lanes.worker import Worker

__all__ = [
    "Ending",
    "Head",
    "LaneSpec",
    "LaneState",
    "Lanes",
    "Letter",
    "Meant",
    "Push",
    "Pushed",
    "Registry",
    "Taken",
    "Worker",
    "WorkerInfo",
]

__getattr__ = lazily(
    globals(),
    {
        "pilotis_redis.lanes.entry": "Head Letter Push Pushed Taken WorkerInfo",
        "pilotis_redis.lanes.lanes": "Lanes",
        "pilotis_redis.lanes.letters": "Meant",
        "pilotis_redis.lanes.registry": "LaneSpec Registry",
        "pilotis_redis.lanes.settling": "Ending",
        "pilotis_redis.lanes.state": "LaneState",
        "pilotis_redis.lanes.worker": "Worker",
    },
)
