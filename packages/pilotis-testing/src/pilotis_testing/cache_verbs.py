"""Conformance of the cache: values in and out through the portable class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pilotis.errors import ClosedError, InvalidInputError
from pilotis.providers import CacheProvider, Entry

from pilotis_testing.cache_base import DAY, SERVICE, TTL, CacheTests, value_of
from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import together

LONGEST = 1024
ODD_KEYS = [
    " ",
    "a b",
    "a  b",
    "*?",
    "[a]\\{b}",
    "a:b/c%d#e",
    "ключ",
    "é",
    "e\u0301",
    "x" * LONGEST,
    "\U0001f600" * LONGEST,
]


@dataclass
class Product:
    id: int
    price: Decimal


class VerbTests(CacheTests):
    """get, set, add, increment, touch, delete."""

    @pytest.mark.parametrize(
        "value", [None, False, 0, -5, 2**64 - 1, 1.5, "text", "", b"\x00", [1, [2]], {"a": {"b": None}}], ids=repr
    )
    async def test_what_is_set_is_got(self, cache: Any, value: object) -> None:
        """Every value, None included, is a hit, and has the same kind as before."""
        missing = object()
        await cache.set("k", value)
        read = await cache.get("k", missing)
        assert (type(value), value) == (type(read), read)

    async def test_a_missing_value_is_the_default(self, cache: Any) -> None:
        """None, unless the caller names another."""
        assert await cache.get("k") is None
        assert await cache.get("k", "nothing") == "nothing"
        assert await cache.get("k", 3, type=str) == 3

    async def test_a_reader_names_the_type(self, cache: Any) -> None:
        """With a type a dataclass comes back; without one, MessagePack's own kinds."""
        await cache.set("p", Product(1, Decimal("2.50")))
        assert await cache.get("p", type=Product) == Product(1, Decimal("2.50"))
        assert await cache.get("p") == {"id": 1, "price": "2.50"}
        assert await cache.get_many(["p"], type=Product) == {"p": Product(1, Decimal("2.50"))}
        await cache.set("n", 3)
        assert repr(await cache.get("n", type=float)) == "3.0"

    async def test_a_value_is_not_changed_after_it_was_set(self, cache: Any) -> None:
        """Neither by changing what was stored nor by changing what was read."""
        stored = {"lines": [1]}
        await cache.set("k", stored)
        stored["lines"].append(2)
        (await cache.get("k"))["lines"].append(3)
        assert await cache.get("k") == {"lines": [1]}

    async def test_a_value_of_another_type_is_a_miss_and_stays(self, cache: Any) -> None:
        """Two versions of an application may read and write side by side."""
        await cache.set("k", "text")
        assert await cache.get("k", "default", type=Product) == "default"
        assert await cache.get_many(["k"], type=Product) == {}
        assert await cache.get("k") == "text"

    @pytest.mark.parametrize("data", [b"\x01\x81", b"", b"{}", b"1.5", b"\x02\xff\xff", b"\x01\x01\x01"], ids=repr)
    async def test_a_corrupted_or_foreign_entry_is_a_miss_and_removed(
        self, cache: Any, provider: CacheProvider, data: bytes
    ) -> None:
        """Whoever reads it, alone or among others."""
        for read in (lambda: cache.get("k", "default"), lambda: cache.get_many(["k"])):
            await cache.set("k", 1)
            await provider.write([Entry(f"{SERVICE}::k", data, None)])
            assert await read() in ("default", {})
            assert await value_of(provider, f"{SERVICE}::k") is None

    async def test_an_entry_of_a_newer_version_is_a_miss_and_stays(self, cache: Any, provider: CacheProvider) -> None:
        """Two versions of Pilotis may run side by side."""
        await cache.set("k", 1)
        await provider.write([Entry(f"{SERVICE}::k", b"\x03newer", None)])
        assert await cache.get("k") is None
        assert await value_of(provider, f"{SERVICE}::k") == b"\x03newer"

    async def test_ttl(self, cache: Any, clock: ManualClock) -> None:
        """Seconds or a timedelta; None keeps for good, zero stores nothing, and 30 s where nothing is said."""
        await cache.set("number", 1, ttl=TTL)
        await cache.set("delta", 1, ttl=timedelta(seconds=TTL))
        await cache.set_many({"good": 1}, ttl=None)
        await cache.set("default", 1)
        await cache.set("zero", 1, ttl=0)
        names = ["number", "delta", "good", "default", "zero"]
        clock.advance(TTL * 0.7)
        assert list(await cache.get_many(names)) == ["number", "delta", "good", "default"]
        clock.advance(TTL * 0.7)
        assert list(await cache.get_many(names)) == ["good", "default"]
        clock.advance(30)
        assert list(await cache.get_many(names)) == ["good"]

    @pytest.mark.parametrize("ttl", [0.001, 29 * DAY, 31 * DAY, 400 * DAY], ids=str)
    async def test_a_ttl_may_be_short_or_long(self, cache: Any, clock: ManualClock, ttl: float) -> None:
        """A millisecond, or more than a month, in every verb that takes one."""
        await cache.set_many({"many": 1, "touched": 1}, ttl=ttl)
        await cache.set("one", 1, ttl=ttl)
        await cache.add("added", 1, ttl=ttl)
        await cache.increment("counted", ttl=ttl)
        await cache.get_or_set("made", lambda: 1, ttl=ttl)
        await cache.set("touched", 1, ttl=None)
        await cache.touch("touched", ttl)
        names = ["many", "touched", "one", "added", "counted", "made"]
        if ttl > 1:
            clock.advance(ttl * 0.9)
            assert list(await cache.get_many(names)) == names
        clock.advance(ttl * 0.2 + 0.01)
        assert await cache.get_many(names) == {}

    async def test_keys_and_tags_of_every_kind(self, cache: Any) -> None:
        """Blanks, signs that backends use themselves, any alphabet, and the longest ones; none is taken for another."""
        for index, key in enumerate(ODD_KEYS):
            await cache.set(key, index, tags=[key])
        assert await cache.get_many(ODD_KEYS) == {key: index for index, key in enumerate(ODD_KEYS)}
        kept = dict(enumerate(ODD_KEYS))
        for index, key in enumerate(ODD_KEYS):
            removed = (cache.delete, cache.invalidate_tags)[index % 2]
            await removed(key)
            kept.pop(index)
            assert await cache.get_many(ODD_KEYS) == {name: number for number, name in kept.items()}
            assert await cache.get_or_set(key, lambda: "new", tags=[key]) == "new"
            assert await cache.delete(key) == 1

    async def test_a_ttl_of_zero_leaves_what_is_there(self, cache: Any) -> None:
        """Nothing is stored, and nothing removed."""
        await cache.set("k", "old")
        await cache.set("k", "new", ttl=0)
        assert await cache.add("new", 1, ttl=0) is False
        assert await cache.increment("new", 4, ttl=0) == 4
        assert await cache.get_many(["k", "new"]) == {"k": "old"}

    async def test_many_at_once(self, cache: Any) -> None:
        """Those that are there, in the order asked for."""
        await cache.set_many({"a": 1, "b": [2], "c": None})
        assert list((await cache.get_many(["c", "none", "a", "a"])).items()) == [("c", None), ("a", 1)]
        assert await cache.get_many([]) == {}
        await cache.set_many({})

    async def test_of_many_callers_one_adds(self, cache: Any) -> None:
        """`add` stores only where there is nothing, and tells."""
        added = await together(*[lambda: cache.add("k", "first")] * 6)
        assert sorted(added) == [False] * 5 + [True]
        assert await cache.add("k", "second") is False
        assert await cache.get("k") == "first"

    async def test_increment(self, cache: Any, clock: ManualClock) -> None:
        """From zero or from a number that was set; the ttl is for a number that is created."""
        assert [1, 3, -7] == [
            await cache.increment("n", ttl=TTL),
            await cache.increment("n", 2),
            await cache.increment("n", -10),
        ]
        assert await cache.get("n", type=int) == -7
        clock.advance(TTL * 1.5)
        assert await cache.get("n") is None
        await cache.set("n", 40)
        assert await cache.increment("n", 2) == 42

    async def test_increment_refuses_what_is_no_number(self, cache: Any) -> None:
        """The value stays."""
        await cache.set("k", "text")
        with pytest.raises(InvalidInputError) as caught:
            await cache.increment("k")
        assert ("cache", "increment") == (caught.value.module, caught.value.operation)
        assert await cache.get("k") == "text"

    async def test_touch(self, cache: Any, clock: ManualClock) -> None:
        """A new ttl for what is there, and False for what is not; zero removes."""
        await cache.set("k", "value", ttl=TTL)
        assert await cache.touch("k", TTL * 3) is True
        clock.advance(TTL * 2)
        assert await cache.get("k") == "value"
        assert [True, False] == [await cache.touch("k", 0), await cache.touch("k", TTL)]
        assert await cache.get("k") is None

    async def test_delete(self, cache: Any) -> None:
        """As many as there were."""
        await cache.set_many({"a": 1, "b": 2, "c": 3})
        assert await cache.delete("a", "b", "none", "a") == 2
        assert await cache.get_many(["a", "b", "c"]) == {"c": 3}
        assert await cache.delete() == 0

    @pytest.mark.parametrize("key", ["", "x" * (LONGEST + 1), "a\nb", "\ud800", 3, None], ids=ascii)
    async def test_an_unfit_key_is_refused(self, cache: Any, key: Any) -> None:
        """At once, naming what was expected."""
        calls = (
            lambda: cache.get(key),
            lambda: cache.set(key, 1),
            lambda: cache.add(key, 1),
            lambda: cache.increment(key),
            lambda: cache.touch(key, 1),
            lambda: cache.delete(key),
            lambda: cache.invalidate(key),
            lambda: cache.get_or_set(key, lambda: 1),
        )
        for call in calls:
            with pytest.raises(InvalidInputError, match="key"):
                await call()
        for many in (lambda: cache.get_many([key]), lambda: cache.invalidate_tags(key)):
            with pytest.raises(InvalidInputError, match=r"(keys|tags)\[0\]"):
                await many()

    @pytest.mark.parametrize("ttl", [-1, math.nan, math.inf, "5", True, timedelta(seconds=-1)], ids=repr)
    async def test_an_unfit_ttl_is_refused(self, cache: Any, ttl: Any) -> None:
        """The same in every verb."""

        def of_value(_value: object) -> Any:
            return ttl

        calls = (
            lambda: cache.set("k", 1, ttl=ttl),
            lambda: cache.set_many({"k": 1}, ttl=ttl),
            lambda: cache.add("k", 1, ttl=ttl),
            lambda: cache.increment("k", ttl=ttl),
            lambda: cache.touch("k", ttl),
            lambda: cache.get_or_set("k", lambda: 1, ttl=ttl),
            lambda: cache.get_or_set("k", lambda: 1, ttl=of_value),
            lambda: cache.get_or_set("k", lambda: 1, stale_for=ttl),
        )
        for call in calls:
            with pytest.raises(InvalidInputError, match=r"ttl|stale_for"):
                await call()
        assert await cache.get("k") is None

    async def test_an_unfit_value_is_refused(self, cache: Any) -> None:
        """With the path inside it; of several values none is stored then."""
        with pytest.raises(InvalidInputError, match=r"lines\[0\]"):
            await cache.set("k", {"lines": [math.nan]})
        with pytest.raises(InvalidInputError, match="'b'"):
            await cache.set_many({"a": 1, "b": object()})
        assert await cache.get_many(["k", "a"]) == {}

    async def test_a_single_text_is_not_several_keys(self, cache: Any) -> None:
        """It would be read letter by letter."""
        with pytest.raises(InvalidInputError, match="several"):
            await cache.get_many("abc")
        with pytest.raises(InvalidInputError, match="several"):
            await cache.set("k", 1, tags="abc")

    async def test_keys_begin_with_the_name_of_the_service(self, cache: Any, provider: CacheProvider) -> None:
        """So that services may share a backend."""
        await cache.set("k", 5)
        assert await value_of(provider, f"{SERVICE}::k") == b"5"

    async def test_a_closed_cache_is_told(self, cache: Any) -> None:
        """Reading is no miss then, and closing again does nothing."""
        inner = cache.namespace("inner")
        await cache.set("k", 1)
        await cache.close()
        await cache.close()
        for closed in (cache, inner):
            with pytest.raises(ClosedError):
                await closed.get("k")
            with pytest.raises(ClosedError):
                await closed.set("k", 1)
