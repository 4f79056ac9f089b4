"""What the Redis providers of Pilotis stand on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.faces import lazily

if TYPE_CHECKING:
    from pilotis_redis.addresses import Address
    from pilotis_redis.link import RedisLink
    from pilotis_redis.options import RedisOptions
    from pilotis_redis.provider import RedisBacked
    from pilotis_redis.scripts import Script
    from pilotis_redis.startup import Eviction

__all__ = ["Address", "Eviction", "RedisBacked", "RedisLink", "RedisOptions", "Script"]

__getattr__ = lazily(
    globals(),
    {
        "pilotis_redis.addresses": "Address",
        "pilotis_redis.link": "RedisLink",
        "pilotis_redis.options": "RedisOptions",
        "pilotis_redis.provider": "RedisBacked",
        "pilotis_redis.scripts": "Script",
        "pilotis_redis.startup": "Eviction",
    },
)
