"""The memory provider does what every cache provider must do."""

from __future__ import annotations

import pytest
from pilotis_cache_memory import MemoryCache
from pilotis_testing.cache import CacheConformance


class TestMemoryCache(CacheConformance):
    @pytest.fixture
    def provider(self) -> MemoryCache:
        return MemoryCache()
