"""A provider begun with `pilotis new-provider`: from built distributions, in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment that holds the command line and the test tools, from their wheels."""
    home = tmp_path_factory.mktemp("new-provider")
    for package in ("pilotis-core", "pilotis-testing"):
        call("uv", "build", "--quiet", "--wheel", "--out-dir", str(home / "wheels"), str(ROOT / "packages" / package))
    call("uv", "venv", "--quiet", "--python", sys.executable, str(home / "venv"))
    python = home / "venv" / "bin" / "python"
    wheels = [*map(str, (home / "wheels").glob("*.whl"))]
    core = next(wheel for wheel in wheels if "pilotis_core" in wheel)
    needs = [*wheels, f"pilotis-core[cli] @ file://{core}", "pytest", "pytest-timeout"]
    call("uv", "pip", "install", "--quiet", "--python", str(python), *needs)
    return python


def call(*command: str, directory: Path = ROOT.parent) -> str:
    """Run a command outside of this virtual environment, and return what it prints."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PILOTIS_", "VIRTUAL_ENV"))}
    program = shutil.which(command[0])
    assert program is not None, f"{command[0]} is needed to build and install distributions"
    done = subprocess.run(
        [program, *command[1:]], capture_output=True, text=True, check=False, env=environment, cwd=directory
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_new_cache_provider_passes_its_own_tests(python: Path, tmp_path: Path) -> None:
    """Written by the installed command, installed in its turn, and found conforming before anything was changed."""
    call(str(python), "-m", "pilotis", "new-provider", "cache", "mine", "--into", str(tmp_path))
    project = tmp_path / "pilotis-cache-mine"
    call("uv", "pip", "install", "--quiet", "--python", str(python), str(project))
    report = call(str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", directory=project)
    assert "passed" in report
    assert "failed" not in report
    assert "pilotis-cache-mine" in call(str(python), "-m", "pilotis", "providers", "--json")
