"""Conformance of the cache: what is dropped together: patterns, tags, namespaces."""

from __future__ import annotations

from typing import Any

import pytest
from pilotis.errors import UnsupportedError
from pilotis.providers import CacheCapability, CacheProvider

from pilotis_testing.cache_base import DAY, SERVICE, TTL, CacheTests, in_colour, lacks, told
from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import Colour, together

MATCHING = CacheCapability.MATCHING


class GroupTests(CacheTests):
    """invalidate, invalidate_tags, namespace, clear."""

    async def test_invalidate_a_key(self, cache: Any) -> None:
        """Without a star it is that one key."""
        await cache.set_many({"a": 1, "ab": 2})
        assert [1, 0] == [await cache.invalidate("a"), await cache.invalidate("a")]
        assert await cache.get_many(["a", "ab"]) == {"ab": 2}

    async def test_invalidate_a_pattern(self, cache: Any, provider: CacheProvider) -> None:
        """Anchored, with stars anywhere, and all else literally."""
        if lacks(provider, MATCHING):
            return
        names = ["price:1:eur", "price:4:eur", "price:2:usd", "xprice:3:eur", "price.1:eur"]
        await cache.set_many(dict.fromkeys(names, 1))
        assert await cache.invalidate("price:*:eur") == told(provider, 2)
        assert list(await cache.get_many(names)) == names[2:]

    async def test_patterns_and_clear_need_the_capability(self, cache: Any, provider: CacheProvider) -> None:
        """Where it is not declared, the verbs raise, and so does the provider's own."""
        if not lacks(provider, MATCHING):
            assert await cache.invalidate("*") == told(provider, 0)
            return
        for verb in (lambda: cache.invalidate("*"), cache.clear, lambda: provider.remove_matching("*")):
            with pytest.raises(UnsupportedError, match="MATCHING"):
                await verb()

    async def test_invalidating_a_tag_drops_what_has_it(self, cache: Any) -> None:
        """Whichever way it was stored, and however it is read; the rest stays."""
        await cache.set("both", 1, tags=["t", "u"])
        await cache.set_many({"one": 1, "two": 2}, tags=("u",))
        await cache.set("none", 1)
        await cache.get_or_set("made", lambda: 1, tags=["t"])
        names = ["both", "one", "two", "none", "made"]
        assert list(await cache.get_many(names)) == names
        await cache.invalidate_tags("t", "unknown")
        assert list(await cache.get_many(names)) == ["one", "two", "none"]
        assert [None, None, 1] == [await cache.get("both"), await cache.get("made"), await cache.get("one")]
        await cache.invalidate_tags()
        await cache.invalidate_tags("u")
        assert list(await cache.get_many(names)) == ["none"]

    async def test_a_tag_outlasts_what_has_it(self, cache: Any, clock: ManualClock) -> None:
        """The end of one value leaves the tag of the others."""
        await cache.set("long", 1, ttl=TTL * 100, tags=["t"])
        await cache.set("short", 1, ttl=TTL, tags=["t"])
        clock.advance(TTL * 1.5)
        await cache.invalidate_tags("t")
        assert await cache.get_many(["long", "short"]) == {}

    @pytest.mark.parametrize("jump", [DAY, -DAY], ids=["ahead", "back"])
    async def test_an_invalidation_asks_no_clock(self, cache: Any, clock: ManualClock, jump: float) -> None:
        """What was set before it is gone, and what is set after it stays, whatever the time is taken to be."""
        await cache.set("before", 1, ttl=None, tags=["t"])
        clock.jump(jump)
        await cache.invalidate_tags("t")
        await cache.set("after", 1, ttl=None, tags=["t"])
        clock.jump(-2 * jump)
        assert await cache.get_many(["before", "after"]) == {"after": 1}

    async def test_a_value_set_after_its_tag_was_invalidated_stays(self, cache: Any) -> None:
        """Invalidating is about what is there."""
        for _ in range(3):
            await cache.invalidate_tags("t")
            await cache.set("k", 1, tags=["t"])
            assert await cache.get("k") == 1

    async def test_an_invalidation_during_a_computation_wins(self, cache: Any, colour: Colour) -> None:
        """The epochs are those from before the factory ran."""

        async def invalidating() -> str:
            await cache.invalidate_tags("t")
            return "old"

        assert await cache.get_or_set("k", in_colour(colour, invalidating), tags=["t"]) == "old"
        assert await cache.get("k") is None

    async def test_a_lost_epoch_is_a_miss_for_good(self, cache: Any, provider: CacheProvider) -> None:
        """A counter that was evicted begins anew at random, so no old value comes back."""
        await cache.set("k", "old", tags=["t"])
        assert await provider.remove([f"{SERVICE}:#:t"]) == 1
        assert await cache.get("k") is None
        await cache.set("other", 1, tags=["t"])
        await cache.invalidate_tags("t")
        assert await cache.get("k") is None

    async def test_a_tag_that_the_stored_value_lacks_is_a_miss(self, cache: Any) -> None:
        """A tag that was added to the code counts for values from before, too."""
        await cache.get_or_set("k", lambda: "old", tags=["t"])
        assert await cache.get_or_set("k", lambda: "new", tags=["t", "added"]) == "new"
        assert await cache.get_or_set("k", lambda: "newer", tags=["t"]) == "new"

    async def test_namespaces_have_their_own_keys(self, cache: Any) -> None:
        """Whatever their names are made of."""
        spaces = [
            cache,
            cache.namespace("a"),
            cache.namespace("a:b"),
            cache.namespace("a").namespace("b"),
            cache.namespace("a/b"),
            cache.namespace("a%3Ab"),
            cache.namespace("a*"),
            cache.namespace("a#"),
            cache.namespace("tenant:7"),
            cache.namespace("tenant:70"),
        ]
        for index, space in enumerate(spaces):
            await space.set_many({"k": index, "b:k": index, "7:k": index}, tags=["t"])
        for index, space in enumerate(spaces):
            assert await space.get_many(["k", "b:k", "7:k"]) == {"k": index, "b:k": index, "7:k": index}
        await spaces[1].invalidate_tags("t")
        assert [await space.get("k") for space in spaces] == [0, None, *range(2, 10)]

    async def test_clear_touches_one_namespace(self, cache: Any, provider: CacheProvider) -> None:
        """Not the one around it, not those within it, and not one whose name begins the same."""
        if lacks(provider, MATCHING):
            return
        a = cache.namespace("a")
        spaces = [cache, a, a.namespace("b"), cache.namespace("ab"), cache.namespace("*")]
        for space in spaces:
            await space.set("k", 1)
            await space.set("tagged", 1, tags=["t"])
        left = set(range(5))
        for cleared in (1, 4, 0):
            await spaces[cleared].clear()
            left.remove(cleared)
            assert left == {index for index, space in enumerate(spaces) if await space.get_many(["k", "tagged"])}

    async def test_invalidate_touches_one_namespace(self, cache: Any, provider: CacheProvider) -> None:
        """A star does not reach into another one."""
        if lacks(provider, MATCHING):
            return
        spaces = [cache, cache.namespace("a"), cache.namespace("a").namespace("b"), cache.namespace("ab")]
        for space in spaces:
            await space.set("k", 1, tags=["t"])
        assert await spaces[1].invalidate("*") == told(provider, 1)
        assert await spaces[0].invalidate("*k") == told(provider, 1)
        assert [None, None, 1, 1] == [await space.get("k") for space in spaces]

    async def test_the_same_name_is_the_same_namespace(self, cache: Any) -> None:
        """Its values, and who computes them."""
        calls: list[int] = []

        def factory() -> int:
            calls.append(1)
            return len(calls)

        make = [lambda: cache.namespace("a").get_or_set("k", factory)] * 4
        assert [1, 1, 1, 1] == await together(*make)
        assert await cache.namespace("a").get("k") == 1

    async def test_stats(self, cache: Any) -> None:
        """They count for the cache with all its namespaces."""
        await cache.set("k", "text")
        await cache.namespace("a").set_many({"x": 1, "y": 2})
        await cache.get("k")
        await cache.get("none")
        await cache.namespace("a").get_many(["x", "y", "z"])
        await cache.get_or_set("made", lambda: 1)
        await cache.get_or_set("made", lambda: 1)
        await cache.delete("k", "none")
        stats = cache.stats()
        assert (4, 3, 4, 1, 1) == (stats.hits, stats.misses, stats.sets, stats.deletes, stats.factory_calls)
        assert (0, 0) == (stats.stale, stats.errors)
        assert stats.bytes_read > 0
        assert stats.bytes_written > 0
