"""Conformance of the cache: the provider's own verbs, on bytes."""

from __future__ import annotations

import functools

import pytest
from pilotis.errors import InvalidInputError
from pilotis.providers import CacheCapability, CacheProvider, Context, Entry

from pilotis_testing.cache_base import TTL, CacheTests, lacks, told, value_of, written
from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import together

MATCHING, BOUNDED = CacheCapability.MATCHING, CacheCapability.BOUNDED
ODD_KEYS = ["a:b", "a b", "ä", "a.b", "a?c", "[ab]", "a\\b", "{a}", "%61", "x" * 2000, "日本"]
ODD_VALUES = [b"", b"\x00", b"0", b"-12", b"\xff\xfe", b"a\r\nb", bytes(range(256)) * 100]


class EntryTests(CacheTests):
    """Few verbs, each with its obligations."""

    async def test_values_come_back_byte_for_byte(self, entries: CacheProvider) -> None:
        """What is read is `bytes`, equal to what was written."""
        for value in ODD_VALUES:
            await written(entries, k=value)
            read = await value_of(entries, "k")
            assert (bytes, value) == (type(read), read)

    async def test_different_keys_are_different_entries(self, entries: CacheProvider) -> None:
        """No key is folded, cut or taken for another one."""
        keys = [*ODD_KEYS, *(key + "A" for key in ODD_KEYS), "a", "A", "x" * 1999]
        await entries.write([Entry(key, str(index).encode(), None) for index, key in enumerate(keys)])
        assert [str(index).encode() for index in range(len(keys))] == await entries.read(keys)

    async def test_read_answers_in_the_order_of_keys(self, entries: CacheProvider) -> None:
        """Each key has its own place in the answer, absent ones too, and a key that is named twice."""
        await written(entries, a=b"1", b=b"2", c=b"3")
        assert [b"3", None, b"1", b"2", b"1"] == await entries.read(["c", "none", "a", "b", "a"])

    async def test_what_is_told_at_once_is_what_is_read(self, entries: CacheProvider, clock: ManualClock) -> None:
        """`read_now` has nothing to say, or answers as `read` does, also of what is over."""
        await written(entries, TTL, short=b"1")
        await written(entries, None, good=b"2")
        for _ in range(2):
            answer = entries.read_now(["good", "none", "short", "good"])
            assert answer in (None, await entries.read(["good", "none", "short", "good"]))
            clock.advance(TTL * 1.5)

    async def test_an_entry_ends_after_its_ttl(self, entries: CacheProvider, clock: ManualClock) -> None:
        """It is there until then, and one without a ttl stays."""
        await written(entries, TTL, short=b"1")
        await written(entries, None, good=b"2")
        clock.advance(TTL * 0.7)
        assert [b"1", b"2"] == await entries.read(["short", "good"])
        clock.advance(TTL * 0.7)
        assert [None, b"2"] == await entries.read(["short", "good"])

    async def test_an_entry_that_is_over_is_absent_for_every_verb(
        self, entries: CacheProvider, clock: ManualClock
    ) -> None:
        """It is not counted, prolonged, added to, or in the way."""
        await written(entries, TTL, removed=b"1", expired=b"1", added=b"1", counted=b"5")
        clock.advance(TTL * 1.5)
        assert await entries.remove(["removed"]) == 0
        assert await entries.expire("expired", None) is False
        assert await entries.write([Entry("added", b"2", None)], only_absent=True) == [True]
        assert await entries.count("counted", 1, None) == 1

    async def test_writing_replaces_value_and_ttl(self, entries: CacheProvider, clock: ManualClock) -> None:
        """The new entry lasts as long as it says, not as long as the old one."""
        await written(entries, TTL, a=b"old", b=b"old")
        assert await entries.write([Entry("a", b"new", None), Entry("b", b"new", TTL * 2)]) == [True, True]
        clock.advance(TTL * 1.5)
        assert [b"new", b"new"] == await entries.read(["a", "b"])

    async def test_only_absent_leaves_what_is_there(self, entries: CacheProvider, clock: ManualClock) -> None:
        """Each entry is judged by itself; one that exists keeps its value and its ttl."""
        await written(entries, TTL, there=b"old")
        stored = await entries.write([Entry("there", b"new", None), Entry("absent", b"new", None)], only_absent=True)
        assert [False, True] == stored
        assert [b"old", b"new"] == await entries.read(["there", "absent"])
        clock.advance(TTL * 1.5)
        assert await value_of(entries, "there") is None

    async def test_of_several_writers_at_once_one_stores(self, entries: CacheProvider) -> None:
        """`only_absent` is atomic."""
        writers = [
            functools.partial(entries.write, [Entry("k", str(number).encode(), None)], only_absent=True)
            for number in range(8)
        ]
        assert sorted(await together(*writers)) == [[False]] * 7 + [[True]]

    async def test_remove_tells_how_many_there_were(self, entries: CacheProvider) -> None:
        """Absent keys do not count, and a key that is named twice counts once."""
        await written(entries, a=b"1", b=b"2", c=b"3")
        assert await entries.remove(["a", "none", "b", "a"]) == 2
        assert [None, None, b"3"] == await entries.read(["a", "b", "c"])
        assert await entries.remove(["a", "none"]) == 0

    async def test_count_adds_and_creates(self, entries: CacheProvider) -> None:
        """From zero, up and down, from what `write` stored, to the limits of 64 bits; kept as decimal text."""
        assert [5, -2] == [await entries.count("n", 5, None), await entries.count("n", -7, None)]
        assert await value_of(entries, "n") == b"-2"
        await written(entries, n=b"40")
        assert await entries.count("n", 2, None) == 42
        assert await entries.count("low", -(2**63), None) == -(2**63)
        assert await entries.count("high", 2**63 - 1, None) == 2**63 - 1

    async def test_count_is_atomic(self, entries: CacheProvider) -> None:
        """Of many callers at once, none is lost, and each sees a sum of its own."""

        async def add() -> list[int]:
            return [await entries.count("n", 1, None) for _ in range(20)]

        sums = [total for totals in await together(*[add] * 8) for total in totals]
        assert list(range(1, 161)) == sorted(sums)

    async def test_count_keeps_the_ttl_of_an_existing_number(self, entries: CacheProvider, clock: ManualClock) -> None:
        """The ttl is for a number that is created."""
        await entries.count("n", 1, TTL)
        clock.advance(TTL * 0.6)
        assert await entries.count("n", 1, TTL * 10) == 2
        clock.advance(TTL * 0.6)
        assert await entries.count("n", 1, TTL) == 1

    @pytest.mark.parametrize("value", [b"text", b"", b"1.5", b"\x01\x01", b" 1", b"1_0"], ids=repr)
    async def test_count_refuses_what_is_no_number(self, entries: CacheProvider, value: bytes) -> None:
        """An error that is, or is classified as, InvalidInputError; the entry stays."""
        await written(entries, n=value)
        await refused(entries, "n", 1)
        assert value == await value_of(entries, "n")

    async def test_count_refuses_to_leave_64_bits(self, entries: CacheProvider) -> None:
        """The number stays what it was."""
        await entries.count("n", 2**63 - 1, None)
        await refused(entries, "n", 1)
        assert await value_of(entries, "n") == str(2**63 - 1).encode()

    async def test_expire_begins_a_new_ttl(self, entries: CacheProvider, clock: ManualClock) -> None:
        """From now on, longer or shorter, or for good; the value stays."""
        await written(entries, TTL, longer=b"1", good=b"2")
        await written(entries, None, shorter=b"3")
        assert await entries.expire("longer", TTL * 3) is True
        assert await entries.expire("good", None) is True
        assert await entries.expire("shorter", TTL) is True
        clock.advance(TTL * 1.5)
        assert [b"1", b"2", None] == await entries.read(["longer", "good", "shorter"])

    async def test_expire_creates_nothing(self, entries: CacheProvider) -> None:
        """For an absent entry it is False, and the entry stays absent."""
        assert await entries.expire("absent", TTL) is False
        assert await value_of(entries, "absent") is None

    async def test_remove_matching_matches_the_whole_key(self, entries: CacheProvider) -> None:
        """A pattern is anchored at both ends, and `*` stands for any run of characters, also for none."""
        if lacks(entries, MATCHING):
            return
        keys = ["a:n:ps:1", "a:n:ps:", "xa:n:ps:1", "a:n:ps", "a:n:ps:1:eur", "a:n:ps:2:usd"]
        await entries.write([Entry(key, b"1", None) for key in keys])
        assert await entries.remove_matching("a:n:ps:*:eur") == told(entries, 1)
        assert [b"1", b"1", b"1", b"1", None, b"1"] == await entries.read(keys)
        assert await entries.remove_matching("a:n:ps:*") == told(entries, 3)
        assert [None, None, b"1", b"1", None, None] == await entries.read(keys)
        assert await entries.remove_matching("a:n:nothing*") == told(entries, 0)

    async def test_what_is_written_after_a_removal_stays(self, entries: CacheProvider) -> None:
        """A pattern is about what was there; what is older stays removed, whatever is done to it."""
        if lacks(entries, MATCHING):
            return
        keys = ["a:n:1", "a:n:2", "a:n:3", "a:n:4"]
        for _ in range(3):
            await entries.write([Entry(key, b"1", None) for key in keys])
            await entries.expire(keys[0], TTL)
            await entries.count(keys[1], 1, None)
            await entries.remove_matching("a:n:*")
            assert [None] * 4 == await entries.read(keys)
            assert await entries.expire(keys[0], None) is False
            assert await entries.count(keys[1], 1, None) == 1
            assert await entries.write([Entry(keys[2], b"2", None)], only_absent=True) == [True]
            assert [None, b"1", b"2", None] == await entries.read(keys)
            assert await entries.remove(keys) == 2

    async def test_remove_matching_takes_all_else_literally(self, entries: CacheProvider) -> None:
        """No other character is special."""
        if lacks(entries, MATCHING):
            return
        odd = [f"app:space:{key}" for key in ODD_KEYS]
        plain = ["app:space:a", "app:space:b", "app:space:abc", "app:space:axb"]
        await entries.write([Entry(key, b"1", None) for key in [*odd, *plain]])
        for key in odd:
            assert await entries.remove_matching(f"{key}*") == told(entries, 1), key
            assert await value_of(entries, key) is None
        assert [b"1"] * 4 == await entries.read(plain)

    async def test_a_bounded_cache_evicts_the_least_recently_used(
        self, provider: CacheProvider, clock: ManualClock
    ) -> None:
        """It never has more than `max_entries` entries; reading one keeps it. One that is not bounded keeps all."""
        if lacks(provider, BOUNDED):
            assert not hasattr(provider.options, "max_entries")
            return
        small = type(provider)(type(provider.options)(max_entries=3))
        small.context = Context(clock=clock)
        await written(small, a=b"1", b=b"2", c=b"3")
        await small.read(["a"])
        await written(small, d=b"4")
        assert [b"1", None, b"3", b"4"] == await small.read(["a", "b", "c", "d"])
        for number in range(10):
            await small.count(f"n{number}", 1, None)
        assert sum(value is not None for value in await small.read([*"abcd", *(f"n{n}" for n in range(10))])) == 3


async def refused(provider: CacheProvider, key: str, by: int) -> None:
    """Assert that the provider refuses to count, with an error that becomes InvalidInputError."""
    with pytest.raises(Exception) as caught:  # its own, or native
        await provider.count(key, by, None)
    assert isinstance(caught.value, InvalidInputError) or provider.classify(caught.value) is InvalidInputError
