"""The conformance suite of cache providers."""

from __future__ import annotations

import pytest

for _part in ("base", "claims", "entries", "verbs", "groups", "filling", "refreshing", "near"):
    pytest.register_assert_rewrite(f"pilotis_testing.cache_{_part}")

from pilotis_testing.cache_claims import ClaimTests  # noqa: E402 - assertions are rewritten first
from pilotis_testing.cache_entries import EntryTests  # noqa: E402
from pilotis_testing.cache_filling import FillingTests  # noqa: E402
from pilotis_testing.cache_groups import GroupTests  # noqa: E402
from pilotis_testing.cache_near import NearTests  # noqa: E402
from pilotis_testing.cache_refreshing import RefreshTests  # noqa: E402
from pilotis_testing.cache_verbs import VerbTests  # noqa: E402

__all__ = ["CacheConformance"]


class CacheConformance(EntryTests, ClaimTests, VerbTests, GroupTests, FillingTests, RefreshTests, NearTests):
    """What every cache provider must do. Needs one fixture: `provider`.

    Time is the fixture `clock`, and moves when a test advances it. A provider whose backend keeps its own time
    overrides `clock` with one whose `advance` sleeps as well. One that declares TRACKING runs the suite twice: once
    with `settings` overridden to `CacheSettings(near=True)`.
    """
