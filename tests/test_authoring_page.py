"""What the page for authors shows keeps what it promises."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "authoring.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def blocks(*beginnings: str) -> str:
    """Return the definitions in the blocks that hold these classes, without what the page does with them."""
    chosen = [next(block for block in BLOCKS if f"class {name}(" in block) for name in beginnings]
    return "\n".join(re.split(r"^(?:register|assert|try:|with )", block, flags=re.MULTILINE)[0] for block in chosen)


def test_the_first_example_is_short() -> None:
    """Under forty lines of code, as the page says."""
    assert "under forty lines of code" in PAGE
    assert len([line for line in BLOCKS[0].splitlines() if line.strip()]) < 40


@pytest.mark.slow
def test_the_example_passes_the_conformance_suite(tmp_path: Path) -> None:
    """With the options, errors and the capability that the page adds, by the very test that the page shows."""
    text = blocks("DictCache", "LabelOptions", "StrictCache", "MatchingCache", "TestMatchingCache")
    test = tmp_path / "test_conformance.py"
    test.write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(test)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
