"""The program as a whole: as a process, without typer, with plugins; the worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from pilotis import ProviderLoadError
from pilotis.cli import program as program_module
from pilotis.hooks import AppHooks, hookimpl, manager_of
from pilotis_testing.clock import until

Cli = Callable[..., Any]

WORKING = """
from pathlib import Path
from pilotis import Event, Pilotis

app = Pilotis()

@app.event.on("order.placed", id="note")
def note(event: Event[int]) -> None:
    Path("noted").write_text(str(event.data))

app.event.emit("order.placed", 7)
"""


def python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PILOTIS_")}
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(command, env=environment | variables, capture_output=True, text=True, check=False, timeout=30)


def test_the_package_can_be_run(elsewhere: Path) -> None:
    """`python -m pilotis` is the same program as `pilotis`."""
    done = python("-m", "pilotis", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"pilotis {version('pilotis-core')}\n", "")


def test_the_command_is_installed(elsewhere: Path) -> None:
    """It finds the app's module in the working directory, which is not on the path of a console script."""
    (elsewhere / "my_app.py").write_text("from pilotis import Pilotis\napp = Pilotis({'cache': 'memory'})\n")
    command = [str(Path(sys.executable).with_name("pilotis")), "check", "--app", "my_app:app"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[2].split()[:3] == ["cache", "memory", "yes"]


def test_an_error_of_ours_shows_no_traceback(elsewhere: Path) -> None:
    """One line on stderr, and nothing for whoever reads JSON from stdout."""
    done = python("-m", "pilotis", "check", "--json", PILOTIS_CACHE="rediss-://x")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("pilotis: ")


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_typer_it_tells_how_to_install_it(elsewhere: Path, missing: str) -> None:
    """Instead of a traceback."""
    script = f"import sys; sys.modules[{missing!r}] = None; from pilotis.cli import main; main()"
    done = python("-c", script)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "pilotis: the command line needs typer and rich. Install them with: pip install 'pilotis-core[cli]' "
        "(or all of Pilotis: pip install pilotis)\n"
    )


def test_another_missing_module_is_not_blamed_on_typer(elsewhere: Path) -> None:
    """A broken installation shows what it misses."""
    script = "import sys; sys.modules['pilotis.checks'] = None; from pilotis.cli import main; main()"
    done = python("-c", script)
    assert "pilotis.checks" in done.stderr
    assert "the command line needs" not in done.stderr


def test_a_misspelt_command_names_the_right_one(cli: Cli) -> None:
    """With the exit code of a wrong call."""
    ended = cli("provider")
    assert ended.code == 2
    assert "providers" in ended.err


def test_urls_in_the_words_of_others_lose_their_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    """A driver's message may hold the address that it was given."""
    from pilotis.cli.outcome import complain

    complain(ProviderLoadError("no answer from\nredis://shop:hunter2@redis.example/0"))
    assert capsys.readouterr().err == "pilotis: no answer from redis://shop:***@redis.example/0\n"


def test_plugins_add_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """By the hook that is given the program."""

    class Plugin:
        @hookimpl
        def pilotis_commands(self, cli: Any) -> None:
            @cli.command()
            def count_stock() -> None:
                print("nothing left")

    manager = manager_of(AppHooks)
    manager.register(Plugin())
    monkeypatch.setattr(program_module, "plugins", lambda: manager)
    monkeypatch.setattr(program_module.program, "registered_commands", [*program_module.program.registered_commands])
    monkeypatch.setattr(sys, "argv", ["pilotis", "count-stock"])
    with pytest.raises(SystemExit, match="0"):
        program_module.run()
    assert capsys.readouterr().out == "nothing left\n"


def test_a_broken_plugin_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And ends the program, because nobody knows what it would have added."""

    def plugins() -> Any:
        raise ProviderLoadError("plugin 'stock' from acme 1.0 failed to import: No module named 'acme'")

    monkeypatch.setattr(program_module, "plugins", plugins)
    with pytest.raises(SystemExit, match="2"):
        program_module.run()
    assert capsys.readouterr().err == "pilotis: plugin 'stock' from acme 1.0 failed to import: No module named 'acme'\n"


def touched_lately(file: Path) -> bool:
    try:
        return file.stat().st_mtime > time.time() - 60
    except FileNotFoundError:
        return False


def test_a_worker_works_until_it_is_told_to_end(elsewhere: Path) -> None:
    """Its health file is there while it is alive, replacing one that another left, and gone afterwards."""
    (elsewhere / "work_app.py").write_text(WORKING)
    alive = elsewhere / "alive"
    alive.touch()
    os.utime(alive, (1, 1))
    command = [sys.executable, "-m", "pilotis", "worker", "--app", "work_app:app", "--health-file", "alive"]
    worker = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: touched_lately(alive))
        until((elsewhere / "noted").is_file)
        worker.send_signal(signal.SIGTERM)
        assert (worker.wait(20), worker.stderr and worker.stderr.read().count("Traceback")) == (0, 0)
        assert not alive.exists()
    finally:
        worker.kill()
        worker.communicate()


def test_a_health_file_that_cannot_be_made_is_told_before_work_begins(cli: Cli, shop: Any) -> None:
    """A worker that seems dead would be killed again and again."""
    ended = cli("worker", "--health-file", "nowhere/alive")
    assert ended.code == 2
    assert "--health-file: there is no directory" in ended.err


def test_an_app_that_only_emits_has_no_worker(cli: Cli, elsewhere: Path) -> None:
    """It says so, and leaves no health file."""
    (elsewhere / "emit_app.py").write_text("from pilotis import Pilotis\napp = Pilotis({'role': 'emit'})\n")
    ended = cli("worker", "--app", "emit_app:app", "--health-file", "alive")
    assert (ended.code, (elsewhere / "alive").exists()) == (2, False)
    assert ended.err.startswith("pilotis: role: this app only emits")
