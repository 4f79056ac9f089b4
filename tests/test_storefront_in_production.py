"""The storefront on servers: Redis, PostgreSQL, S3 and SendGrid."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from pilotis_testing.chaos import FULL, size
from pilotis_testing.servers import RedisServer
from storefront import main
from typer.testing import CliRunner

pytestmark = [pytest.mark.slow, pytest.mark.campaign, pytest.mark.timeout(1800 if FULL else 240)]

ORDERS = size(40, 300)
"""Of the own shop."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The own shop on a short day."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("products.csv", "customers.csv"):
        (folder / name).write_bytes((main.OWN_SHOP / name).read_bytes())
    numbers = shorten("orders.csv", folder, None)
    shorten("order-details.csv", folder, numbers)
    return folder


def shorten(name: str, folder: Path, numbers: set[str] | None) -> set[str]:
    """Copy the rows of some orders, or of the first ones; return their numbers."""
    with (main.OWN_SHOP / name).open(encoding="utf-8", newline="") as whole:
        rows = list(csv.DictReader(whole))
    kept = [row for row in rows if row["orderID"] in numbers] if numbers is not None else rows[:ORDERS]
    with (folder / name).open("w", encoding="utf-8", newline="") as short:
        writer = csv.DictWriter(short, list(rows[0]))
        writer.writeheader()
        writer.writerows(kept)
    return {row["orderID"] for row in kept}


def test_the_books_balance_although_a_worker_is_killed(data: Path, tmp_path: Path) -> None:
    """With servers that are started for the day, and two workers that do all the work, until one is left."""
    out = tmp_path / "out"
    command = ["--on", "production", "--kill", "--data", str(data), "--out", str(out)]
    result = CliRunner().invoke(main.command(), command)
    log = (out / "workers.log").read_text()
    assert 0 == result.exit_code, result.output + log
    assert "The books balance." in result.output
    assert 1 == log.count('msg="worker stopped"'), log


def test_a_server_that_cannot_be_started_is_told(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install, or which variable to set; exit code 2."""
    monkeypatch.setattr(RedisServer, "program", "no-such-server")
    result = CliRunner().invoke(
        main.command(), ["--on", "production", "--data", str(data), "--out", str(tmp_path / "out")]
    )
    assert 2 == result.exit_code
    assert "no-such-server is not on this machine" in result.output
