"""The outbox in PostgreSQL keeps what every outbox does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from pilotis_store_postgres import PostgresOutbox, PostgresOutboxOptions
from pilotis_testing.outbox import OutboxConformance


class TestPostgresOutbox(OutboxConformance):
    @pytest.fixture
    def provider(self, postgres_url: str) -> PostgresOutbox:
        return PostgresOutbox(PostgresOutboxOptions(url=postgres_url))

    @pytest.fixture
    def connect(self, postgres_url: str) -> Callable[[], psycopg.Connection[Any]]:
        return lambda: psycopg.connect(postgres_url)
