"""`pilotis status`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pilotis import Pilotis
from pilotis.cli.logs import Structured
from pilotis.cli.watching import Sources

Cli = Callable[..., Any]


def test_an_app_that_is_well_ends_with_0(cli: Cli, shop: Any) -> None:
    """And says so."""
    ended = cli("status")
    assert (ended.code, ended.out) == (0, "All is well.\n")


def test_warnings_end_with_1(cli: Cli, shop: Any) -> None:
    """With what mends them."""
    shop.app.event.pause("confirm")
    shop.app.event.emit("order.placed", {"id": 1})
    ended = cli("status", "--json")
    assert ended.code == 1
    [finding] = ended.json
    assert (finding["severity"], finding["mend"]) == ("warning", "pilotis events resume confirm")
    assert datetime.fromisoformat(finding["since"]) <= datetime.now(UTC)


def test_what_is_stuck_ends_with_2(cli: Cli, elsewhere: Path) -> None:
    """Such as a backend that cannot be used, which is no error of the command."""
    (elsewhere / "no-folder").touch()
    (elsewhere / "pilotis.toml").write_text('name = "shop"\n[file]\nroot = "no-folder/files"\n')
    ended = cli("status")
    assert (ended.code, ended.err) == (2, "")
    assert "the backend of file cannot be used" in ended.out


def test_a_status_imports_what_the_settings_include(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers that are not known would make their lanes look forgotten."""
    monkeypatch.setattr("sys.path", [str(elsewhere), *sys.path])
    (elsewhere / "status_handlers.py").write_text(
        "from pilotis import Handlers\nhandlers = Handlers()\nhandlers.on('a', id='mail')(print)\n"
    )
    with Pilotis({"include": ["status_handlers"]}, role="emit") as app:
        assert app.status() == []
        assert [lane.subscription for lane in app.event.lanes()] == ["mail"]


# What the worker writes and watches


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("shop", logging.WARNING, __file__, 1, message, None, None)
    vars(made).update(extra, created=0.0)
    return made


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("two words", '"two words"'),
        ('a"b', r'"a\"b"'),
        ("a=b", '"a=b"'),
        ("a\nb", r'"a\nb"'),
    ],
)
def test_a_line_of_logfmt_is_one_line(value: str, written: str) -> None:
    """Whatever stands in it."""
    line = Structured("logfmt").format(record("hello", order=value))
    assert line.startswith("time=1970-01-01T00:00:00.000+00:00 level=warning logger=shop pid=")
    assert line.endswith(f" msg=hello order={written}")


def test_an_exception_is_a_field() -> None:
    """In one line, too."""
    try:
        raise ValueError("no address")
    except ValueError as error:
        made = record("failed")
        made.exc_info = (type(error), error, error.__traceback__)
    line = Structured("json").format(made)
    assert "\n" not in line
    assert "ValueError: no address" in line


def test_files_that_change_are_told_of_once(tmp_path: Path) -> None:
    """Written, added or removed; what is hidden, installed or no code is left out."""
    for name in ("a.py", "b.txt", ".git/c.py", "venv/pyvenv.cfg", "venv/d.py", "inner/__pycache__/e.py", "inner/f.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    sources = Sources([tmp_path])
    for name in ("b.txt", ".git/c.py", "venv/d.py", "inner/__pycache__/e.py"):
        (tmp_path / name).unlink()
    assert sources.changed() == []
    (tmp_path / "a.py").unlink()
    (tmp_path / "inner" / "g.py").write_text("")
    assert [str(tmp_path / "a.py"), str(tmp_path / "inner" / "g.py")] == sources.changed()
    assert sources.changed() == []
