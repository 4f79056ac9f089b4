"""What is computed in the background, and what is refused before anything is computed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from pilotis.bridge import drive
from pilotis.context import Context
from pilotis.errors import ConfigurationError, InvalidInputError
from pilotis.modules.cache import Cache
from pilotis.providers import Entry
from pilotis.scopes import held_locks, stage
from pilotis_cache_memory import MemoryCache
from pilotis_testing import ManualClock
from pilotis_testing.clock import until

request: ContextVar[str] = ContextVar("request", default="none")


@pytest.fixture
def backend() -> MemoryCache:
    """The backend."""
    return MemoryCache()


@pytest.fixture
def cache(backend: MemoryCache, clock: ManualClock) -> Iterator[Cache]:
    """A cache whose clock stands still."""
    context = Context(clock=clock)
    cache = Cache(backend, context=context)
    yield cache
    cache.close()
    context.runtime.stop()


class Outer:
    """A stage around the caller."""

    async def stage(self, bus: Any, messages: Any) -> None:
        raise AssertionError("nothing is emitted")


def test_a_factory_in_the_background_sees_the_variables_of_the_application_alone(cache: Cache) -> None:
    """Those that say which group or lock the caller is in are not handed on: the work may outlive them."""
    tokens = request.set("mine"), stage.set(Outer()), held_locks.set(frozenset(["k"]))
    try:
        seen = cache.get_or_set("k", lambda: [request.get(), stage.get(), len(held_locks.get())], timeout=5)
    finally:
        for variable, token in zip((request, stage, held_locks), tokens, strict=True):
            variable.reset(token)  # pyright: ignore[reportArgumentType] - each with its own
    assert seen == ["mine", None, 0]


def test_a_factory_that_exits_does_not_end_the_background(cache: Cache, clock: ManualClock) -> None:
    """In a refresh it counts as a failure; where a caller waits, it is the caller's."""

    def leave() -> int:
        sys.exit(3)

    cache.set("k", 1)
    assert cache.get_or_set("s", lambda: 1, ttl=1, stale_for=60) == 1
    clock.advance(2)
    assert cache.get_or_set("s", leave, ttl=1, stale_for=60) == 1
    until(lambda: cache.stats().errors == 1)
    with pytest.raises(SystemExit):
        cache.get_or_set("t", leave, timeout=5)
    assert cache.get_or_set("t", lambda: 5, timeout=5) == 5


def test_a_pattern_and_clear_win_over_a_computation(cache: Cache) -> None:
    """As every removal does."""
    for remove in (lambda: cache.invalidate("k*"), cache.clear):

        def overtaken(remove: Callable[[], object] = remove) -> int:
            remove()
            return 1

        def overtaken_many(keys: list[str], compute: Callable[[], int] = overtaken) -> dict[str, int]:
            return {key: compute() for key in keys}

        assert cache.get_or_set("k1", overtaken) == 1
        assert cache.get("k1") is None
        assert cache.get_or_set_many(["k1"], overtaken_many) == {"k1": 1}
        assert cache.get("k1") is None


def test_corrupted_heads_are_misses(cache: Cache, backend: MemoryCache) -> None:
    """Also where a text in them is none."""
    assert cache.add("k", 1)
    head = b"\x93\xc0\x00\x81\xa1\xa8\x05"
    drive(backend.write([Entry("pilotis::k", b"\x02\x00\x00\x00\x07" + head + b"\x01\x07", None)]))
    assert cache.get("k", "missing") == "missing"
    assert drive(backend.read(["pilotis::k"])) == [None]


REFUSED: dict[str, Callable[[Cache], object]] = {
    "values": lambda cache: cache.set_many(["a"]),  # pyright: ignore[reportArgumentType]
    "key": lambda cache: cache.set(["a"], 1),  # pyright: ignore[reportArgumentType]
    "factory": lambda cache: cache.get_or_set("k", 5),  # pyright: ignore[reportArgumentType, reportUnknownLambdaType]
    "refresh_ahead": lambda cache: cache.get_or_set("k", int, refresh_ahead=10**400),
}


@pytest.mark.parametrize("place", REFUSED)
def test_what_cannot_be_used_is_refused_by_its_place(cache: Cache, place: str) -> None:
    """Before anything is stored."""
    with pytest.raises(InvalidInputError, match=f"^{place}: expected"):
        REFUSED[place](cache)
    assert cache.stats().sets == 0


def test_only_functions_can_be_cached(cache: Cache) -> None:
    """And their key is a text."""
    with pytest.raises(ConfigurationError, match="expected a function"):
        cache.cached()(5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigurationError, match="int does not tell its parameters"):
        cache.cached()(int)
    with pytest.raises(InvalidInputError, match="key: expected text"):
        cache.cached(key=5)  # pyright: ignore[reportArgumentType]
