"""Which app the command line works on, and what it says where there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]

APP = "from pilotis import Pilotis\n{name} = Pilotis({{'name': '{name}'}})\nother = 3\n"


@pytest.fixture(autouse=True)
def apps(elsewhere: Path) -> None:
    """Three apps, in three modules."""
    for name in ("option", "variable", "setting"):
        (elsewhere / f"{name}_app.py").write_text(APP.format(name=name))


def test_the_option_comes_before_the_variable_before_the_setting(
    cli: Cli, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--app`, then `PILOTIS_APP`, then `app` in the settings, then the settings alone."""
    assert cli("settings", "--json").json["name"] is None
    (elsewhere / "pilotis.toml").write_text('name = "file"\napp = "setting_app:setting"\n')
    assert cli("settings", "--json").json["name"] == "setting"
    monkeypatch.setenv("PILOTIS_APP", "variable_app:variable")
    assert cli("settings", "--json").json["name"] == "variable"
    assert cli("settings", "--json", "--app", "option_app:option").json["name"] == "option"


def test_the_option_may_stand_before_the_command(cli: Cli) -> None:
    """So may `--json`."""
    assert cli("--app", "option_app:option", "--json", "settings").json["name"] == "option"


def test_an_app_in_the_settings_is_looked_for_beside_them(
    cli: Cli, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a directory below, too."""
    (elsewhere / "pilotis.toml").write_text('app = "setting_app:setting"\n')
    (elsewhere / "below").mkdir()
    monkeypatch.chdir(elsewhere / "below")
    assert cli("settings", "--json").json["name"] == "setting"


@pytest.mark.parametrize(
    ("place", "complaint"),
    [
        ("option_app", "--app: 'option_app' names no app: expected module:name, such as shop.main:app"),
        ("option_app:other", "--app: 'option_app:other' is no Pilotis object. In option_app there is: option."),
        ("option_app:typo", "--app: 'option_app:typo' is no Pilotis object. In option_app there is: option."),
        ("nowhere:app", "--app: there is no module 'nowhere' in {here} or on the Python path"),
        ("nowhere.main:app", "--app: there is no module 'nowhere' in {here} or on the Python path"),
    ],
)
def test_a_name_that_leads_nowhere_is_told_in_one_line(cli: Cli, elsewhere: Path, place: str, complaint: str) -> None:
    """With what was expected, and the exit code of a wrong call."""
    ended = cli("settings", "--app", place)
    assert (ended.code, ended.out, ended.err) == (2, "", f"pilotis: {complaint.format(here=elsewhere)}\n")


def test_the_variable_is_named_where_it_is_to_blame(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the option, which was not given."""
    monkeypatch.setenv("PILOTIS_APP", "nowhere:app")
    assert cli("settings").err.startswith("pilotis: PILOTIS_APP: there is no module 'nowhere'")


def test_what_the_apps_module_raises_passes_unchanged(cli: Cli, elsewhere: Path) -> None:
    """Because its traceback is what its author needs; a module that it misses is not taken for it."""
    (elsewhere / "broken_app.py").write_text("import not_there_at_all\n")
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        cli("settings", "--app", "broken_app:app")


def test_settings_that_cannot_work_are_told_in_one_line(cli: Cli, elsewhere: Path) -> None:
    """With their place, and no traceback."""
    (elsewhere / "pilotis.toml").write_text("[cache]\ndefault_tll = 3\n")
    ended = cli("check")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "pilotis: cache.default_tll: there is no such option. Did you mean 'default_ttl'?\n"
