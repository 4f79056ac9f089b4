"""Keys and names."""

from __future__ import annotations

import enum
import functools
import re
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from time import perf_counter
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilotis.errors import ConfigurationError, InvalidInputError
from pilotis.keys import DerivedKey, KeyTemplate, check_text, check_texts, derive_key, glob


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Customer:
    id: int


@dataclass
class Order:
    id: str
    customer: Customer


def price(product_id: Any, currency: str = "eur") -> None: ...
def place(order: Any) -> None: ...
def anything(*args: Any, **kwargs: Any) -> None: ...


# Text


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=100))
def test_text_without_control_characters_is_a_key(value: str) -> None:
    """Any other character is welcome, spaces and all languages included."""
    assert value == check_text(value, "key")


@given(st.text(max_size=9), st.characters(categories=["Cc", "Cs"]), st.text(max_size=9))
def test_control_characters_and_surrogates_are_refused_anywhere(before: str, bad: str, after: str) -> None:
    """One of them anywhere is enough."""
    with pytest.raises(InvalidInputError, match=r"^key: expected text without (control characters|lone surrogates)"):
        check_text(before + bad + after, "key")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "key: expected text, got int"),
        (b"a", "key: expected text, got bytes"),
        (None, "key: expected text, got NoneType"),
        ("", "key: expected text of 1 to 10 characters, got 0"),
        ("a" * 11, "key: expected text of 1 to 10 characters, got 11"),
        ("a\nb", "key: expected text without control characters, got U+000A at index 1"),
        ("\udc80", "key: expected text without lone surrogates, got U+DC80 at index 0"),
    ],
)
def test_what_is_no_key_is_refused(value: Any, message: str) -> None:
    """The error names the place and what was expected, and does not repeat the text."""
    with pytest.raises(InvalidInputError) as caught:
        check_text(value, "key", maximum=10)
    assert message == str(caught.value)
    with pytest.raises(InvalidInputError) as caught:
        check_texts(["a", "b", value, "\n"], "key", maximum=10)
    assert message.replace("key", "key[2]") == str(caught.value)


@given(st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=9), max_size=9))
def test_several_texts_are_checked_at_once(values: list[str]) -> None:
    """They are what they are one by one."""
    assert values == check_texts(values, "keys", maximum=9)


# Templates


def test_a_template_takes_arguments_however_they_are_given() -> None:
    """By position, by name and by default, the key is the same."""
    template = KeyTemplate("price:{product_id}:{currency}", price)
    keys = {template.render((7,), {}), template.render((), {"product_id": 7}), template.render((7, "eur"), {})}
    assert {"price:7:eur"} == keys


def test_dots_lead_to_attributes_and_entries() -> None:
    """A dotted field follows attributes, and keys of mappings, as far as it goes."""
    template = KeyTemplate("{order.customer.id}/{order.id}", place)
    assert template.render((Order("o1", Customer(7)),), {}) == "7/o1"
    assert template.render(({"id": "o1", "customer": {"id": 7}},), {}) == "7/o1"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (5, "5"),
        (1.5, "1.5"),
        (True, "True"),
        (None, "None"),
        (Colour.RED, "red"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.50"), "1.50"),
        (date(2025, 1, 2), "2025-01-02"),
    ],
)
def test_values_with_a_text_of_their_own_are_rendered(value: object, text: str) -> None:
    """A plain value is its text, an enum the text of its value."""
    assert text == KeyTemplate("{product_id}", price).render((value,), {})


@pytest.mark.parametrize(
    "value", [[1], {"a": 1}, {1}, b"a", object(), Customer(1)], ids=lambda value: type(value).__name__
)
def test_values_without_a_text_of_their_own_are_refused(value: object) -> None:
    """A text that changes between processes would be a key that never hits."""
    with pytest.raises(InvalidInputError, match=r"^key 'p:.*' of .*price, field .*: a .* no text"):
        KeyTemplate("p:{product_id}", price).render((value,), {})


@pytest.mark.parametrize("value", [{}, 5], ids=["mapping", "object"])
def test_a_step_that_leads_nowhere_is_refused(value: object) -> None:
    """A missing attribute or entry names the field."""
    with pytest.raises(InvalidInputError, match=r"field \{order.id\}: expected something with 'id', got a (dict|int)"):
        KeyTemplate("{order.id}", place).render((value,), {})


