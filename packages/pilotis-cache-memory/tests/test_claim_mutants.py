"""The part of the suite about claims is itself tested, on a provider that has them and on those that break them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pilotis_testing.cache import CacheConformance
from pilotis_testing.mutants import assert_caught

CAUGHT_BY = {
    "DeclaresClaims": "test_claims_are_declared_or_refused",
    "ClaimsWhatIsThere": "test_a_claim_takes_what_is_free",
    "ClaimsNothingNamed": "test_a_claim_takes_the_place_of_what_is_named",
    "ClaimsForGood": "test_a_claim_is_over_with_its_lease",
    "SettlesForOthers": "test_results_take_the_place_of_nothing_else",
    "GivesNothingBack": "test_results_take_the_place_of_their_claim",
    "WakesEverybody": "test_who_waits_is_woken",
    "ProlongsClaims": "test_a_claim_is_prolonged_by_its_owner_alone",
}


@pytest.mark.parametrize("name", CAUGHT_BY)
def test_mutant_is_caught(pytester: pytest.Pytester, name: str) -> None:
    """A named test of the suite fails for the mutant."""
    assert_caught(pytester, CacheConformance, f"claim_mutants.{name}", CAUGHT_BY[name])


@pytest.mark.parametrize("name", ["Claiming", "Polling"])
def test_the_provider_that_they_break_is_whole(pytester: pytest.Pytester, name: str) -> None:
    """It passes the suite, so that a mutant fails for what it breaks alone; also where it cannot push."""
    pytester.syspathinsert(Path(__file__).parent)
    pytester.makepyfile(
        f"""
        import pytest
        from claim_mutants import {name}
        from pilotis_testing.cache import CacheConformance

        class TestClaiming(CacheConformance):
            @pytest.fixture
            def provider(self):
                return {name}()
        """
    )
    result = pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "--timeout=20")
    result.assert_outcomes(passed=result.parseoutcomes()["passed"])
