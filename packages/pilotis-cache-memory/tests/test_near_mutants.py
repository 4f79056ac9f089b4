"""The part of the suite about tracking is itself tested, on a provider that tells and on those that do not."""

from __future__ import annotations

from pathlib import Path

import pytest
from pilotis_testing.cache import CacheConformance
from pilotis_testing.mutants import assert_caught

CAUGHT_BY = {
    "DeclaresTracking": "test_tracking_is_declared_or_refused",
    "HidesTracking": "test_tracking_is_declared_or_refused",
    "ForgetsWhatIsLeft": "test_entries_tell_what_they_have_left",
    "TellsNoRemovals": "test_changes_are_told",
    "TellsNoCounts": "test_changes_are_told",
    "TellsNoProlongings": "test_changes_are_told",
    "TellsItsOwnAlone": "test_what_another_process_sets_is_seen_soon",
    "Deaf": "test_what_another_process_removes_is_gone_soon",
}
PATIENCE = 0.2
"""Seconds that the suite waits for what a mutant never tells."""


@pytest.mark.parametrize("name", CAUGHT_BY)
def test_mutant_is_caught(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A named test of the suite fails for the mutant."""
    monkeypatch.setattr("pilotis_testing.cache_near.PATIENCE", PATIENCE)
    assert_caught(pytester, CacheConformance, f"near_mutants.{name}", CAUGHT_BY[name])


def test_the_provider_that_they_break_is_whole(pytester: pytest.Pytester) -> None:
    """It passes the suite, near cache on and off, so that a mutant fails for what it breaks alone."""
    pytester.syspathinsert(Path(__file__).parent)
    pytester.makepyfile(
        """
        import pytest
        from near_mutants import Tracking
        from pilotis.settings import CacheSettings
        from pilotis_testing.cache import CacheConformance

        class TestTracking(CacheConformance):
            @pytest.fixture
            def provider(self):
                return Tracking()

        class TestTrackingWithNear(TestTracking):
            @pytest.fixture
            def settings(self):
                return CacheSettings(near=True)
        """
    )
    result = pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "--timeout=20")
    result.assert_outcomes(passed=result.parseoutcomes()["passed"])
