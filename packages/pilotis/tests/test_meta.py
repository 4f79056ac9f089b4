"""Installing `pilotis` is enough to use all six modules."""

from importlib.metadata import entry_points

import pytest

EMBEDDED = {
    "cache": "memory",
    "event": "local",
    "file": "local",
    "locking": "memory",
    "notification": "local",
    "workflow": "memory",
}


@pytest.mark.parametrize("module", EMBEDDED)
def test_the_embedded_provider_of_every_module_comes_along(module: str) -> None:
    """Each module has its embedded provider installed, and it can be loaded."""
    (entry,) = entry_points(group=f"pilotis.{module}", name=EMBEDDED[module])
    assert entry.load() is not None


def test_the_command_comes_along() -> None:
    """The `pilotis` command is installed with what it prints with."""
    (command,) = entry_points(group="console_scripts", name="pilotis")
    assert callable(command.load())
