"""The conformance suite of ledgers in databases catches each one that breaks an obligation."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from pilotis_testing.mutants import assert_caught

CAUGHT_BY = {
    "LosesItsFile": "test_it_outlives_its_process",
    "MixesServices": "test_services_in_one_place_do_not_meet",
    "AlwaysMakesSomething": "test_migrating_says_what_it_made",
    "ForgetsNothing": "test_what_is_too_old_is_forgotten",
    "ForgetsWhatIsBeingSent": "test_what_is_too_old_is_forgotten",
    "ForgetsAllAtOnce": "test_much_is_forgotten_bit_by_bit",
    "OpensWithoutForgetting": "test_opening_forgets_too",
    "ForgetsByDefault": "test_without_retention_nothing_is_forgotten",
}


@pytest.mark.parametrize(("mutant", "test"), CAUGHT_BY.items())
def test_a_mutant_is_caught(pytester: pytest.Pytester, mutant: str, test: str) -> None:
    """Each fails the test of the obligation that it breaks."""
    pytester.syspathinsert(Path(__file__).parent)
    assert_caught(
        pytester,
        importlib.import_module("ledger_mutants").Suite,
        f"ledger_mutants.{mutant}",
        test,
        fixtures="tmp_path",
        arguments="Mutant.Options(url=f'sqlite:///{tmp_path}/shop.db')",
    )
