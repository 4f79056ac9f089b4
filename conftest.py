"""Runs the Python code blocks of README.md and docs/ as tests, each page from top to bottom; and tests side by side."""

import os
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

pytest_plugins = ["pytester"]


@pytest.fixture
def in_scratch_directory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a page write files without leaving them in the repository."""
    monkeypatch.chdir(tmp_path_factory.mktemp("page"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return a process for each processor, with servers of its own; a server that a variable names serves only one."""
    return 0 if any(name.startswith("PILOTIS_TEST_") for name in os.environ) else os.cpu_count() or 1


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    excludes=["packages/*/*.md", "examples/*/*.md"],
    path=str(Path(__file__).parent),
    fixtures=["in_scratch_directory"],
).pytest()
