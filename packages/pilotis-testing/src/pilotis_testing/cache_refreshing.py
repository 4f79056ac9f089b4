"""Conformance of the cache: refreshing once among processes. Two caches over one backend stand for two processes."""

from __future__ import annotations

from typing import Any

import pytest
from pilotis.modules.cache.names import refresh_name
from pilotis.modules.cache.refreshing import REST_SECONDS
from pilotis.providers import CacheProvider

from pilotis_testing.cache_base import SERVICE, TTL, CacheTests, has_at_hand, lacks
from pilotis_testing.cache_claims import SINGLE_FLIGHT, Computation, mark_of, refuse
from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import soon

STALE: dict[str, Any] = {"ttl": TTL, "stale_for": TTL * 30}
AHEAD: dict[str, Any] = {"ttl": TTL * 10, "refresh_ahead": 1e9}


async def idle(cache: Any) -> None:
    """Wait until nothing is refreshed by this process."""
    await soon(lambda: not cache._filler.refreshes.under_way)


class RefreshTests(CacheTests):
    """Refreshes in the background: `stale_for`, `refresh_ahead`."""

    @pytest.mark.parametrize("terms", [STALE, AHEAD], ids=["stale", "ahead"])
    async def test_processes_refresh_a_value_once(
        self, cache: Any, other: Any, provider: CacheProvider, clock: ManualClock, terms: dict[str, Any]
    ) -> None:
        """While one does, readers in the others are served the old value at once, and begin nothing."""
        if lacks(provider, SINGLE_FLIGHT):
            return

        def costly() -> str:
            clock.advance(0.5)
            return "old"

        assert await cache.get_or_set("k", costly, **terms) == "old"
        clock.advance(TTL * 1.5)
        refresh = Computation()
        assert await cache.get_or_set("k", refresh, **terms) == "old"
        await soon(refresh.begun.is_set)
        for _ in range(3):
            assert await other.get_or_set("k", refuse, **terms) == "old"
            await idle(other)
        refresh.gate.set()
        await idle(cache)
        await soon(lambda: not has_at_hand(other, "k"))
        assert await other.get_or_set("k", refuse, ttl=TTL, stale_for=TTL) == "new"
        assert [2, 0] == [cache.stats().factory_calls, other.stats().factory_calls]
        assert other.stats().errors == 0

    async def test_a_refresh_that_failed_rests_everywhere(
        self, cache: Any, other: Any, provider: CacheProvider, clock: ManualClock
    ) -> None:
        """The old value is served, and the next attempt is made after a second, by whoever comes first."""
        if lacks(provider, SINGLE_FLIGHT):
            return
        failing = Computation()
        failing.error = ZeroDivisionError()
        failing.gate.set()
        assert await cache.get_or_set("k", lambda: "old", **STALE) == "old"
        clock.advance(TTL * 1.5)
        assert await cache.get_or_set("k", failing, **STALE) == "old"
        await soon(lambda: cache.stats().errors == 1)
        await idle(cache)
        assert await other.get_or_set("k", refuse, **STALE) == "old"
        await idle(other)
        clock.advance(REST_SECONDS * 1.5)
        assert await other.get_or_set("k", lambda: "new", **STALE) == "old"
        await soon(lambda: other.stats().sets == 1)
        await soon(lambda: not has_at_hand(cache, "k"))
        assert await cache.get("k") == "new"

    async def test_a_process_that_died_refreshing_is_followed(
        self, cache: Any, provider: CacheProvider, clock: ManualClock
    ) -> None:
        """Once its claim is over; until then the old value is served."""
        if lacks(provider, SINGLE_FLIGHT):
            return
        assert await cache.get_or_set("k", lambda: "old", **STALE) == "old"
        await provider.claim({refresh_name(f"{SERVICE}::k"): None}, mark_of(cache), TTL * 2)
        clock.advance(TTL * 1.5)
        assert await cache.get_or_set("k", refuse, **STALE) == "old"
        await idle(cache)
        clock.advance(TTL)
        assert await cache.get_or_set("k", lambda: "new", **STALE) == "old"
        await soon(lambda: cache.stats().sets == 2)
        assert await cache.get("k") == "new"

    async def test_a_refresh_from_before_an_invalidation_holds_up_none_after_it(
        self, cache: Any, other: Any, provider: CacheProvider, clock: ManualClock
    ) -> None:
        """What it computes is not kept, and so it is not waited for."""
        if lacks(provider, SINGLE_FLIGHT):
            return
        terms = {**STALE, "tags": ["t"]}
        assert await cache.get_or_set("k", lambda: "old", **terms) == "old"
        clock.advance(TTL * 1.5)
        late = Computation()
        assert await cache.get_or_set("k", late, **terms) == "old"
        await soon(late.begun.is_set)
        await other.invalidate_tags("t")
        assert await other.get_or_set("k", lambda: "newer", **terms) == "newer"
        clock.advance(TTL * 1.5)
        assert await other.get_or_set("k", lambda: "newest", **terms) == "newer"
        await soon(lambda: other.stats().sets == 2)
        late.gate.set()
        await idle(cache)
        assert await other.get_or_set("k", lambda: "newest", **terms) == "newest"
