"""The memory provider's own: its options, its bound, forks."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from pilotis.bridge import drive
from pilotis.errors import ConfigurationError
from pilotis.modules.cache import Cache
from pilotis.providers import Context, Entry
from pilotis_cache_memory import MemoryCache, MemoryCacheOptions
from pilotis_cache_memory.plugin import pilotis_provider
from pilotis_testing import Colour, ManualClock


def test_the_plugin_names_the_provider() -> None:
    """It is what discovery finds."""
    assert pilotis_provider() is MemoryCache


def test_it_holds_ten_thousand_entries_unless_told() -> None:
    """The one that was used least recently goes."""
    provider = MemoryCache()
    keys = [str(number) for number in range(10_001)]
    drive(provider.write([Entry(key, b"1", None) for key in keys]))
    assert [None, b"1"] == drive(provider.read(["0", "1"]))


@pytest.mark.parametrize("number", [0, -1, 10**400])
def test_a_bound_that_cannot_be_kept_is_refused(number: int) -> None:
    """Before anything is stored, and with the place in the settings."""
    with pytest.raises(ConfigurationError, match="max_entries: expected a number from 1"):
        MemoryCache(MemoryCacheOptions(max_entries=number))


def test_closing_frees_the_entries() -> None:
    """Nothing is kept for a provider that is opened again."""
    provider = MemoryCache()
    drive(provider.write([Entry("k", b"1", None)]))
    drive(provider.close())
    drive(provider.open())
    assert drive(provider.read(["k"])) == [None]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_after_a_fork_the_child_goes_on() -> None:
    """A lock that somebody held at that moment is nobody's in the child; what was stored is there."""
    provider = MemoryCache()
    drive(provider.write([Entry("k", b"1", None)]))
    with provider._lock:  # pyright: ignore[reportPrivateUsage]
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            os._exit(in_the_child(provider))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert drive(provider.read(["k", "n"])) == [b"1", None]


def in_the_child(provider: MemoryCache) -> int:
    """Return 0 if what was stored is there, and more can be."""
    try:
        drive(provider.write([Entry("n", b"2", None)]))
        return 0 if drive(provider.read(["k", "n"])) == [b"1", b"2"] else 1
    except BaseException:
        return 2


def test_what_needs_no_thread_starts_none() -> None:
    """Reading, writing and computing happen on the caller's thread."""
    context = Context()
    before = threading.active_count()
    cache = Cache(MemoryCache(), context=context)
    cache.set("k", 1, tags=["t"])
    assert [1, 2] == [cache.get("k"), cache.get_or_set("n", lambda: 2)]
    assert not context.runtime.started
    assert threading.active_count() == before
    cache.close()


@pytest.mark.parametrize("jump", [86_400, -86_400], ids=["ahead", "back"])
async def test_the_wall_clock_may_jump(clock: ManualClock, jump: float, colour: Colour) -> None:
    """An entry lasts for as long as it says, whatever the time is taken to be."""
    cache = MemoryCache()
    cache.context = Context(clock=clock)
    await cache.write([Entry("k", b"1", 60)])
    clock.jump(jump)
    assert [b"1"] == await cache.read(["k"])
    clock.advance(59.9)
    assert [b"1"] == await cache.read(["k"])
    clock.advance(0.2)
    assert [None] == await cache.read(["k"])
