"""A provider of somebody else's: its own distribution, built, installed beside core, found by name and by scheme."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECTS = [ROOT / "packages" / "pilotis-core", ROOT / "examples" / "third-party-provider"]

Run = Callable[[str], object]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FIND = """
import json, sys
from pilotis.discovery import installed, resolve
from pilotis.settings import convert_options, load

found = {}
for written in ("acme-dict", "acme-dict://?max_entries=3", {"url": "acme-dict://", "max_entries": 3}):
    configured = load({"cache": written}).modules["cache"]["default"]
    unloaded = "acme_pilotis_cache_dict.plugin" not in sys.modules
    provider = resolve("cache", configured.provider)
    options = convert_options(configured.options, provider.Options, configured.path)
    found[str(written)] = [provider.__name__, options.max_entries, unloaded]
print(json.dumps({"found": found, "installed": installed("cache")}))
"""

USE = """
import asyncio, json
from pilotis.bridge import drive
from pilotis.discovery import resolve
from pilotis.providers import CacheProvider, Entry

async def use(cache):
    written = await cache.write([Entry("a", b"1", None), Entry("b", b"2", 60)])
    kept = await cache.write([Entry("a", b"9", None)], only_absent=True)
    counted = await cache.count("n", 3, None) + await cache.count("n", -1, None)
    values = await cache.read(["a", "b", "c"])
    removed = await cache.remove(["a", "c"]) + await cache.remove_matching("*")
    return [written, kept, counted, [value and value.decode() for value in values], removed]

provider = resolve("cache", "acme-dict")
assert issubclass(provider, CacheProvider)
print(json.dumps([asyncio.run(use(provider())), drive(use(provider()))]))
"""

MISSPELL = """
import json
from pilotis.discovery import resolve
from pilotis.errors import ProviderNotFoundError

try:
    resolve("cache", "acme-dikt")
except ProviderNotFoundError as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return what runs a script in an environment that holds core and the provider, and reads its JSON."""
    uv = shutil.which("uv")
    assert uv is not None, "uv is needed to build and install distributions"
    home = tmp_path_factory.mktemp("third-party")
    python = home / "venv" / "bin" / "python"
    for project in PROJECTS:
        call(uv, "build", "--quiet", "--wheel", "--out-dir", str(home / "wheels"), str(project))
    call(uv, "venv", "--quiet", "--python", sys.executable, str(home / "venv"))
    wheels = [str(wheel) for wheel in sorted((home / "wheels").glob("*.whl"))]
    call(uv, "pip", "install", "--quiet", "--python", str(python), *wheels)

    def run(script: str) -> object:
        return json.loads(call(str(python), "-I", "-W", "error", "-c", script))

    return run


def call(*command: str) -> str:
    """Run a command outside of this virtual environment, and return what it prints."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PILOTIS_", "VIRTUAL_ENV"))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_found_by_name_and_by_scheme(run: Run) -> None:
    """With the options that its URL or the table gives, and imported when it is resolved, not before."""
    assert run(FIND) == {
        "found": {
            "acme-dict": ["DictCache", 10_000, True],
            "acme-dict://?max_entries=3": ["DictCache", 3, False],
            "{'url': 'acme-dict://', 'max_entries': 3}": ["DictCache", 3, False],
        },
        "installed": {"acme-dict": ["acme-pilotis-cache-dict", "1.0.0"]},
    }


def test_it_works_in_both_colours(run: Run) -> None:
    """As a provider of the cache's interface."""
    expected = [[True, True], [False], 5, ["1", "2", None], 3]
    assert run(USE) == [expected, expected]


def test_it_is_named_to_whoever_misspells_it(run: Run) -> None:
    """Beside the first-party ones."""
    assert run(MISSPELL) == (
        "No cache provider named 'acme-dikt' is installed (installed: acme-dict). Did you mean 'acme-dict'?"
    )
