"""What settings do to stored values: compressed, signed, pickled, ending a little sooner."""

from __future__ import annotations

import pickle
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pilotis.errors import ConfigurationError, InvalidInputError, TypeMismatchError
from pilotis.modules.cache import Cache, envelope
from pilotis.providers import Context, Entry
from pilotis.settings.model import CacheSettings
from pilotis_cache_memory import MemoryCache
from pilotis_testing import Colour, ManualClock

SECRET = "a secret of some length"
LONG = "lamp " * 500
MIB = 1024 * 1024
Make = Callable[..., Any]


class Basket:
    """A thing that only pickles can keep."""

    def __init__(self, *lines: object) -> None:
        self.lines = lines

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Basket) and self.lines == other.lines

    __hash__ = object.__hash__


@pytest.fixture
def backend() -> MemoryCache:
    """The one backend of all caches of a test."""
    return MemoryCache()


@pytest.fixture
def make(backend: MemoryCache, clock: ManualClock, colour: Colour) -> Iterator[Make]:
    """Caches over the one backend, each with settings of its own, speaking in the colour of the test."""
    context = Context(name="shop", clock=clock)

    def make(**settings: Any) -> Any:
        return colour.voice(Cache(backend, settings=CacheSettings(**settings), context=context))

    yield make
    context.runtime.stop()


async def stored(backend: MemoryCache, key: str = "k") -> bytes:
    (data,) = await backend.read([f"shop::{key}"])
    assert data is not None
    return data


async def put(backend: MemoryCache, data: bytes, key: str = "k") -> None:
    await backend.write([Entry(f"shop::{key}", data, None)])


# Compressed


async def test_a_long_value_is_compressed(make: Make, backend: MemoryCache) -> None:
    """Above the threshold; every reader can read it, whatever its own threshold."""
    cache, other = make(compress_above=1000), make()
    await cache.set("k", LONG, tags=["t"])
    assert len(await stored(backend)) < len(LONG) / 10
    await cache.set("plain", LONG[:900])
    assert len(await stored(backend, "plain")) > 900
    for reader in (cache, other):
        assert [LONG, {"k": LONG}] == [await reader.get("k"), await reader.get_many(["k"])]
        assert await reader.get_or_set("k", list, tags=["t"], type=str) == LONG


async def test_what_would_not_be_shorter_stays_as_it_is(make: Make, backend: MemoryCache) -> None:
    """Noise is stored as before."""
    noise = bytes((number * 7919 + number * number * 31) % 251 for number in range(64))
    await make(compress_above=1).set("k", noise)
    assert noise in await stored(backend)
    assert await make().get("k") == noise


@pytest.mark.parametrize(
    "data",
    [
        b"\x04",
        b"\x04\x01",
        b"\x04\x01junk",
        b"\x04\x01" + zlib.compress(b"\x01\xc3")[:-1],
        b"\x04\x01" + zlib.compress(b"\x04\x01x"),
        b"\x04\x00\x01\x81",
    ],
    ids=repr,
)
async def test_a_spoilt_packed_entry_is_a_miss_and_removed(make: Make, backend: MemoryCache, data: bytes) -> None:
    """Packed twice is spoilt, too: it would unpack without end."""
    cache = make()
    await cache.set("k", 1)
    await put(backend, data)
    assert await cache.get("k", "default") == "default"
    assert await backend.read(["shop::k"]) == [None]


