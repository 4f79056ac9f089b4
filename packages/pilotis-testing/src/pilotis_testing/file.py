"""The conformance suite of file providers."""

from __future__ import annotations

import pytest

for _part in ("base", "links", "reading", "storing"):
    pytest.register_assert_rewrite(f"pilotis_testing.file_{_part}")

from pilotis_testing.file_links import LinkTests  # noqa: E402 - assertions are rewritten first
from pilotis_testing.file_reading import ReadingTests  # noqa: E402
from pilotis_testing.file_storing import StoringTests  # noqa: E402

__all__ = ["FileConformance"]


class FileConformance(StoringTests, ReadingTests, LinkTests):
    """What every file provider must do. Needs one fixture: `provider`, with nothing stored in it.

    Time is the fixture `clock`, and moves when a test advances it.
    """
