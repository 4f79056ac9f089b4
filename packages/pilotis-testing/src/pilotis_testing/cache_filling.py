"""Conformance of the cache: computing what is missing."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from pilotis.bridge import Latch, running_loop
from pilotis.errors import InvalidInputError, OperationTimeoutError, ReentrantCallError, TypeMismatchError
from pilotis.modules.cache.refreshing import REST_SECONDS
from pilotis.providers import CacheCapability, CacheProvider

from pilotis_testing.cache_base import TTL, CacheTests, in_colour, lacks
from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import Colour, soon, together

REMOVALS: dict[str, Callable[[Any], Awaitable[object]]] = {
    "delete": lambda cache: cache.adelete("k"),
    "set": lambda cache: cache.aset("k", 7),
    "touch": lambda cache: cache.atouch("k", 0),
    "invalidate": lambda cache: cache.ainvalidate("k"),
}
"""What may happen to a key while it is computed."""


@dataclass
class Point:
    x: int


class Calls:
    """A factory that numbers its calls, and may wait, fail or take time."""

    def __init__(self) -> None:
        self.count = 0
        self.begun = Latch()
        self.gate = Latch()
        self.gate.set()
        self.before: Callable[[], object] = lambda: None

    def close(self) -> None:
        """Have the next calls wait."""
        self.begun, self.gate = Latch(), Latch()

    async def __call__(self) -> int:
        self.count = mine = self.count + 1
        self.begun.set()
        await self.gate.wait(10)
        self.before()
        return mine


class FillingTests(CacheTests):
    """get_or_set, get_or_set_many, cached."""

    @pytest.fixture
    def calls(self) -> Calls:
        """A factory."""
        return Calls()

    async def test_a_missing_value_is_computed_and_kept(self, cache: Any, calls: Calls, clock: ManualClock) -> None:
        """For its ttl; then it is computed again."""
        assert [1, 1] == [await cache.get_or_set("k", calls, ttl=TTL), await cache.get_or_set("k", calls, ttl=TTL)]
        assert await cache.get("k") == 1
        clock.advance(TTL * 1.5)
        assert await cache.get_or_set("k", calls, ttl=TTL) == 2

    async def test_a_factory_is_plain_or_async(self, cache: Any) -> None:
        """A plain one may use blocking verbs, under a loop too; an async one runs on its caller's loop."""
        loop = running_loop()

        async def at_home() -> bool:
            return loop is None or running_loop() is loop

        assert await cache.get_or_set("async", at_home) is True
        assert await cache.get_or_set("plain", lambda: running_loop() is None) is True

    async def test_none_is_kept(self, cache: Any, calls: Calls) -> None:
        """A cached None is a hit."""

        async def nothing() -> None:
            await calls()

        assert [None, None] == [await cache.get_or_set("k", nothing), await cache.get_or_set("k", nothing)]
        assert calls.count == 1

    async def test_a_miss_returns_what_a_hit_would(self, cache: Any) -> None:
        """Encoded, then decoded; the type is the factory's own, unless another is named."""

        def point() -> Point:
            return Point(1)

        for _ in range(2):
            assert await cache.get_or_set("tuple", lambda: (1, 2)) == [1, 2]
            assert await cache.get_or_set("typed", point) == Point(1)
            assert await cache.get_or_set("named", lambda: {"x": 1}, type=Point) == Point(1)

    async def test_a_result_that_does_not_fit_is_not_kept(self, cache: Any) -> None:
        """The caller learns it at once, and nobody reads it."""
        with pytest.raises(TypeMismatchError, match="value"):
            await cache.get_or_set("k", lambda: "text", type=Point)
        assert await cache.get("k") is None

    async def test_one_factory_call_for_many_callers(self, cache: Any, calls: Calls) -> None:
        """They share the result, each as an object of its own."""
        calls.close()

        async def factory() -> list[int]:
            return [await calls()]

        async def ask() -> list[int]:
            if calls.begun.is_set():
                calls.gate.set()
            value = await cache.get_or_set("k", factory)
            value.append(0)
            return value

        threading.Timer(0.05, calls.gate.set).start()
        assert [[1, 0]] * 8 == await together(*[ask] * 8)
        assert calls.count == 1
        assert await cache.get("k") == [1]

    async def test_who_comes_after_an_invalidation_gets_a_new_value(self, cache: Any, calls: Calls) -> None:
        """And does not share in a computation from before."""
        calls.close()

        async def ask() -> int:
            return await cache.get_or_set("k", calls, tags=["t"])

        async def ask_later() -> int:
            await soon(calls.begun.is_set)
            await cache.invalidate_tags("t")
            calls.gate.set()
            return await ask()

        assert [1, 2] == await together(ask, ask_later)
        assert await cache.get("k") in (None, 2)  # the earlier one may have been stored last, and is a miss

    async def test_a_failing_factory_fails_its_callers(self, cache: Any, calls: Calls) -> None:
        """With its own error, unchanged; nothing is kept, and the next caller tries again."""

        def fail() -> None:
            raise ZeroDivisionError("no")

        calls.before = fail
        with pytest.raises(ZeroDivisionError, match="no"):
            await cache.get_or_set("k", calls)
        calls.before = lambda: None
        assert await cache.get_or_set("k", calls) == 2

    @pytest.mark.parametrize("timeout", [None, TTL])
    async def test_a_factory_that_asks_for_its_own_key(self, cache: Any, colour: Colour, timeout: float | None) -> None:
        """It would wait for itself."""

        async def ask() -> int:
            return await cache.get_or_set("k", in_colour(colour, ask), timeout=timeout)

        async def ask_many(keys: list[str]) -> dict[str, Any]:
            return await cache.get_or_set_many(keys, in_colour(colour, ask_many))

        with pytest.raises(ReentrantCallError, match="k"):
            await ask()
        with pytest.raises(ReentrantCallError, match="k"):
            await ask_many(["k"])

    async def test_a_ttl_may_be_a_function_of_the_value(self, cache: Any, calls: Calls, clock: ManualClock) -> None:
        """Zero does not keep the value, None keeps it for good."""
        lifetimes: dict[int, float | None] = {1: 0, 2: 0, 3: None, 4: TTL}

        def ttl(value: int) -> float | None:
            return lifetimes[value]

        for key in ("zero", "zero", "good", "short"):
            await cache.get_or_set(key, calls, ttl=ttl)
        assert await cache.get_many(["zero", "good", "short"]) == {"good": 3, "short": 4}
        clock.advance(TTL * 20)
        assert await cache.get_many(["zero", "good", "short"]) == {"good": 3}

    async def test_stale_values_are_served_while_one_refresh_runs(
        self, cache: Any, calls: Calls, clock: ManualClock
    ) -> None:
        """At once; `get` does not know them; after `stale_for` they are gone."""

        async def ask() -> int:
            return await cache.get_or_set("k", calls, ttl=TTL, stale_for=TTL * 4)

        assert await ask() == 1
        clock.advance(TTL * 2)
        calls.close()
        assert [1, 1, 1] == [await ask(), await ask(), await ask()]
        assert await cache.get("k") is None
        assert cache.stats().stale == 3
        calls.gate.set()
        await soon(lambda: cache.stats().sets == 2)
        assert [2, 2] == [await ask(), calls.count]
        clock.advance(TTL * 6)
        assert await ask() == 3

    async def test_a_failed_refresh_leaves_the_stale_value(
        self, cache: Any, calls: Calls, clock: ManualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Readers are served on, the failure is logged and counted, and the next attempt is not made at once."""

        def fail() -> None:
            raise ZeroDivisionError

        await cache.get_or_set("k", calls, ttl=TTL, stale_for=TTL * 4)
        clock.advance(TTL * 2)
        calls.before = fail
        for errors in (1, 2):
            assert await cache.get_or_set("k", calls, ttl=TTL, stale_for=TTL * 4) == 1
            await soon(lambda errors=errors: cache.stats().errors == errors and "'k'" in caplog.text)
            await soon(lambda: not cache._filler.refreshes.under_way)
            assert await cache.get_or_set("k", calls, ttl=TTL, stale_for=TTL * 4) == 1
            assert cache.stats().factory_calls == 1 + errors
            clock.advance(REST_SECONDS)

    @pytest.mark.parametrize("verb", REMOVALS)
    async def test_a_value_removed_while_it_is_computed_is_not_kept(self, cache: Any, calls: Calls, verb: str) -> None:
        """Whatever removes or replaces it wins over the computation that began before; its caller gets the result."""
        left = 7 if verb == "set" else None

        async def overtaken() -> int:
            await REMOVALS[verb](cache._thing)
            return await calls()

        assert await cache.get_or_set("k", overtaken) == 1
        assert left == await cache.get("k")
        assert (left or 2) == await cache.get_or_set("k", calls)

    async def test_an_invalidated_value_is_not_served_stale(self, cache: Any, calls: Calls, clock: ManualClock) -> None:
        """It is wrong, not old."""
        await cache.get_or_set("k", calls, ttl=TTL, stale_for=TTL * 4, tags=["t"])
        clock.advance(TTL * 2)
        await cache.invalidate_tags("t")
        assert await cache.get_or_set("k", calls, ttl=TTL, stale_for=TTL * 4, tags=["t"]) == 2

    async def test_a_costly_value_is_refreshed_ahead(self, cache: Any, calls: Calls, clock: ManualClock) -> None:
        """The value is served while it is computed anew before its ttl is over; a cheap one is not."""

        async def ask(key: str) -> int:
            return await cache.get_or_set(key, calls, ttl=1000, refresh_ahead=1e9)

        assert [1, 1] == [await ask("cheap"), await ask("cheap")]
        calls.before = lambda: clock.advance(1)
        assert [2, 2] == [await ask("costly"), await ask("costly")]
        await soon(lambda: cache.stats().sets == 3)
        assert [3, 1] == [await cache.get("costly"), await cache.get("cheap")]

    async def test_a_timeout_ends_the_wait_and_not_the_factory(
        self, cache: Any, provider: CacheProvider, calls: Calls, clock: ManualClock
    ) -> None:
        """The caller gets an error in time; the result is kept when it comes, and nobody computes it twice."""
        calls.close()
        renewals = 0 if lacks(provider, CacheCapability.SINGLE_FLIGHT) else 1

        async def ask() -> int:
            return await cache.get_or_set("k", calls, timeout=TTL)

        async def move() -> int:
            await soon(lambda: clock.waiting > renewals and calls.begun.is_set())
            clock.advance(TTL * 1.5)
            return 0

        with pytest.raises(OperationTimeoutError, match="'k'"):
            await together(ask, move)
        calls.gate.set()
        await soon(lambda: cache.stats().sets == 1)
        assert [1, 1] == [await ask(), calls.count]

    async def test_within_its_timeout_a_factory_is_as_always(self, cache: Any, calls: Calls) -> None:
        """Its result and its error."""

        def fail() -> None:
            raise ZeroDivisionError

        assert await cache.get_or_set("k", calls, timeout=TTL) == 1
        calls.before = fail
        with pytest.raises(ZeroDivisionError):
            await cache.get_or_set("other", calls, timeout=TTL)

    async def test_many_missing_values_are_one_call(self, cache: Any) -> None:
        """With the missing keys, in order; what it leaves out is left out, what nobody asked for is ignored."""
        asked: list[list[str]] = []

        def factory(missing: list[str]) -> dict[str, Point]:
            asked.append(missing)
            return {key: Point(len(key)) for key in [*missing, "extra"] if key != "none"}

        await cache.set("aa", Point(20))
        expected = {"b": Point(1), "aa": Point(20), "ccc": Point(3)}
        for _ in range(2):
            assert await cache.get_or_set_many(["b", "aa", "ccc", "none"], factory) == expected
        assert [["b", "ccc", "none"], ["none"]] == asked
        assert await cache.get("extra") is None
        assert await cache.get_or_set_many([], factory) == {}

    async def test_many_callers_with_keys_in_common(self, cache: Any) -> None:
        """Each key is computed once, whoever asks for which."""
        asked: list[str] = []
        everyone = threading.Barrier(2, timeout=0.2)

        def factory(missing: list[str]) -> dict[str, str]:
            asked.extend(missing)
            try:
                everyone.wait()  # long enough for the other caller to come, who may have keys of its own to compute
            except threading.BrokenBarrierError:
                everyone.reset()
            return {key: key * 2 for key in missing}

        first, second = await together(
            lambda: cache.get_or_set_many(["a", "b"], factory), lambda: cache.get_or_set_many(["b", "c"], factory)
        )
        assert ({"a": "aa", "b": "bb"}, {"b": "bb", "c": "cc"}) == (first, second)
        assert ["a", "b", "c"] == sorted(asked)

    async def test_many_from_a_factory_of_something_else(self, cache: Any) -> None:
        """It must return a mapping."""
        with pytest.raises(InvalidInputError, match="mapping"):
            await cache.get_or_set_many(["a"], list[str])

    async def test_cached_functions(self, cache: Any, colour: Colour, clock: ManualClock) -> None:
        """Kept by key, dropped by tag, by arguments and by time."""
        asked: list[int] = []

        async def point(x: int, *, shift: int = 0) -> Point:
            asked.append(x)
            return Point(x + shift)

        kept = cache.cached(ttl=TTL, key="point:{x}", tags=("point", "x:{x}"))(in_colour(colour, point))
        ask: Any = kept if colour is Colour.ASYNC else _awaited(kept)
        forget: Any = kept.ainvalidate if colour is Colour.ASYNC else _awaited(kept.invalidate)
        assert [Point(1), Point(1), Point(2)] == [await ask(1), await ask(1), await ask(2)]
        assert [1, 2] == asked
        await cache.invalidate_tags("x:1")
        assert [await ask(1), await ask(2)] == [Point(1), Point(2)]
        assert [1, 2, 1] == asked
        assert [True, False] == [await forget(2), await forget(2)]
        clock.advance(TTL * 1.5)
        await ask(1)
        assert [1, 2, 1, 1] == asked
        assert await cache.get("point:1", type=Point) == Point(1)


def _awaited(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have a plain function awaited, as async ones are."""

    async def call(*args: Any) -> Any:
        return function(*args)

    return call
