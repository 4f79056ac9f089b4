"""What the PostgreSQL providers of Pilotis stand on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.faces import lazily

if TYPE_CHECKING:
    from pilotis_postgres.client import Postgres
    from pilotis_postgres.listener import Ear
    from pilotis_postgres.options import PostgresOptions
    from pilotis_postgres.provider import PostgresBacked
    from pilotis_postgres.session import Session
    from pilotis_postgres.startup import Facts

__all__ = ["Ear", "Facts", "Postgres", "PostgresBacked", "PostgresOptions", "Session"]

__getattr__ = lazily(
    globals(),
    {
        "pilotis_postgres.client": "Postgres",
        "pilotis_postgres.listener": "Ear",
        "pilotis_postgres.options": "PostgresOptions",
        "pilotis_postgres.provider": "PostgresBacked",
        "pilotis_postgres.session": "Session",
        "pilotis_postgres.startup": "Facts",
    },
)
