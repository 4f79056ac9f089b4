"""Ledgers that outlive the process, behind an app."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pilotis import ConfigurationError, ConnectionFailedError, Content, Pilotis


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/shop.db"


def test_an_app_keeps_its_ledger_in_a_file(url: str) -> None:
    """Named by its URL alone; a second app on it knows the key."""
    settings: dict[str, Any] = {"notification": {"provider": "local", "ledger": url}}
    order: dict[str, Any] = {"to": "ada@example.com", "channel": "email", "idempotency_key": "order-42"}
    with Pilotis(settings) as app:
        first = app.notification.send(**order, content=Content(text="Thank you"))
    with Pilotis(settings) as app:
        assert first == app.notification.send(**order, content=Content(text="Thank you"))
        assert [] == app.notification.outbox


def test_a_folder_that_is_not_there_is_told_at_the_start(tmp_path: Path) -> None:
    """With the path of the file."""
    settings = {"notification": {"provider": "local", "ledger": f"sqlite:///{tmp_path}/nowhere/shop.db"}}
    with pytest.raises(ConnectionFailedError, match=r"nowhere/shop\.db"), Pilotis(settings):
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "sqlite:///:memory:"}, r"notification\.ledger: url: expected a file"),
        ({"url": "sqlite:///a.db", "retention": 0}, r"notification\.ledger: retention: expected from 1"),
        ({"url": "sqlite:///a.db", "timout": 1}, r"notification\.ledger\.timout: .*timeout"),
    ],
)
def test_bad_options_are_told_with_their_place(options: dict[str, Any], message: str) -> None:
    """Before anything is opened."""
    with pytest.raises(ConfigurationError, match=message):
        Pilotis({"notification": {"provider": "local", "ledger": options}}).notification  # noqa: B018 - the look raises
