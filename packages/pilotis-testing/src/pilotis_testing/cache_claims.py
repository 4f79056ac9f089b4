"""Conformance of the cache: computing once among processes. Two caches over one backend stand for two processes."""

from __future__ import annotations

import functools
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from pilotis.bridge import Latch, pause
from pilotis.errors import InvalidInputError, UnsupportedError
from pilotis.providers import CLAIM_MARK, CacheCapability, CacheProvider, Entry

from pilotis_testing.cache_base import SERVICE, TTL, CacheTests, lacks, value_of, written
from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import soon, together

SINGLE_FLIGHT, PUSH = CacheCapability.SINGLE_FLIGHT, CacheCapability.PUSH
MINE, THEIRS = (CLAIM_MARK + letter * 24 for letter in (b"m", b"t"))
KEY = f"{SERVICE}::k"
STEP = 0.002
UNDECLARED: dict[str, Callable[[CacheProvider], Awaitable[object]]] = {
    "claim": lambda provider: provider.claim({"k": None}, MINE, TTL),
    "settle": lambda provider: provider.settle({"k": None}, MINE),
    "await_change": lambda provider: provider.await_change("k", MINE, TTL),
}
REPLACEMENTS: dict[str, Callable[[Any], Awaitable[object]]] = {
    "set": lambda cache: cache.set("k", "newer"),
    "delete": lambda cache: cache.delete("k"),
    "invalidate": lambda cache: cache.invalidate("k"),
}


