"""The near cache, before a provider that tells of changes, or that does not when a test wants it so.

What it promises is also asked of near caches that break it: each fails.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pilotis import Cache, ConfigurationError, Pilotis
from pilotis.bridge import Latch
from pilotis.modules.cache.tier import Tier
from pilotis.providers import Context, Entry
from pilotis.settings import CacheSettings, NearSettings
from pilotis_testing import Colour, ManualClock
from pilotis_testing.clock import until
from pilotis_testing.colours import together

CAP = 5.0
KEY = "shop::k"


class Scene:
    """A process with a near cache, and another one before the same backend."""

    def __init__(self, kind: Any, colour: Colour, clock: ManualClock) -> None:
        self._kind, self._colour, self._clock = kind, colour, clock
        self._made: list[Cache] = []
        self.provider = kind()
        self.near = self.cache(self.provider, near=NearSettings(ttl=CAP))
        self.other = self.cache(kind(self.provider.options))

    async def begin(self) -> None:
        """Open both, and wait until changes are told."""
        await self.near.open()
        await self.other.open()
        until(lambda: self.tier.is_live)

    @property
    def tier(self) -> Tier:
        return self._made[0]._near.tier  # pyright: ignore[reportPrivateUsage, reportOptionalMemberAccess]

    def cache(self, provider: Any, near: NearSettings | bool = False) -> Any:
        """Return another cache before a provider, in the colour of the test."""
        made = Cache(provider, settings=CacheSettings(near=near), context=Context(name="shop", clock=self._clock))
        self._made.append(made)
        return self._colour.voice(made)

    def advance(self, seconds: float) -> None:
        self._clock.advance(seconds)

    def close(self) -> None:
        for cache in self._made:
            cache.close()
            cache.context.runtime.stop()


Make = Callable[[str], Awaitable[Scene]]
Promise = Callable[[Make], Awaitable[None]]


@pytest.fixture
def make(colour: Colour, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """What makes a scene with a provider of `near_mutants`, by its name."""
    monkeypatch.syspath_prepend(Path(__file__).parent)  # pyright: ignore[reportUnknownMemberType]
    import near_mutants

    made: list[Scene] = []

    async def add(kind: str) -> Scene:
        made.append(Scene(getattr(near_mutants, kind), colour, clock))
        await made[-1].begin()
        return made[-1]

    yield add
    for scene in made:
        scene.close()


# What it promises


async def own_changes_are_seen_at_once(make: Make) -> None:
    """Even where nobody tells of them: by every verb that changes something."""
    near = (await make("Deaf")).near
    changes: dict[str, Callable[[], Awaitable[object]]] = {
        "set": lambda: near.set("k", 2),
        "set_many": lambda: near.set_many({"k": 2}),
        "delete": lambda: near.delete("k"),
        "touch": lambda: near.touch("k", 0),
        "increment": lambda: near.increment("k"),
        "invalidate": lambda: near.invalidate("k"),
        "pattern": lambda: near.invalidate("*"),
        "clear": near.clear,
    }
    for verb, change in changes.items():
        await near.set("k", 1)
        assert [1, 1] == [await near.get("k"), await near.get("k")]
        await change()
        assert await near.get("k") != 1, verb
    await near.set("k", 1, tags=["t"])
    assert [1, 1] == [await near.get("k"), await near.get("k")]
    await near.invalidate_tags("t")
    assert await near.get("k") is None
    assert await near.get_or_set("k", lambda: 2, tags=["t"]) == 2
    assert await near.get("k") == 2


async def what_changes_while_it_is_fetched_is_not_kept(make: Make) -> None:
    """Its reader gets what was there when he asked."""
    scene = await make("Tracking")
    read = scene.provider.read_entries
    await scene.other.set("k", "old")

    async def slow(keys: Sequence[str]) -> list[Entry | None]:
        entries = await read(keys)
        await scene.other.set("k", "new")
        return entries

    scene.provider.read_entries = slow
    assert await scene.near.get("k") == "old"
    scene.provider.read_entries = read
    assert await scene.near.get("k") == "new"


async def nothing_is_kept_without_a_connection(make: Make) -> None:
    """Everything is dropped when it breaks, and nothing is kept until changes are told again."""
    scene = await make("Tracking")
    await scene.other.set("k", "old")
    assert await _is_at_hand(scene, "k")
    scene.provider.cut()
    until(lambda: scene.provider.refusals > 0)
    await scene.other.set("k", "new")
    assert await scene.near.get("k") == "new"
    assert not await _is_at_hand(scene, "k")
    scene.provider.is_down = False
    until(lambda: scene.tier.is_live)
    assert await _is_at_hand(scene, "k")


async def nothing_is_served_for_longer_than_the_cap(make: Make) -> None:
    """Even where a change is never told."""
    scene = await make("Deaf")
    await scene.other.set("k", "old", ttl=None)
    assert await _is_at_hand(scene, "k")
    await scene.other.set("k", "new")
    scene.advance(CAP * 1.1)
    assert await scene.near.get("k") == "new"


async def nothing_is_served_for_longer_than_it_lasts(make: Make) -> None:
    """However long it has been there before it was read."""
    scene = await make("Deaf")
    await scene.other.set("k", "old", ttl=CAP)
    scene.advance(CAP * 0.9)
    assert await _is_at_hand(scene, "k")
    scene.advance(CAP * 0.2)
    assert await scene.near.get("k") is None


PROMISES: dict[str, Promise] = {
    "own changes": own_changes_are_seen_at_once,
    "in flight": what_changes_while_it_is_fetched_is_not_kept,
    "connection": nothing_is_kept_without_a_connection,
    "cap": nothing_is_served_for_longer_than_the_cap,
    "own ttl": nothing_is_served_for_longer_than_it_lasts,
}


async def _is_at_hand(scene: Scene, key: str) -> bool:
    """Read a key twice, and tell whether the second time asked nobody."""
    await scene.near.get(key)
    before = scene.near.stats().near_hits
    await scene.near.get(key)
    return scene.near.stats().near_hits > before


@pytest.mark.parametrize("promise", PROMISES)
async def test_a_promise_is_kept(make: Make, promise: str) -> None:
    """Each of them."""
    await PROMISES[promise](make)


# What breaks it


def does_nothing(*_: object) -> None:
    """Stand in for what is broken."""


def misses_own_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tier, "forget", does_nothing)


def misses_own_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tier, "forget_matching", does_nothing)


def keeps_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    end = Tier.end_fetch

    def anyway(self: Tier, fetch: Any, fetched: Any) -> None:
        begun, since = fetch
        end(self, ({key: (fetching, fetching.changes) for key, (fetching, _) in begun.items()}, since), fetched)

    monkeypatch.setattr(Tier, "end_fetch", anyway)


def keeps_on_disconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tier, "end", does_nothing)


def knows_no_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Tier.__init__

    def boundless(self: Tier, max_entries: int, ttl: float, clock: ManualClock) -> None:
        make(self, max_entries, ttl * 1e9, clock)

    monkeypatch.setattr(Tier, "__init__", boundless)


def knows_no_ttl(monkeypatch: pytest.MonkeyPatch) -> None:
    keep = Tier._keep  # pyright: ignore[reportPrivateUsage]

    def for_good(self: Any, key: str, entry: Entry | None, since: float) -> None:
        keep(self, key, None if entry is None else Entry(key, entry.value, None), since)

    monkeypatch.setattr(Tier, "_keep", for_good)


BREAKAGES: list[tuple[Callable[[pytest.MonkeyPatch], None], str]] = [
    (misses_own_changes, "own changes"),
    (misses_own_patterns, "own changes"),
    (keeps_what_changed, "in flight"),
    (keeps_on_disconnect, "connection"),
    (knows_no_cap, "cap"),
    (knows_no_ttl, "own ttl"),
]


@pytest.mark.parametrize(("breakage", "promise"), BREAKAGES, ids=lambda part: getattr(part, "__name__", part))
async def test_a_broken_near_cache_is_caught(
    make: Make, monkeypatch: pytest.MonkeyPatch, breakage: Callable[[pytest.MonkeyPatch], None], promise: str
) -> None:
    """It does not keep the promise, and the assertions notice."""
    breakage(monkeypatch)
    with pytest.raises(AssertionError):
        await PROMISES[promise](make)


# The rest


async def test_it_is_bounded(colour: Colour, make: Make) -> None:
    """The least recently used entry makes room."""
    scene = await make("Tracking")
    small = scene.cache(type(scene.provider)(scene.provider.options), NearSettings(max_entries=2))
    await small.open()
    until(lambda: len(scene.provider.lines) == 2)
    await small.set_many({"a": 1, "b": 2, "c": 3})
    for key in ("a", "b", "a", "c"):
        await small.get(key)
    before = small.stats().near_hits
    await small.get_many(["a", "c"])
    assert small.stats().near_hits == before + 1
    await small.get("b")
    assert small.stats().near_hits == before + 1


@pytest.mark.parametrize("late", ["old", "new"])
async def test_of_values_that_were_fetched_at_once_none_is_kept(make: Make, late: str) -> None:
    """Where they differ, and it was not told yet why: whoever saw the newer one is not shown the older one again."""
    scene = await make("Deaf")
    await scene.other.set("k", "old")
    read = scene.provider.read_entries
    old = await read([KEY])
    await scene.other.set("k", "new")
    new = await read([KEY])
    results = {"old": [new, old], "new": [old, new]}[late]
    inside, gate = Latch(), Latch()

    async def first(keys: Sequence[str]) -> list[Entry | None]:
        scene.provider.read_entries = second
        inside.set()
        await gate.wait(10)
        return results[1]

    async def second(keys: Sequence[str]) -> list[Entry | None]:
        return results[0]

    async def overtake() -> Any:
        assert await inside.wait(10)
        seen = [await scene.near.get("k"), await scene.near.get("k")]
        gate.set()
        return seen

    scene.provider.read_entries = first
    early = {"old": "new", "new": "old"}[late]
    assert [late, [early, early]] == await together(lambda: scene.near.get("k"), overtake)
    scene.provider.read_entries = read
    assert await scene.near.get("k") == "new"


async def test_a_slow_reader_keeps_nobody_from_keeping(make: Make) -> None:
    """What somebody fetches meanwhile is at hand for all who come."""
    scene = await make("Tracking")
    await scene.near.set("k", 1)
    read, inside, gate = scene.provider.read_entries, Latch(), Latch()

    async def slow(keys: Sequence[str]) -> list[Entry | None]:
        scene.provider.read_entries = read
        inside.set()
        await gate.wait(10)
        return await read(keys)

    async def meanwhile() -> int:
        assert await inside.wait(10)
        assert await _is_at_hand(scene, "k")
        gate.set()
        return 1

    scene.provider.read_entries = slow
    assert [1, 1] == await together(lambda: scene.near.get("k"), meanwhile)
    assert await _is_at_hand(scene, "k")


async def test_a_failed_reading_leaves_nothing_behind(make: Make) -> None:
    """The next one is kept as if it had not been."""
    scene = await make("Tracking")
    await scene.near.set("k", 1)
    read = scene.provider.read_entries

    async def fail(keys: Sequence[str]) -> list[Entry | None]:
        raise ConnectionError(f"no {keys}")

    scene.provider.read_entries = fail
    assert await scene.near.get("k") is None
    scene.provider.read_entries = read
    assert await _is_at_hand(scene, "k")


async def test_what_is_partly_at_hand_is_completed(make: Make) -> None:
    """Only what is missing is asked for."""
    scene = await make("Tracking")
    await scene.near.set_many({"a": 1, "b": 2})
    assert await _is_at_hand(scene, "a")
    read, asked = scene.provider.read_entries, list[str]()

    async def noted(keys: Sequence[str]) -> list[Entry | None]:
        asked.extend(keys)
        return await read(keys)

    scene.provider.read_entries = noted
    assert await scene.near.get_many(["a", "none", "b"]) == {"a": 1, "b": 2}
    assert asked == ["shop::none", "shop::b"]


async def test_an_outage_is_told_once(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """When it begins and when it is over, however often it was tried again."""
    caplog.set_level(logging.INFO, "pilotis.cache")
    scene = await make("Tracking")
    scene.provider.cut()
    until(lambda: scene.provider.refusals > 1)
    scene.provider.is_down = False
    until(lambda: "on again" in caplog.text)
    assert ["WARNING", "INFO"] == [record.levelname for record in caplog.records]
    assert "near cache is off" in caplog.text


async def test_closing_ends_it(make: Make) -> None:
    """Nobody is told any more, and nothing is at hand."""
    scene = await make("Tracking")
    await scene.near.set("k", 1)
    assert await _is_at_hand(scene, "k")
    await scene.near.close()
    assert (0, {}) == (len(scene.tier), scene.provider.lines)


async def test_a_stand_in_has_settings_of_its_own(make: Make, colour: Colour) -> None:
    """While another app stands in for one with a near cache, nothing is taken from that."""
    provider = type((await make("Tracking")).provider)()
    async with colour.voice(Pilotis({"name": "shop", "cache": {"provider": provider, "near": {"ttl": 2}}})) as app:
        cache = colour.voice(app.cache)
        until(lambda: provider.lines)
        await cache.set("k", 1)
        assert [1, 1] == [await cache.get("k"), await cache.get("k")]
        assert cache.stats().near_hits > 0
        async with app.override({"cache": "memory"}):
            assert await cache.get("k") is None
            assert cache.stats().near_hits == 0
        assert await cache.get("k") == 1


@pytest.mark.parametrize(
    ("near", "told"),
    [
        (5, r"cache\.near: expected a table or true or false, got int"),
        ({"ttl": 0}, r"cache\.near\.ttl: expected a number from 0\.001"),
        ({"ttl": "never"}, r"cache\.near\.ttl: expected a number"),
        ({"max_entries": 0}, r"cache\.near\.max_entries: expected a whole number from 1"),
        ({"size": 1}, r"cache\.near\.size: there is no such setting"),
    ],
)
def test_settings_that_cannot_be_are_told(near: object, told: str) -> None:
    """With their place, and what was expected."""
    with pytest.raises(ConfigurationError, match=told):
        Pilotis({"cache": {"near": near}})


async def test_a_provider_that_does_not_tell_is_refused(make: Make) -> None:
    """When the cache is made, if other processes see its entries, too."""
    with pytest.raises(ConfigurationError, match=r"cache\.near: .*HidesTracking.*TRACKING"):
        await make("HidesTracking")


def test_what_is_in_the_process_is_at_hand_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the setting may stay where another provider is put in the place of a shared one."""
    monkeypatch.setenv("PILOTIS_CACHE__NEAR", "true")
    with Pilotis.load() as app:
        app.cache.set("k", 1)
        assert [1, 1] == [app.cache.get("k"), app.cache.get("k")]
        assert app.cache.stats().near_hits == 0
