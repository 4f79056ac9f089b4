"""The bounded in-process cache provider of Pilotis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.faces import lazily

if TYPE_CHECKING:
    from pilotis_cache_memory.provider import MemoryCache, MemoryCacheOptions

__all__ = ["MemoryCache", "MemoryCacheOptions"]

__getattr__ = lazily(globals(), {"pilotis_cache_memory.provider": "MemoryCache MemoryCacheOptions"})
