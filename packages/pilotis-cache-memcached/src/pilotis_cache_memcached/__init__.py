"""The Memcached cache provider of Pilotis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.faces import lazily

if TYPE_CHECKING:
    from pilotis_cache_memcached.options import MemcachedCacheOptions
    from pilotis_cache_memcached.provider import MemcachedCache

__all__ = ["MemcachedCache", "MemcachedCacheOptions"]

__getattr__ = lazily(
    globals(),
    {
        "pilotis_cache_memcached.provider": "MemcachedCache",
        "pilotis_cache_memcached.options": "MemcachedCacheOptions",
    },
)
