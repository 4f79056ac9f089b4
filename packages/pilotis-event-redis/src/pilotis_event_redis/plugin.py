"""The entry point: found by discovery, imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.providers import hookimpl

if TYPE_CHECKING:
    from pilotis.providers import EventProvider


@hookimpl
def pilotis_provider() -> type[EventProvider]:
    """Return the provider class."""
    from pilotis_event_redis.provider import RedisEvents

    return RedisEvents