class ClaimTests(CacheTests):
    """Claims, and what `get_or_set` does with them."""

    @pytest.fixture
    def passing(self, provider: CacheProvider, clock: ManualClock) -> Iterator[None]:
        """Time that passes by itself, where who waits asks now and then. It stands still where he is told."""
        over = threading.Event()

        def pass_by() -> None:
            while not over.wait(STEP):
                clock.advance(STEP)

        thread = threading.Thread(target=pass_by, daemon=True)
        if lacks(provider, PUSH):
            thread.start()
        yield
        over.set()
        if thread.is_alive():
            thread.join()

    @pytest.mark.parametrize("verb", UNDECLARED)
    async def test_claims_are_declared_or_refused(self, entries: CacheProvider, verb: str) -> None:
        """Without the capability each of the verbs is an UnsupportedError; with it, none is."""
        if lacks(entries, SINGLE_FLIGHT):
            with pytest.raises(UnsupportedError, match="SINGLE_FLIGHT"):
                await UNDECLARED[verb](entries)
        else:
            await UNDECLARED[verb](entries)

    async def test_a_claim_takes_what_is_free(self, entries: CacheProvider) -> None:
        """It is the entry then; elsewhere it tells what is there and how long that lasts, and changes nothing."""
        if lacks(entries, SINGLE_FLIGHT):
            return
        await written(entries, TTL, short=b"1")
        await written(entries, None, good=b"2")
        free, short, good = await entries.claim({"free": None, "short": b"x", "good": None}, MINE, TTL)
        assert free is None
        assert short is not None
        assert ("short", b"1") == (short.key, short.value)
        assert short.ttl is not None
        assert TTL / 2 < short.ttl <= TTL
        assert Entry("good", b"2", None) == good
        assert [MINE, b"1", b"2"] == await entries.read(["free", "short", "good"])

    async def test_a_claim_takes_the_place_of_what_is_named(self, entries: CacheProvider) -> None:
        """To the last byte, whether it is a value or somebody else's claim."""
        if lacks(entries, SINGLE_FLIGHT):
            return
        await written(entries, None, value=b"\x00old\xff", claim=THEIRS)
        assert await entries.claim({"value": b"\x00old\xff", "claim": THEIRS}, MINE, TTL) == [None, None]
        assert await entries.read(["value", "claim"]) == [MINE, MINE]

    async def test_of_several_claimers_at_once_one_succeeds(self, entries: CacheProvider) -> None:
        """The others are told of its claim."""
        if lacks(entries, SINGLE_FLIGHT):
            return
        marks = [CLAIM_MARK + bytes([number]) * 24 for number in range(8)]
        answers = await together(*[functools.partial(entries.claim, {"k": None}, mark, TTL) for mark in marks])
        winner = await value_of(entries, "k")
        others = {entry.value for (entry,) in answers if entry is not None}
        assert [mark for mark, (entry,) in zip(marks, answers, strict=True) if entry is None] == [winner]
        assert others == {winner}

    async def test_a_claim_is_over_with_its_lease(self, entries: CacheProvider, clock: ManualClock) -> None:
        """Then it is as if it had never been, also for who made it."""
        if lacks(entries, SINGLE_FLIGHT):
            return
        await entries.claim({"k": None}, MINE, TTL)
        clock.advance(TTL * 1.5)
        assert await value_of(entries, "k") is None
        assert await entries.settle({"k": Entry("k", b"late", None)}, MINE) == [False]
        assert await entries.claim({"k": None}, THEIRS, TTL) == [None]

    async def test_results_take_the_place_of_their_claim(self, entries: CacheProvider, clock: ManualClock) -> None:
        """Each with a ttl of its own; None gives the claim back."""
        if lacks(entries, SINGLE_FLIGHT):
            return
        await entries.claim({"short": None, "good": None, "none": None}, MINE, TTL * 4)
        results = {"short": Entry("short", b"1", TTL), "good": Entry("good", b"", None), "none": None}
        assert await entries.settle(results, MINE) == [True, True, True]
        assert [b"1", b"", None] == await entries.read(["short", "good", "none"])
        clock.advance(TTL * 1.5)
        assert [None, b""] == await entries.read(["short", "good"])

    async def test_results_take_the_place_of_nothing_else(self, entries: CacheProvider) -> None:
        """A value, somebody else's claim and nothing at all stay as they are."""
        if lacks(entries, SINGLE_FLIGHT):
            return
        await written(entries, None, value=b"1", claim=THEIRS)
        late = {key: Entry(key, b"late", None) for key in ("value", "claim", "nothing")}
        assert await entries.settle(late, MINE) == [False, False, False]
        assert await entries.settle(dict.fromkeys(late), MINE) == [False, False, False]
        assert [b"1", THEIRS, None] == await entries.read(list(late))

    async def test_a_claim_is_renewed_by_itself(self, entries: CacheProvider, clock: ManualClock) -> None:
        """It lasts for another lease from then on."""
        if lacks(entries, SINGLE_FLIGHT):
            return
        await entries.claim({"k": None}, MINE, TTL)
        clock.advance(TTL * 0.7)
        assert await entries.settle({"k": Entry("k", MINE, TTL)}, MINE) == [True]
        clock.advance(TTL * 0.7)
        assert await value_of(entries, "k") == MINE

    @pytest.mark.usefixtures("passing")
    @pytest.mark.parametrize("result", [Entry("k", b"1", None), None], ids=["stored", "given back"])
    async def test_who_waits_is_woken(self, entries: CacheProvider, clock: ManualClock, result: Entry | None) -> None:
        """All of them, by the settlement of their key alone; one that is over is not waited for.

        With PUSH the clock stands still meanwhile: they are told, and do not ask.
        """
        if lacks(entries, SINGLE_FLIGHT):
            return
        woken: list[bool] = []
        await entries.claim({"k": None, "l": None}, MINE, TTL)

        async def wait() -> None:
            woken.append(await entries.await_change("k", MINE, 10))

        async def settle() -> None:
            await soon(lambda: clock.waiting >= 3)
            await entries.settle({"l": None}, MINE)
            await entries.settle({"k": Entry("k", MINE, TTL)}, MINE)
            await pause(0.03)  # long enough for somebody who was woken by that to say so
            assert woken == []
            await entries.settle({"k": result}, MINE)
            try:
                await soon(lambda: len(woken) == 3, 5)
            finally:
                clock.advance(20)  # for who was not woken

        await together(wait, wait, wait, settle)
        assert woken == [True] * 3
        assert await entries.await_change("k", MINE, 10) is True

    async def test_waiting_has_an_end(self, entries: CacheProvider, clock: ManualClock) -> None:
        """False after the timeout, and the claim stays."""
        if lacks(entries, SINGLE_FLIGHT):
            return
        await entries.claim({"k": None}, MINE, TTL * 4)

        async def move() -> bool:
            await soon(lambda: clock.waiting > 0)
            clock.advance(TTL * 1.5)
            return False

        assert [False, False] == await together(lambda: entries.await_change("k", MINE, TTL), move)
        assert await value_of(entries, "k") == MINE

    @pytest.mark.usefixtures("passing")
    async def test_processes_compute_a_value_once(self, cache: Any, other: Any, provider: CacheProvider) -> None:
        """Whoever comes second gets the result of the first."""
        if lacks(provider, SINGLE_FLIGHT):
            return
        first = Computation()
        together_with = together(
            lambda: cache.get_or_set("k", first), lambda: first.during(lambda: other.get_or_set("k", refuse))
        )
        assert ["new", "new"] == await together_with
        assert await other.get("k") == "new"
        assert (cache.stats().factory_calls, other.stats().factory_calls) == (1, 0)

    @pytest.mark.usefixtures("passing")
    async def test_processes_compute_many_values_once(self, cache: Any, other: Any, provider: CacheProvider) -> None:
        """Each computes what the other does not, and neither waits before that is done."""
        if lacks(provider, SINGLE_FLIGHT):
            return
        first = Computation()

        async def both(keys: list[str]) -> dict[str, str]:
            return dict.fromkeys(keys, await first())

        def own(keys: list[str]) -> dict[str, str]:
            first.gate.set()
            return dict.fromkeys(keys, "own")

        answers = await together(
            lambda: cache.get_or_set_many(["a", "b"], both),
            lambda: first.during(lambda: other.get_or_set_many(["b", "c", "d"], own), waits=False),
        )
        assert [{"a": "new", "b": "new"}, {"b": "new", "c": "own", "d": "own"}] == answers

    @pytest.mark.usefixtures("passing")
    async def test_a_failed_factory_leaves_it_to_the_next(
        self, cache: Any, other: Any, provider: CacheProvider
    ) -> None:
        """Its caller gets the error, and who waits elsewhere computes."""
        if lacks(provider, SINGLE_FLIGHT):
            return
        first = Computation()
        first.error = ZeroDivisionError()

        async def fail() -> str:
            with pytest.raises(ZeroDivisionError):
                await cache.get_or_set("k", first)
            return "failed"

        answers = await together(fail, lambda: first.during(lambda: other.get_or_set("k", lambda: "next")))
        assert ["failed", "next"] == answers
        assert await cache.get("k") == "next"

    @pytest.mark.parametrize("verb", REPLACEMENTS)
    async def test_what_another_process_removes_is_not_kept(
        self, cache: Any, other: Any, provider: CacheProvider, verb: str
    ) -> None:
        """A value that was computed before does not come after it; its caller gets it all the same."""
        if lacks(provider, SINGLE_FLIGHT):
            return
        first = Computation()

        async def replace() -> str:
            await soon(first.begun.is_set)
            await REPLACEMENTS[verb](other)
            first.gate.set()
            return "replaced"

        assert ["new", "replaced"] == await together(lambda: cache.get_or_set("k", first), replace)
        assert await other.get("k") == ("newer" if verb == "set" else None)

    async def test_who_comes_after_an_invalidation_waits_for_nobody(
        self, cache: Any, other: Any, provider: CacheProvider
    ) -> None:
        """What is computed with tags from before would not do; and it does not overwrite what does."""
        if lacks(provider, SINGLE_FLIGHT):
            return
        first = Computation()

        async def overtake() -> str:
            await soon(first.begun.is_set)
            await other.invalidate_tags("t")
            value = await other.get_or_set("k", lambda: "newer", tags=["t"])
            first.gate.set()
            return value

        assert ["new", "newer"] == await together(lambda: cache.get_or_set("k", first, tags=["t"]), overtake)
        assert await cache.get("k") == "newer"

    async def test_a_claim_is_no_value(self, cache: Any, entries: CacheProvider) -> None:
        """A miss that stays for those who read; in the way of `add`, and not of `set`."""
        if lacks(entries, SINGLE_FLIGHT):
            return
        await entries.claim({KEY: None}, MINE, TTL)
        assert await cache.get("k", "default") == "default"
        assert await cache.get_many(["k"]) == {}
        assert await cache.add("k", 1) is False
        assert await value_of(entries, KEY) == MINE
        await cache.set("k", 1)
        assert await cache.get("k") == 1

    async def test_a_claim_is_prolonged_by_its_owner_alone(
        self, cache: Any, entries: CacheProvider, clock: ManualClock
    ) -> None:
        """`touch` finds no value there, and `increment` counts on none; the claim ends when it would have."""
        if lacks(entries, SINGLE_FLIGHT):
            return
        await entries.claim({KEY: None}, MINE, TTL)
        assert [False, False] == [await cache.touch("k", TTL * 9), await cache.touch("k", None)]
        with pytest.raises(InvalidInputError):
            await cache.increment("k", ttl=TTL * 9)
        assert await value_of(entries, KEY) == MINE
        clock.advance(TTL * 1.5)
        assert await cache.add("k", 1) is True

    @pytest.mark.usefixtures("passing")
    async def test_a_process_that_died_holds_up_nobody_beyond_its_lease(
        self, cache: Any, other: Any, provider: CacheProvider, clock: ManualClock
    ) -> None:
        """When its claim is over, one of those who wait computes, and the others get that."""
        if lacks(provider, SINGLE_FLIGHT):
            return
        assert await cache.get("k") is None  # it is open
        await provider.claim({KEY: None}, mark_of(cache), TTL)

        async def move() -> str:
            await soon(lambda: clock.waiting > 1)
            clock.advance(TTL * 1.5)
            return "over"

        asking = [functools.partial(each.get_or_set, "k", lambda: "next") for each in (cache, other)]
        assert ["next", "next", "over"] == await together(*asking, move)
        assert cache.stats().factory_calls + other.stats().factory_calls == 1


class Computation:
    """A factory that goes on when it is told to, or when somebody else waits for it."""

    def __init__(self) -> None:
        self.begun = Latch()
        self.gate = Latch()
        self.error: Exception | None = None

    async def __call__(self) -> str:
        self.begun.set()
        await self.gate.wait(10)
        if self.error is not None:
            raise self.error
        return "new"

    async def during(self, ask: Callable[[], Awaitable[Any]], *, waits: bool = True) -> Any:
        """Ask once it has begun, and have it go on a little later."""
        await soon(self.begun.is_set)
        if waits:
            threading.Timer(0.05, self.gate.set).start()
        return await ask()


def refuse() -> str:
    """A factory that must not be called."""
    raise AssertionError("it was computed twice")


def mark_of(cache: Any) -> bytes:
    """Return the mark of a process that computes without tags, and is none of those in the test."""
    mark = cache._filler._claims._mark({})
    return mark[:1] + b"another!" + mark[9:]
