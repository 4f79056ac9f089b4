"""Conformance of the cache: entries kept at hand, and changes that other processes make to them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator
from typing import Any

import pytest
from pilotis.bridge import drive, pause
from pilotis.errors import ConfigurationError, UnsupportedError
from pilotis.modules.cache import Cache
from pilotis.providers import CLAIM_MARK, CacheCapability, CacheProvider, Context, Entry
from pilotis.settings.model import CacheSettings

from pilotis_testing.cache_base import SERVICE, TTL, CacheTests, lacks, ready, written
from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import Colour, soon

TRACKING = CacheCapability.TRACKING
NEAR = CacheSettings(near=True)
MARK = CLAIM_MARK + b"m" * 24
PREFIX = f"{SERVICE}:"
KEY = f"{PREFIX}:k"

CHANGES: dict[str, Callable[[CacheProvider], Awaitable[object]]] = {
    "write": lambda provider: written(provider, None, **{KEY: b"new"}),
    "add": lambda provider: provider.write([Entry(f"{PREFIX}:absent", b"1", None)], only_absent=True),
    "remove": lambda provider: provider.remove([KEY]),
    "count": lambda provider: provider.count(f"{PREFIX}:n", 1, None),
    "expire": lambda provider: provider.expire(KEY, TTL),
}
IF_MATCHING: dict[str, Callable[[CacheProvider], Awaitable[object]]] = {
    "remove_matching": lambda provider: provider.remove_matching(f"{PREFIX}:*"),
}
IF_CLAIMING: dict[str, Callable[[CacheProvider], Awaitable[object]]] = {
    "claim": lambda provider: provider.claim({KEY: b"1"}, MARK, TTL),
    "settle": lambda provider: provider.settle({f"{PREFIX}:claimed": Entry("", b"1", None)}, MARK),
    "give back": lambda provider: provider.settle({f"{PREFIX}:claimed": None}, MARK),
}
CHANGED = {"add": f"{PREFIX}:absent", "count": f"{PREFIX}:n"} | dict.fromkeys(
    ("settle", "give back"), f"{PREFIX}:claimed"
)
"""The keys that change, where it is not `KEY`."""

REMOVALS: dict[str, Callable[[Any], Awaitable[object]]] = {
    "delete": lambda cache: cache.delete("k"),
    "touch": lambda cache: cache.touch("k", 0),
    "invalidate": lambda cache: cache.invalidate("k"),
    "pattern": lambda cache: cache.invalidate("k*"),
    "invalidate_tags": lambda cache: cache.invalidate_tags("t"),
    "clear": lambda cache: cache.clear(),
}
NEED_MATCHING = ("pattern", "clear")
PATIENCE = 10.0
"""Real seconds in which what is told at once must have been heard."""


class NearTests(CacheTests):
    """Tracking, and what a near cache makes of it."""

    @pytest.fixture
    def near(self, provider: CacheProvider, clock: ManualClock, colour: Colour) -> Iterator[Any]:
        """A process with a near cache. None where the provider cannot have one."""
        if lacks(provider, TRACKING):
            yield None
            return
        context = Context(name=SERVICE, clock=clock)
        cache = Cache(provider, settings=NEAR, context=context)
        ready(cache)
        yield colour.voice(cache)
        cache.close()
        context.runtime.stop()

    @pytest.fixture
    def told(self, entries: CacheProvider) -> Iterator[list[Collection[str] | None]]:
        """What the provider has told of changes to keys, since it began."""
        if lacks(entries, TRACKING):
            yield []
            return
        told: list[Collection[str] | None] = []
        job = entries.context.runtime.spawn(entries.track(PREFIX, told.append), "tracking")
        drive(comes(lambda: told == [None]))
        yield told
        job.cancel()
        drive(job.ended.wait(5))
        entries.context.runtime.stop()

    async def test_tracking_is_declared_or_refused(self, entries: CacheProvider) -> None:
        """Without the capability both verbs are an UnsupportedError, and the setting of one that is shared an error."""
        if not lacks(entries, TRACKING):
            assert await entries.read_entries(["none"]) == [None]
            return
        with pytest.raises(UnsupportedError, match="TRACKING"):
            await entries.read_entries(["k"])
        with pytest.raises(UnsupportedError, match="TRACKING"):
            await entries.track(PREFIX, print)
        refused = pytest.raises(ConfigurationError, match=r"cache\.near.*TRACKING")
        with refused if entries.shared else contextlib.nullcontext():
            Cache(entries, settings=NEAR, context=Context(name=SERVICE))

    async def test_entries_tell_what_they_have_left(self, entries: CacheProvider, clock: ManualClock) -> None:
        """In the order of the keys; None for one that lasts for good, and for an absent one no entry."""
        if lacks(entries, TRACKING):
            return
        await written(entries, TTL, short=b"\x00\xff")
        await written(entries, None, good=b"")
        clock.advance(TTL / 2)
        short, none, good, again = await entries.read_entries(["short", "none", "good", "short"])
        assert short is not None
        assert short.ttl is not None
        assert ("short", b"\x00\xff", True) == (short.key, short.value, 0 < short.ttl <= TTL / 2)
        assert (None, Entry("good", b"", None)) == (none, good)
        assert again is not None
        clock.advance(TTL)
        assert await entries.read_entries(["short"]) == [None]

    @pytest.mark.parametrize("change", [*CHANGES, *IF_MATCHING, *IF_CLAIMING])
    async def test_changes_are_told(
        self, entries: CacheProvider, told: list[Collection[str] | None], change: str
    ) -> None:
        """Those of another process, whichever verb makes them."""
        known = CHANGES | _possible(entries)
        if lacks(entries, TRACKING) or change not in known:
            return
        async with another(entries) as other:
            await written(other, None, **{KEY: b"1"})
            if change in IF_CLAIMING:
                await other.claim({f"{PREFIX}:claimed": None}, MARK, TTL)
                await comes(lambda: _is_told(told, f"{PREFIX}:claimed"))
            await comes(lambda: _is_told(told, KEY))
            told.clear()
            await known[change](other)
            await comes(lambda: _is_told(told, CHANGED.get(change, KEY)))

    async def test_what_is_at_hand_is_read_without_the_backend(self, near: Any) -> None:
        """By every verb that reads; each reader gets an object of its own."""
        if near is None:
            return
        await near.set_many({"a": [1], "k": [2]}, tags=["t"])
        await becomes(lambda: at_hand(near, "a", "k"), True)
        before = near.stats()
        first = await near.get("k")
        assert [2] == await near.get("k") == await near.get_or_set("k", lambda: [3], tags=["t"]) == first
        assert first is not await near.get("k")
        assert await near.get_many(["a", "k"]) == {"a": [1], "k": [2]}
        after = near.stats()
        assert after.near_hits > before.near_hits
        assert (after.hits - before.hits, after.factory_calls, after.misses) == (6, 0, 0)

    @pytest.mark.parametrize("verb", REMOVALS)
    async def test_what_another_process_removes_is_gone_soon(
        self, near: Any, other: Any, provider: CacheProvider, verb: str
    ) -> None:
        """Although it was at hand."""
        if near is None or not _can(provider, verb):
            return
        await near.set("k", 1, tags=["t"])
        await becomes(lambda: at_hand(near, "k"), True)
        await REMOVALS[verb](other)
        await becomes(lambda: near.get("k"), None)

    async def test_what_another_process_sets_is_seen_soon(self, near: Any, other: Any) -> None:
        """Also where it counts on, and after a computation there."""
        if near is None:
            return
        await near.set_many({"k": 1, "n": 1})
        await becomes(lambda: at_hand(near, "k", "n"), True)
        await other.set("k", 2)
        await other.increment("n")
        await becomes(lambda: near.get_many(["k", "n"]), {"k": 2, "n": 2})

    @pytest.mark.parametrize("verb", REMOVALS)
    async def test_what_this_process_removes_is_gone_at_once(
        self, near: Any, provider: CacheProvider, verb: str
    ) -> None:
        """For all who ask after the verb has returned."""
        if near is None or not _can(provider, verb):
            return
        await near.set("k", 1, tags=["t"])
        await becomes(lambda: at_hand(near, "k"), True)
        await REMOVALS[verb](near)
        assert await near.get("k") is None

    async def test_what_this_process_writes_is_seen_at_once(self, near: Any) -> None:
        """Whatever was at hand before."""
        if near is None:
            return
        await near.set_many({"k": 0, "n": 0})
        for number in range(1, 20):
            await near.set("k", number)
            assert await near.get("k") == number
            assert await near.increment("n") == number
            assert await near.get("n") == number

    async def test_what_changes_while_it_is_fetched_is_not_kept(
        self, near: Any, other: Any, provider: CacheProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its reader gets what was there, and the next one what is there now."""
        if near is None:
            return
        read, fetching = provider.read_entries, near._near.tier._fetching

        async def slow(keys: list[str]) -> list[Entry | None]:
            fetched = await read(keys)
            monkeypatch.undo()
            await other.set("k", "new")
            await comes(lambda: fetching[KEY].changes > 0)
            return fetched

        await other.set("k", "old")
        await becomes(lambda: near.get("k"), "old")
        await near.touch("k", TTL)
        monkeypatch.setattr(provider, "read_entries", slow)
        assert await near.get("k") == "old"
        assert await near.get("k") == "new"

    async def test_nothing_is_at_hand_for_longer_than_the_cap(self, near: Any, clock: ManualClock) -> None:
        """Also where the entry itself lasts."""
        if near is None:
            return
        await near.set("k", 1, ttl=None)
        await becomes(lambda: at_hand(near, "k"), True)
        clock.advance(5.1)
        hits = near.stats().near_hits
        assert await near.get("k") == 1
        assert near.stats().near_hits == hits

    async def test_nothing_is_at_hand_for_longer_than_it_lasts(self, near: Any, clock: ManualClock) -> None:
        """The backend tells, when it is fetched, how long that is."""
        if near is None:
            return
        await near.set("k", 1, ttl=TTL)
        await becomes(lambda: at_hand(near, "k"), True)
        clock.advance(TTL * 1.1)
        assert await near.get("k") is None

    async def test_a_claim_is_never_at_hand(self, near: Any, provider: CacheProvider) -> None:
        """So whoever asks for the value finds it as soon as it is there."""
        if near is None or lacks(provider, CacheCapability.SINGLE_FLIGHT):
            return
        await provider.claim({KEY: None}, MARK, TTL)
        for _ in range(3):
            assert await near.get("k") is None
        assert len(near._near.tier) == 0


