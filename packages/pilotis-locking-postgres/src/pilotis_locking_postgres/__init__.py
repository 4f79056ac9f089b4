"""The PostgreSQL locking provider of Pilotis."""

from __future__ import annotations

from pilotis_locking_postgres.options import PostgresLocksOptions
from pilotis_locking_postgres.provider import PostgresLocks

__all__ = ["PostgresLocks", "PostgresLocksOptions"]
