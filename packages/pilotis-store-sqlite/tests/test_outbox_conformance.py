"""The outbox in SQLite keeps what every outbox does."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from pilotis_store_sqlite import SqliteOutbox, SqliteOutboxOptions
from pilotis_testing.outbox import OutboxConformance


class TestSqliteOutbox(OutboxConformance):
    @pytest.fixture
    def provider(self, tmp_path: Path) -> SqliteOutbox:
        return SqliteOutbox(SqliteOutboxOptions(url=f"sqlite:///{tmp_path}/shop.db"))

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Callable[[], sqlite3.Connection]:
        return lambda: sqlite3.connect(tmp_path / "shop.db")
