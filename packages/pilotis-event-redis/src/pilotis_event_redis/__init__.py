"""The Redis event provider of Pilotis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.faces import lazily

if TYPE_CHECKING:
    from pilotis_event_redis.provider import RedisEvents, RedisEventsOptions

__all__ = ["RedisEvents", "RedisEventsOptions"]

__getattr__ = lazily(globals(), {"pilotis_event_redis.provider": "RedisEvents RedisEventsOptions"})
