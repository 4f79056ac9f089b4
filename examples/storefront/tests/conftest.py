"""The real shop's data, beside the project, or where `PILOTIS_TEST_NORTHWIND` says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

BESIDE = Path(__file__).parents[4] / "shared/data/northwind"


@pytest.fixture(scope="session")
def northwind() -> Path:
    """The folder of the Northwind shop. Without it the test fails: a real shop is part of the proof."""
    folder = Path(os.environ.get("PILOTIS_TEST_NORTHWIND", BESIDE))
    assert folder.is_dir(), "put the Northwind data beside the project, or name its folder in PILOTIS_TEST_NORTHWIND"
    return folder
