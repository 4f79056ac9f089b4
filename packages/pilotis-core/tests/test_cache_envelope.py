"""How cached values are stored, under which keys, and on which terms."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilotis.errors import InvalidInputError, TypeMismatchError
from pilotis.modules.cache.envelope import ForeignFormError, Head, compressed, is_broken, seal, split, unseal, with_head
from pilotis.modules.cache.filling import is_due_early
from pilotis.modules.cache.names import Names
from pilotis.modules.cache.store import Found
from pilotis.modules.cache.terms import checked_increment, checked_terms, checked_ttl

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=10,
)
heads = st.builds(
    Head,
    st.none() | st.floats(0, 1e10),
    st.floats(0, 1e5),
    st.dictionaries(st.text("abc:#", min_size=1), st.integers(0, 2**63 - 1)),
)
names = st.lists(st.text("ab:/%#*", min_size=1, max_size=4), max_size=3).map(tuple)
keys = st.text("ab:/%#*", min_size=1, max_size=5)


@given(values, heads)
def test_a_value_comes_back_with_its_head(value: Any, head: Head) -> None:
    """Whatever they are."""
    data = with_head(head, seal(value))
    read, sealed = split(data)
    assert (head, value) == (read, unseal(sealed, Any))
    assert not is_broken(data)


def test_a_plain_value_costs_one_byte() -> None:
    """And a whole number is the text that providers count with."""
    assert [b"\x01\xa4text", b"-12", b"\x01\xc3"] == [seal("text"), seal(-12), seal(True)]
    assert seal("text") == with_head(Head(), seal("text"))


@given(st.text())
def test_a_compressed_value_comes_back(text: str) -> None:
    """And is never longer than it was."""
    sealed = seal(text * 20)
    packed = compressed(sealed)
    assert text * 20 == unseal(packed, Any)
    assert len(packed) <= len(sealed)
    assert not is_broken(packed)


@pytest.mark.parametrize("first", [3, *range(5, 0x20)])
def test_other_versions_are_not_broken(first: int) -> None:
    """Also behind a head."""
    data = bytes([first]) + b"junk"
    assert not is_broken(data)
    assert not is_broken(with_head(Head(1.0), data))


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Nothing but a TypeMismatchError comes of foreign or corrupted data."""
    try:
        unseal(split(data)[1], Any)
    except ForeignFormError:
        assert not is_broken(data)
    except TypeMismatchError:
        assert is_broken(data)
    else:
        assert not is_broken(data)


@given(names, keys, names, keys)
def test_no_two_namespaces_meet(path: Any, key: str, other_path: Any, other_key: str) -> None:
    """Different places have different keys, for values and for tags."""
    mine, other = Names("app", path), Names("app", other_path)
    assert ((path, key) == (other_path, other_key)) == (mine.key(key) == other.key(other_key))
    assert ((path, key) == (other_path, other_key)) == (mine.tag(key) == other.tag(other_key))
    assert mine.key(key) != other.tag(other_key)
    assert (mine.key(key).startswith(other.patterns()[0][:-1])) == (path == other_path)


def test_keys_read_well() -> None:
    """The app, the namespace, the key."""
    assert Names("shop", ()).key("price:1") == "shop::price:1"
    assert Names("shop", ("tenant:7", "eu")).key("price:1") == "shop:tenant%3A7/eu:price:1"
    assert Names("shop", ("a",)).tag("t") == "shop:a#:t"


def test_a_ttl_is_checked_once() -> None:
    """The default where nothing is said, None for good, a number from zero."""
    assert [30, None, 0, 2.5] == [checked_ttl(ttl, 30) for ttl in (..., None, 0, 2.5)]
    assert checked_ttl(..., None) is None


@pytest.mark.parametrize("eagerness", [-1, math.nan, math.inf, "1"])
def test_an_unfit_refresh_ahead_is_refused(eagerness: Any) -> None:
    """It is a finite number from zero."""
    with pytest.raises(InvalidInputError, match="refresh_ahead"):
        checked_terms(30, ..., refresh_ahead=eagerness)


@pytest.mark.parametrize("by", [1.0, True, "1", None, 2**63, -(2**63) - 1])
def test_an_unfit_increment_is_refused(by: Any) -> None:
    """It is a whole number of 64 bits."""
    with pytest.raises(InvalidInputError, match="by: expected a whole number"):
        checked_increment(by)


def test_refreshing_ahead_grows_likelier_towards_the_end() -> None:
    """Hardly ever long before expiry, always at it; never without a cost, a bound or eagerness."""

    def share(cost: float, left: float, eagerness: float = 1.0) -> float:
        found = Found(b"", None, 1000.0, cost)
        return sum(is_due_early(found, eagerness, 1000.0 - left) for _ in range(2000)) / 2000

    assert share(1, 100) == 0
    assert 0.27 < share(1, 1) < 0.47  # exp(-1)
    assert 0.52 < share(2, 1) < 0.70  # exp(-1/2)
    assert share(1, 0) == 1
    assert [0, 0] == [share(0, 1), share(1, 1, 0)]
    assert not is_due_early(Found(b"", None, math.inf, 1), 1, 0)