async def becomes(ask: Callable[[], Awaitable[object]], expected: object) -> None:
    """Ask until the answer is as expected; fail after `PATIENCE`."""
    deadline = time.monotonic() + PATIENCE
    while (answer := await ask()) != expected:
        assert time.monotonic() < deadline, f"it was {answer!r} to the last, and not {expected!r}"
        await pause(0.001)


async def comes(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; fail after `PATIENCE`."""
    await soon(condition, PATIENCE)


async def at_hand(near: Any, *keys: str) -> bool:
    """Read keys, and tell whether that asked nobody."""
    before = near.stats().near_hits
    await near.get_many(list(keys))
    return near.stats().near_hits > before


@contextlib.asynccontextmanager
async def another(provider: CacheProvider) -> AsyncGenerator[CacheProvider]:
    """Open a provider of another process before the same backend, for the length of a block."""
    other = type(provider)(provider.options)
    other.context = Context(name=SERVICE, clock=provider.context.clock)
    await other.open()
    try:
        yield other
    finally:
        await other.close()


def _possible(provider: CacheProvider) -> dict[str, Callable[[CacheProvider], Awaitable[object]]]:
    matching = {} if lacks(provider, CacheCapability.MATCHING) else IF_MATCHING
    return matching | ({} if lacks(provider, CacheCapability.SINGLE_FLIGHT) else IF_CLAIMING)


def _can(provider: CacheProvider, verb: str) -> bool:
    return verb not in NEED_MATCHING or not lacks(provider, CacheCapability.MATCHING)


def _is_told(told: list[Collection[str] | None], key: str) -> bool:
    return any(keys is None or key in keys for keys in list(told))
