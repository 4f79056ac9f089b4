"""What the tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pilotis.bridge import blocking
from pilotis_postgres import Postgres, PostgresOptions

Connect = Callable[..., Postgres]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Make clients that are closed in the end."""
    made: list[Postgres] = []

    def make(url: str, **options: Any) -> Postgres:
        postgres = Postgres(PostgresOptions(url=url, **options))
        made.append(postgres)
        return postgres

    yield make
    for postgres in made:
        blocking(Postgres.close)(postgres)


@pytest.fixture
def postgres(connect: Connect, postgres_url: str) -> Postgres:
    """A client of an empty database."""
    return connect(postgres_url)
