"""The PostgreSQL locking provider of Pilotis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.faces import lazily

if TYPE_CHECKING:
    from pilotis_locking_postgres.options import PostgresLocksOptions
    from pilotis_locking_postgres.provider import PostgresLocks

__all__ = ["PostgresLocks", "PostgresLocksOptions"]

__getattr__ = lazily(
    globals(),
    {
        "pilotis_locking_postgres.options": "PostgresLocksOptions",
        "pilotis_locking_postgres.provider": "PostgresLocks",
    },
)
