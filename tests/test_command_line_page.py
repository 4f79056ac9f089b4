"""The page on the command line tells of everything that there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pilotis.cli import outcome
from pilotis.cli.living import BEAT
from pilotis.cli.program import program
from typer.main import get_command

PAGE = (Path(__file__).parents[1] / "docs" / "command-line.md").read_text()


def commands(group: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *names, name)
        else:
            yield (*names, name), command


ALL = dict(commands(get_command(program)))


def section(names: tuple[str, ...]) -> str:
    """Return the part of the page that is on a command or its group; all of it where there is none."""
    parts = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    return next((part for part in parts if part.startswith(f"`pilotis {names[0]}`")), PAGE)


@pytest.mark.parametrize("names", ALL, ids=" ".join)
def test_the_page_tells_of_every_command(names: tuple[str, ...]) -> None:
    """A command in the section of its group, or with its whole name."""
    group, *command = names
    assert re.search(rf"`(pilotis {group} )?{command[0]}\b", section(names)) if command else f"`pilotis {group}" in PAGE


@pytest.mark.parametrize("names", ALL, ids=" ".join)
def test_the_page_tells_of_every_option(names: tuple[str, ...]) -> None:
    """In the same section; those that every command has, once for all."""
    common = {"--app", "--json", "--help"}
    assert all(f"`{option}" in PAGE for option in common | {"--version"})
    options = {option for parameter in ALL[names].params for option in parameter.opts if option.startswith("-")}
    assert [] == [option for option in sorted(options - common) if option not in section(names)]


@pytest.mark.parametrize("names", ALL, ids=" ".join)
def test_every_command_and_option_explains_itself(names: tuple[str, ...]) -> None:
    """For `--help`, which is the nearest page of all."""
    assert ALL[names].help
    assert [] == [parameter.name for parameter in ALL[names].params if not getattr(parameter, "help", None)]


def test_the_page_tells_the_exit_codes_and_the_beat() -> None:
    """As they are in the program."""
    assert f"| {outcome.WRONG} | something is wrong" in PAGE
    assert f"| {outcome.MISUSED} | the call or the settings cannot work" in PAGE
    assert f"touched every {BEAT:g} seconds" in PAGE
