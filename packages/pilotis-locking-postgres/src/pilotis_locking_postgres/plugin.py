"""The entry point: found by discovery, imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.providers import hookimpl

if TYPE_CHECKING:
    from pilotis.providers import LockingProvider


@hookimpl
def pilotis_provider() -> type[LockingProvider]:
    """Return the provider class."""
    from pilotis_locking_postgres.provider import PostgresLocks

    return PostgresLocks
