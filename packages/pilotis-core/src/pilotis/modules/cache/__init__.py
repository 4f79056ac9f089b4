"""Cache: values kept for a while, computed once by many."""

from __future__ import annotations

from pilotis.modules.cache.decorator import CachedFunction
from pilotis.modules.cache.portable import Cache
from pilotis.modules.cache.provider import CacheCapability, CacheProvider, Entry
from pilotis.modules.cache.stats import CacheStats

__all__ = ["Cache", "CacheCapability", "CacheProvider", "CacheStats", "CachedFunction", "Entry"]