async def test_a_bomb_is_a_miss_and_removed(
    make: Make, backend: MemoryCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A short entry that unpacks to more than any value has: no more than the limit is ever unpacked."""
    monkeypatch.setattr(envelope, "LONGEST_UNPACKED", MIB)
    cache = make()
    await cache.set("k", 1)
    await put(backend, b"\x04\x01" + zlib.compress(b"\x01\xc6" + bytes(64 * MIB)))
    tracemalloc.start()
    try:
        assert await cache.get("k", "default") == "default"
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()
    assert await backend.read(["shop::k"]) == [None]
    assert "removed a corrupted or foreign entry: 'shop::k'" in caplog.text


async def test_what_is_too_long_to_unpack_is_not_compressed(
    make: Make, backend: MemoryCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that whatever is written can be read: at the limit, too."""
    cache = make(compress_above=10)
    monkeypatch.setattr(envelope, "LONGEST_UNPACKED", MIB)
    for length, is_packed in ((MIB, True), (MIB + 1, False)):
        value = "x" * (length - 6)  # behind six bytes that tell what it is
        await cache.set("k", value)
        assert is_packed is (len(await stored(backend)) < MIB)
        assert await cache.get("k") == value


@pytest.mark.parametrize("data", [b"\x04\x04newer", b"\x04\x02pickle", b"\x05signed", b"\x1fnewer"], ids=repr)
async def test_a_form_for_other_readers_is_a_miss_and_stays(make: Make, backend: MemoryCache, data: bytes) -> None:
    """A flag that is not known, a pickle, a signature, a later version."""
    cache = make()
    await put(backend, data)
    assert await cache.get("k", "default") == "default"
    assert await cache.get_many(["k"]) == {}
    assert data == await stored(backend)


# Signed


async def test_signed_values_are_read_with_the_same_secret_only(make: Make, backend: MemoryCache) -> None:
    """For anybody else they are misses, and stay."""
    cache = make(secret=SECRET)
    await cache.set("k", {"price": 5}, tags=["t"])
    data = await stored(backend)
    for reader in (cache, make(secret=SECRET)):
        assert await reader.get("k") == {"price": 5}
        assert await reader.get_or_set("k", dict, tags=["t"]) == {"price": 5}
    for stranger in (make(), make(secret=SECRET.upper())):
        assert [None, {}] == [await stranger.get("k"), await stranger.get_many(["k"])]
    assert data == await stored(backend)


async def test_whatever_is_changed_in_a_signed_entry_makes_it_a_miss(make: Make, backend: MemoryCache) -> None:
    """Each of its bytes, the head and the signature included; what was never signed is one as well."""
    cache = make(secret=SECRET)
    await cache.set("k", "value", tags=["t"])
    data = await stored(backend)
    for place in range(len(data)):
        await put(backend, data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert await cache.get("k", "default") == "default", place
    for length in range(len(data)):
        await put(backend, data[:length])
        assert await cache.get("k", "default") == "default", length
    await put(backend, b"\x01\xa5value")
    assert await cache.get("k", "default") == "default"
    await put(backend, data)
    assert await cache.get("k") == "value"


def ones(keys: list[str]) -> dict[str, list[int]]:
    return {key: [1] for key in keys}


async def test_a_signature_is_for_one_key(make: Make, backend: MemoryCache) -> None:
    """An entry that was copied to another key is a miss there."""
    cache = make(secret=SECRET)
    await cache.set("role:anna", "admin")
    await put(backend, await stored(backend, "role:anna"), "role:ben")
    assert [None, "admin"] == [await cache.get("role:ben"), await cache.get("role:anna")]


async def test_all_verbs_work_with_a_secret(make: Make, backend: MemoryCache) -> None:
    """Numbers are left for the backend to count with, and tags are numbers."""
    cache = make(secret=SECRET, compress_above=100)
    assert [5, 7] == [await cache.increment("n", 5), await cache.increment("n", 2)]
    assert await cache.get("n") == 7
    assert [True, False] == [await cache.add("once", "first"), await cache.add("once", "second")]
    assert await cache.get("once") == "first"
    assert await cache.get_or_set("long", lambda: LONG, tags=["t"]) == LONG
    assert await cache.get_or_set("long", str, tags=["t"]) == LONG
    await cache.invalidate_tags("t")
    assert await cache.get("long") is None
    found = await cache.get_or_set_many(["a", "b"], ones)
    assert found == {"a": [1], "b": [1]} == await cache.get_many(["a", "b"])


def test_a_short_secret_is_refused(make: Make) -> None:
    """At once, and without showing it."""
    with pytest.raises(ConfigurationError, match=r"cache\.secret: expected at least 16 characters") as caught:
        make(secret="hunter2")
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(CacheSettings(secret="hunter2"))  # pyright: ignore[reportArgumentType] - made one


# Pickled


def test_pickles_without_a_secret_are_refused(make: Make) -> None:
    """Whoever can write to the backend could run code here."""
    with pytest.raises(ConfigurationError, match=r"cache\.serializer: .*set cache\.secret"):
        make(serializer="pickle")


async def test_pickles_keep_any_object(make: Make) -> None:
    """With its own type, also where it is long, tagged and computed; a miss returns what a hit would."""
    cache = make(serializer="pickle", secret=SECRET, compress_above=100)
    for basket in (Basket(1, {2}), Basket(LONG)):
        await cache.set("k", basket, tags=["t"])
        assert [basket, basket] == [await cache.get("k"), await cache.get("k", type=Basket)]
        computed = await cache.get_or_set(f"computed {len(basket.lines)}", lambda basket=basket: basket)
        assert computed == basket
        assert computed is not basket
    assert [3, 4] == [await cache.increment("n", 3), await cache.increment("n")]


async def test_a_pickle_of_another_type_is_a_miss_and_stays(make: Make) -> None:
    """Types are told by their class; what is no class is not looked at."""
    cache = make(serializer="pickle", secret=SECRET)
    await cache.set("k", Basket(1))
    assert await cache.get("k", "default", type=str) == "default"
    assert await cache.get("k", type=Basket | None) == Basket(1)
    assert await cache.get("k") == Basket(1)
    with pytest.raises(TypeMismatchError, match=r"expected str, got .*Basket"):
        await cache.get_or_set("other", lambda: Basket(1), type=str)


async def test_a_pickle_whose_class_is_gone_is_a_miss_and_stays(
    make: Make, backend: MemoryCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version of the application may have it."""
    cache = make(serializer="pickle", secret=SECRET)
    await cache.set("k", Basket(1))
    with monkeypatch.context() as patched:
        patched.delitem(globals(), "Basket")
        assert await cache.get("k", "default") == "default"
    assert await cache.get("k") == Basket(1)


async def test_a_forged_pickle_is_never_loaded(make: Make, backend: MemoryCache) -> None:
    """Nor one that lacks a signature, nor any by a cache that does not ask for pickles."""
    loaded: list[object] = []
    Trap.sprung = loaded
    forged = b"\x04\x02" + pickle.dumps(Trap())
    for reader in (make(), make(secret=SECRET), make(serializer="pickle", secret=SECRET)):
        for data in (forged, b"\x05" + bytes(32) + forged):
            await put(backend, data)
            assert await reader.get("k", "default") == "default"
    await make(serializer="pickle", secret=SECRET).set("k", Trap())
    assert await make(secret=SECRET).get("k", "default") == "default"
    assert loaded == []


async def test_what_cannot_be_pickled_is_refused(make: Make) -> None:
    """With its place."""
    with pytest.raises(InvalidInputError, match="value of 'k': cannot be pickled"):
        await make(serializer="pickle", secret=SECRET).set("k", lambda: None)


async def test_a_cache_of_pickles_reads_what_was_written_before(make: Make) -> None:
    """As long as it was signed."""
    await make(secret=SECRET).set_many({"k": [1], "long": LONG})
    cache = make(serializer="pickle", secret=SECRET)
    assert await cache.get_many(["k", "long"]) == {"k": [1], "long": LONG}


class Trap:
    """What is noticed when it is loaded."""

    sprung: list[object]

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return spring, ()


def spring() -> object:
    Trap.sprung.append(1)
    return Trap()


# Jitter


async def test_jitter_ends_values_a_little_sooner(make: Make, clock: ManualClock) -> None:
    """At different times, none later than its ttl says, and none sooner than asked for."""
    cache = make(ttl_jitter=0.5)
    await cache.set_many({f"k{number}": 1 for number in range(200)}, ttl=100)
    for number in range(200):
        await cache.get_or_set(f"c{number}", lambda: 1, ttl=100, stale_for=50)
    keys = [f"{kind}{number}" for kind in "kc" for number in range(200)]
    clock.advance(49)
    assert len(await cache.get_many(keys)) == 400
    clock.advance(26)
    assert 100 < len(await cache.get_many(keys)) < 300
    clock.advance(26)
    assert await cache.get_many(keys) == {}


async def test_jitter_leaves_exact_what_has_to_be(make: Make, clock: ManualClock) -> None:
    """What is added, counted or touched, and what is kept for good."""
    cache = make(ttl_jitter=1)
    await cache.add("added", 1, ttl=100)
    await cache.increment("counted", ttl=100)
    await cache.set("good", 1, ttl=None)
    await cache.add("touched", 1)
    await cache.touch("touched", 100)
    clock.advance(99)
    assert len(await cache.get_many(["added", "counted", "good", "touched"])) == 4
