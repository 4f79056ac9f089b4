"""The SQL of this package, for tables of any name."""

from __future__ import annotations

from functools import cache

from pilotis_postgres import Postgres, Session
from pilotis_postgres.sql import load

# A session may remember that there was no table when it looked before. It learns what others made meanwhile when it
# opens a table: any one will do.
_IS_THERE = "SELECT to_regclass(%s) IS NOT NULL FROM pg_catalog.pg_class LIMIT 1"


@cache
def statement(name: str, table: str) -> str:
    """Return `sql/<name>.sql` for a table."""
    return load("pilotis_store_postgres", name, table=table, index=table.rpartition(".")[2])


async def is_there(session: Session | Postgres, table: str) -> bool:
    """Tell whether there is a table, as of now."""
    ((found,),) = await session.execute(_IS_THERE, [table])
    return found
