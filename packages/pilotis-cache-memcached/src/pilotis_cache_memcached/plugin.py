"""The entry point: found by discovery, imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.providers import hookimpl

if TYPE_CHECKING:
    from pilotis.providers import CacheProvider


@hookimpl
def pilotis_provider() -> type[CacheProvider]:
    """Return the provider class."""
    from pilotis_cache_memcached.provider import MemcachedCache

    return MemcachedCache
