"""`pilotis locks`, with locks that other processes hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from pilotis import Pilotis
from pilotis.cli.program import program
from typer.testing import CliRunner


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_url: str) -> None:
    """Be in the directory of an app whose leases are in an empty PostgreSQL."""
    monkeypatch.chdir(tmp_path)
    Path("pilotis.toml").write_text(f'name = "shop"\n[locking]\nurl = "{postgres_url}"\nmode = "table"\n')


def told(*arguments: str, code: int = 0) -> Any:
    """Run a command, and return the document that it prints; with another code, what it says."""
    result = CliRunner().invoke(program, ["locks", *arguments, "--json"])
    assert code == result.exit_code, result.output
    return result.stderr if code else msgspec.json.decode(result.stdout)


@pytest.mark.usefixtures("shop")
def test_locks_in_postgresql_are_looked_after_from_the_command_line() -> None:
    """Made once, listed, shown and broken; before they are made, the error names the command that makes them."""
    assert "run `pilotis locks migrate` once" in told("ls", code=2)
    assert [
        "made the sequence pilotis_locks_token",
        "made the tables pilotis_locks and pilotis_locks_queue, and their functions",
    ] == told("migrate")["changes"]
    assert [] == told("migrate")["changes"]
    with Pilotis.load() as app:
        lease = app.locking.acquire("order:1", owner="job-7", ttl=600)
        assert [("order:1", "job-7", lease.token)] == [(it["key"], it["owner"], it["token"]) for it in told("ls")]
        assert ["job-7"] == [it["owner"] for it in told("show", "order:1")]
        assert {"key": "order:1", "holders": 1} == told("break", "order:1", "--yes")
        assert lease.release() is False