@given(st.text(st.characters(exclude_characters="{}")), st.integers())
def test_literal_text_is_kept(text: str, number: int) -> None:
    """What is outside the fields stays as it is; doubled braces are braces."""
    assert f"{text}{{{number}}}{text}" == KeyTemplate(f"{text}{{{{{{product_id}}}}}}{text}", price).render(
        (number,), {}
    )


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{product}", "unknown field {product}; the parameters of FUNCTION are: product_id, currency"),
        ("{}", "expected fields such as {name} or {name.attribute}, got {}"),
        ("{0}", "expected fields such as"),
        ("{product_id!r}", "expected fields such as"),
        ("{product_id:>5}", "expected fields such as"),
        ("{product_id[0]}", "expected fields such as"),
        ("{product_id.}", "expected fields such as"),
        ("{product_id", "expected '}' before end of string"),
    ],
)
def test_a_template_that_cannot_work_is_refused_at_decoration(template: str, message: str) -> None:
    """The error names the function and what it has."""
    name = f"{price.__module__}.price"
    with pytest.raises(ConfigurationError) as caught:
        KeyTemplate(template, price)
    assert str(caught.value).startswith(f"key {template!r} of {name}: {message.replace('FUNCTION', name)}")


# Derived keys


def test_a_derived_key_is_the_call() -> None:
    """The same call has the same key however its arguments are given; the key is readable while it is short."""
    keys = {derive_key(price, (7,), {}), derive_key(price, (), {"currency": "eur", "product_id": 7})}
    assert {f'{price.__module__}.price:{{"currency":"eur","product_id":7}}'} == keys


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 9), max_size=4))
def test_a_derived_key_does_not_depend_on_order(value: dict[str, int]) -> None:
    """Neither the order of a mapping nor that of a set shows in the key."""
    backwards = dict(reversed(value.items()))
    assert derive_key(place, (value,), {}) == derive_key(place, (backwards,), {})
    assert derive_key(place, (set(value),), {}) == derive_key(place, (set(backwards),), {})


json_values = st.none() | st.booleans() | st.integers(0, 9) | st.text("ab{}:,\x7f é", max_size=300)


@given(json_values, json_values)
def test_different_arguments_have_different_keys(one: object, other: object) -> None:
    """Only the same JSON has the same key, and each key is a key that a cache takes."""
    keys = [check_text(derive_key(place, (value,), {}), "key") for value in (one, other)]
    same = type(one) is type(other) and one == other
    assert same == (keys[0] == keys[1])


def test_long_arguments_are_hashed() -> None:
    """The key stays short however long the arguments are."""
    key = derive_key(place, ("a" * 10_000,), {})
    assert re.fullmatch(r".+\.place:[0-9a-f]{40}", key)


def test_an_argument_without_json_is_refused_with_its_path() -> None:
    """The error leads to the argument."""
    with pytest.raises(InvalidInputError, match=r"price arguments\.product_id\[0\]: no rule writes a object"):
        derive_key(price, ([object()],), {})


def test_a_method_needs_a_key_of_its_own() -> None:
    """At decoration, because nobody can tell which part of self belongs in the key."""

    class Shop:
        def price(self, product_id: int) -> None: ...

    with pytest.raises(ConfigurationError, match=r"Shop\.price is a method: give it a key of its own, such as key="):
        DerivedKey(Shop.price)


def test_partials_and_open_signatures_have_keys() -> None:
    """A partial is named by its function; what *args and **kwargs took is part of the key."""
    assert derive_key(functools.partial(price, currency="usd"), (7,), {}) != derive_key(price, (7,), {})
    assert derive_key(anything, (1,), {"a": 2}).endswith('.anything:{"args":[1],"kwargs":{"a":2}}')


CALLS = st.tuples(
    st.lists(st.integers(), max_size=4).map(tuple), st.dictionaries(st.sampled_from("abcd"), st.integers(), max_size=4)
)


@given(CALLS)
def test_arguments_are_bound_as_python_does(call: tuple[tuple[int, ...], dict[str, int]]) -> None:
    """Whatever the call: by position, by name, by default, too many, too few, twice, or unknown."""

    def function(a: int, b: int = -1, c: int = -2) -> list[int]:
        return [a, b, c]

    args, kwargs = call
    template = KeyTemplate("{a},{b},{c}", function)
    try:
        expected = function(*args, **kwargs)
    except TypeError:
        with pytest.raises(TypeError):
            template.render(args, kwargs)
    else:
        assert expected == [int(part) for part in template.render(args, kwargs).split(",")]


# Patterns


@given(st.text("ab*.[?", max_size=8), st.text("ab*.[?", max_size=10))
def test_a_glob_is_a_pattern_of_stars_only(pattern: str, text: str) -> None:
    """It matches whole texts just as the regular expression with `.*` for each star does."""
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None
    assert expected == glob(pattern)(text)


@given(st.lists(st.text("ab\n", max_size=3), min_size=1, max_size=5), st.text("ab\n", max_size=3))
def test_a_glob_matches_what_it_was_made_from(parts: list[str], run: str) -> None:
    """Any text between the literal parts fits the stars."""
    assert glob("*".join(parts))(run.join(parts))


def test_many_stars_are_not_slow() -> None:
    """The pattern that takes a backtracking matcher longer than the universe has is answered at once."""
    started = perf_counter()
    assert not glob("*".join("a" * 50) + "*b")("a" * 10_000)
    assert perf_counter() - started < 0.5
