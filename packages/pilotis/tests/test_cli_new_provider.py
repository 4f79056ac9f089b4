"""`pilotis new-provider`: what it writes, and what it refuses."""

from __future__ import annotations

import importlib.util
import inspect
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pilotis.discovery import interface
from pilotis.providers import CacheCapability

Cli = Callable[..., Any]

MODULES = ("cache", "event", "file", "locking", "notification", "workflow")


def generated(project: Path, package: str) -> Any:
    """Return the generated provider module."""
    spec = importlib.util.spec_from_file_location("generated_provider", project / "src" / package / "provider.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_writes_a_distribution(cli: Cli, elsewhere: Path) -> None:
    """Named after module and provider, in a directory of that name."""
    ended = cli("new-provider", "cache", "acme-dict", "--json")
    assert ended.code == 0
    assert ended.json == {
        "path": "pilotis-cache-acme-dict",
        "files": [
            "README.md",
            "pyproject.toml",
            "src/pilotis_cache_acme_dict/__init__.py",
            "src/pilotis_cache_acme_dict/plugin.py",
            "src/pilotis_cache_acme_dict/py.typed",
            "tests/test_conformance.py",
            "tests/test_packaging.py",
            "src/pilotis_cache_acme_dict/provider.py",
        ],
    }
    project = elsewhere / "pilotis-cache-acme-dict"
    written = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert written["name"] == "pilotis-cache-acme-dict"
    assert written["entry-points"] == {"pilotis.cache": {"acme-dict": "pilotis_cache_acme_dict.plugin"}}


def test_it_has_the_headings_of_every_provider(cli: Cli, elsewhere: Path) -> None:
    """So that users find the same things in the same places."""
    cli("new-provider", "file", "ftp", "--into", "below")
    text = (elsewhere / "below" / "pilotis-file-ftp" / "README.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# pilotis-file-ftp",
        "## Install",
        "## Configure",
        "## Capabilities",
        "## Guarantees",
        "## Considerations",
        "## Development",
    ]


@pytest.mark.parametrize("module", MODULES)
def test_every_verb_stands_there_as_the_interface_has_it(cli: Cli, elsewhere: Path, module: str) -> None:
    """With its signature and, where it is to be written, with what it owes."""
    cli("new-provider", module, "mine")
    provider = getattr(
        generated(elsewhere / f"pilotis-{module}-mine", f"pilotis_{module}_mine"), f"Mine{module.title()}"
    )
    authored = interface(module)
    assert not inspect.isabstract(provider)
    assert provider().options == provider.Options()
    for verb in authored.__abstractmethods__:
        expected: Any = getattr(authored, verb)
        written: Any = getattr(provider, verb)
        assert inspect.signature(expected) == inspect.signature(written)
        assert module == "cache" or inspect.getdoc(expected) == inspect.getdoc(written)


def test_a_cache_is_written_already(cli: Cli, elsewhere: Path) -> None:
    """It works; the other modules' verbs say that they are to be written."""
    cli("new-provider", "cache", "mine")
    cache = generated(elsewhere / "pilotis-cache-mine", "pilotis_cache_mine").MineCache
    assert cache.capabilities == CacheCapability.MATCHING | CacheCapability.MATCH_COUNT | CacheCapability.BOUNDED
    cli("new-provider", "locking", "mine")
    text = (elsewhere / "pilotis-locking-mine" / "src" / "pilotis_locking_mine" / "provider.py").read_text()
    assert text.count("raise NotImplementedError") == 3


def test_every_file_is_filled_in_and_can_be_compiled(cli: Cli, elsewhere: Path) -> None:
    """No place of the template is left open."""
    for module in MODULES:
        cli("new-provider", module, "a.b+c")
    files = [path for path in elsewhere.rglob("*") if path.is_file()]
    assert len(files) == 8 * len(MODULES)
    for path in files:
        text = path.read_text()
        assert "$" not in text, path
        assert ".tmpl" not in path.name
        if path.suffix == ".py":
            compile(text, str(path), "exec")


@pytest.mark.parametrize(
    ("module", "name", "complaint"),
    [
        ("cash", "mine", "there is no module 'cash' (modules: cache, event, file, locking, notification, workflow)"),
        ("outbox", "mine", "there is no module 'outbox'"),
        (
            "cache",
            "My Cache",
            "'My Cache' cannot name a provider: expected lower-case letters, digits, and '+', '.' or",
        ),
        ("cache", "3rd", "'3rd' cannot name a provider"),
        ("cache", "redis", "cache provider 'redis' is the name of pilotis-cache-redis: choose another one"),
    ],
)
def test_what_cannot_be_is_refused(cli: Cli, elsewhere: Path, module: str, name: str, complaint: str) -> None:
    """With what was expected, and nothing written."""
    ended = cli("new-provider", module, name)
    assert ended.code == 2
    assert complaint in ended.err
    assert list(elsewhere.iterdir()) == []


def test_what_exists_is_left_alone(cli: Cli, elsewhere: Path) -> None:
    """Nobody's work is overwritten."""
    cli("new-provider", "cache", "mine")
    ended = cli("new-provider", "cache", "mine")
    assert ended.code == 2
    assert "pilotis-cache-mine exists already" in ended.err
