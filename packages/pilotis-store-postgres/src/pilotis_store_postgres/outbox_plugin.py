"""The entry point: found by discovery, imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.providers import hookimpl

if TYPE_CHECKING:
    from pilotis.providers import OutboxProvider


@hookimpl
def pilotis_provider() -> type[OutboxProvider]:
    """Return the provider class."""
    from pilotis_store_postgres.outbox import PostgresOutbox

    return PostgresOutbox
