"""Runs the Python code blocks of README.md and docs/ as tests; each page is one story, told from top to bottom."""

from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

pytest_plugins = ["pytester"]


@pytest.fixture
def in_scratch_directory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a page write files without leaving them in the repository."""
    monkeypatch.chdir(tmp_path_factory.mktemp("page"))


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    excludes=["packages/*/*.md", "examples/*/*.md"],
    path=str(Path(__file__).parent),
    fixtures=["in_scratch_directory"],
).pytest()
