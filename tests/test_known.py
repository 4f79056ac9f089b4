"""The table of first-party providers agrees with what the packages declare."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pilotis.discovery import INTERFACES
from pilotis.known import FIRST_PARTY
from pilotis.settings import DEFAULT_PROVIDER

ROOT = Path(__file__).parents[1]
PROJECTS: dict[str, dict[str, Any]] = {
    project["name"]: project
    for file in sorted(ROOT.glob("packages/*/pyproject.toml"))
    for project in [tomllib.loads(file.read_text())["project"]]
}


def declared(project: dict[str, Any]) -> set[tuple[str, str]]:
    """Return the providers that a package declares, as module and name."""
    groups = project.get("entry-points", {})
    return {(module, name) for module in INTERFACES for name in groups.get(f"pilotis.{module}", {})}


@pytest.mark.parametrize("package", PROJECTS)
def test_the_table_has_what_a_package_declares_and_nothing_else(package: str) -> None:
    """A package that is not built yet is in the table alone."""
    listed = {(module, name) for module, names in FIRST_PARTY.items() for name in names}
    of_package = {place for place in listed if FIRST_PARTY[place[0]][place[1]] == package}
    assert of_package == declared(PROJECTS[package])


def test_the_table_is_about_what_can_have_a_provider() -> None:
    """Each module, the outbox and the ledger."""
    assert set(INTERFACES) == set(FIRST_PARTY)


def test_what_a_bare_app_uses_comes_with_the_meta_package() -> None:
    """So that `Pilotis()` works after installing `pilotis`."""
    requirements = {requirement.partition(">=")[0] for requirement in PROJECTS["pilotis"]["dependencies"]}
    assert {FIRST_PARTY[module][name] for module, name in DEFAULT_PROVIDER.items()} <= requirements
