"""tools/pin.py keeps third-party versions in the root pyproject.toml."""

from pathlib import Path

import pin
import pytest

WORKSPACE = f"""\
[project]
name = "alone"
version = "1"
requires-python = ">=3.11"

[tool.uv]
{pin.BEGIN}constraint-dependencies = [
    "gone==1.0",
]
{pin.END}
[tool.other]
kept = true
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A project with no dependencies, whose pins still name one."""
    (tmp_path / "pyproject.toml").write_text(WORKSPACE)
    return tmp_path


def test_splice_replaces_only_what_stands_between_the_markers() -> None:
    """Text before and after the pins stays as it is."""
    pinned = pin.splice(WORKSPACE, ["a==1", "b==2 ; python_full_version < '3.12'"])
    assert (
        WORKSPACE.replace('    "gone==1.0",\n', '    "a==1",\n    "b==2 ; python_full_version < \'3.12\'",\n') == pinned
    )


@pytest.mark.parametrize("text", ["", pin.BEGIN, pin.END, (pin.BEGIN + pin.END) * 2])
def test_splice_refuses_a_file_without_its_two_markers(text: str) -> None:
    """A file that lost its markers is not guessed at."""
    with pytest.raises(pin.PinError, match="once each"):
        pin.splice(text, [])


def test_check_tells_drift_and_changes_nothing(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pin that nothing needs any more is drift: exit 1, and how to mend it."""
    assert pin.main(["--check"], workspace) == 1
    assert "python tools/pin.py" in capsys.readouterr().err
    assert (workspace / "pyproject.toml").read_text() == WORKSPACE


@pytest.mark.parametrize("arguments", [[], ["--upgrade"]])
def test_pinning_mends_drift(workspace: Path, arguments: list[str]) -> None:
    """After pinning, the check passes."""
    assert pin.main(arguments, workspace) == 0
    assert "gone" not in (workspace / "pyproject.toml").read_text()
    assert pin.main(["--check"], workspace) == 0


@pytest.mark.parametrize("arguments", [[], ["--upgrade"]])
def test_a_failed_resolution_leaves_the_file_alone(workspace: Path, arguments: list[str]) -> None:
    """What uv cannot resolve is told with uv's own words, and nothing is written."""
    pyproject = workspace / "pyproject.toml"
    broken = WORKSPACE.replace('requires-python = ">=3.11"', 'requires-python = ">=3.11"\ndependencies = ["alone>2"]')
    pyproject.write_text(broken)
    with pytest.raises(pin.PinError, match="could not resolve"):
        pin.main(arguments, workspace)
    assert pyproject.read_text() == broken
