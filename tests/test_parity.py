"""The page beside Medusa names every feature once, and tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "parity.md").read_text()
ROWS = [[cell.strip() for cell in row.split(" | ")] for row in re.findall(r"^\| (\d+ \| .*) \|$", PAGE, re.MULTILINE)]
FEATURES = 85
NOT_YET = {"50", "66"}
"""What is not served."""


def test_every_feature_is_there_once() -> None:
    """In their order, each with what serves it here."""
    assert [str(number) for number in range(1, FEATURES + 1)] == [row[0] for row in ROWS]
    assert {6} == {len(row) for row in ROWS}
    assert [] == [row[0] for row in ROWS if not all(row)]


def test_what_is_not_served_is_named() -> None:
    """And is nothing else."""
    assert NOT_YET == {row[0] for row in ROWS if row[5] == "not served yet"}
    assert NOT_YET == {row[0] for row in ROWS if row[4].startswith("not yet")}


@pytest.mark.parametrize("row", [row for row in ROWS if row[0] not in NOT_YET], ids=lambda row: row[0])
def test_the_tests_that_show_it_exist(row: list[str]) -> None:
    """Each by its package, file and name."""
    shown = row[5].split("<br>")
    assert [] == [reference for reference in shown if not exists(reference)]


def exists(reference: str) -> bool:
    found = re.fullmatch(r"`(?:([\w-]+)/)?(\w+\.py)::(test_\w+)`", reference)
    assert found, reference
    package, file, name = found.groups()
    places = [ROOT / "tests"] if package is None else [*(ROOT / "packages" / package).glob("tests"), *sources(package)]
    return any(name in names_in(place / file) for place in places if (place / file).is_file())


def sources(package: str) -> list[Path]:
    """Where suites stand that are shipped."""
    return [*(ROOT / "packages" / package / "src").glob("*")]


def names_in(path: Path) -> set[str]:
    tree = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in tree if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
