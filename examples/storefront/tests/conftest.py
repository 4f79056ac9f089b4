"""The real shop that the tests run whole."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def northwind() -> Path:
    """The folder of the Northwind shop."""
    return Path(__file__).parent / "northwind"
