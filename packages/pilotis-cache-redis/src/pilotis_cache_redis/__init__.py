"""The Redis cache provider of Pilotis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.faces import lazily

if TYPE_CHECKING:
    from pilotis_cache_redis.provider import RedisCache, RedisCacheOptions

__all__ = ["RedisCache", "RedisCacheOptions"]

__getattr__ = lazily(globals(), {"pilotis_cache_redis.provider": "RedisCache RedisCacheOptions"})
