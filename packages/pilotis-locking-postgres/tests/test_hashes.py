"""Which number an advisory lock has."""

from __future__ import annotations

import pytest
from pilotis_locking_postgres.hashes import number_of, numbers_of


def test_numbers_never_change() -> None:
    """They are how processes meet that run on other machines and other versions."""
    assert number_of("shop", "order:1") == -2712290244174416644
    assert -(2**63) <= number_of("shop", "order:2") < 2**63


def test_namespace_and_key_are_told_apart() -> None:
    """Wherever the one ends and the other begins."""
    assert number_of("a", "bc") != number_of("ab", "c")
    assert number_of("a", "b") != number_of("b", "a")


def test_numbers_are_in_the_order_of_keys() -> None:
    """In which everybody takes them; one that comes twice is taken once."""
    assert numbers_of("shop", ["a", "b", "a"]) == [number_of("shop", "a"), number_of("shop", "b")]


@pytest.mark.slow
def test_a_million_names_have_a_million_numbers() -> None:
    """Those that look alike, too: other libraries have 16, 31 or 32 bits, where names collide after hundreds."""
    assert len({number_of("shop", f"order:{number}") for number in range(1_000_000)}) == 1_000_000
