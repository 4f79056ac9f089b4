"""What the database must have, and how it comes there."""

from __future__ import annotations

from pilotis.errors import ConfigurationError
from pilotis_postgres import Postgres
from pilotis_postgres.sql import load

from pilotis_locking_postgres.options import PostgresLocksOptions
from pilotis_locking_postgres.statements import PACKAGE

VERSION = "pilotis locks, version 1"
"""What the comment on the table says, as `schema.sql` writes it."""

ONE_AT_A_TIME = 0x70696C6F746973
"""The advisory lock of whoever makes something: two who make the same at once would collide."""

# A session may remember that there was nothing when it looked before. It learns otherwise when it opens any table.
_FOUND = "SELECT to_regclass(%s)::text, obj_description(to_regclass(%s), 'pg_class') FROM pg_catalog.pg_class LIMIT 1"


_GROWS = "SELECT seqcache = 1 AND seqincrement > 0 AND NOT seqcycle FROM pg_sequence WHERE seqrelid = to_regclass(%s)"


async def migrate(postgres: Postgres, options: PostgresLocksOptions) -> list[str]:
    """Make what is not there yet, in one transaction, and tell what that was."""
    token = f"{options.table}_token"
    made: list[str] = []
    async with postgres.transaction() as session:
        await session.execute("SELECT pg_advisory_xact_lock(%s)", (ONE_AT_A_TIME,))
        ((found, _),) = await session.execute(_FOUND, (token, token))
        if found is None:
            await session.execute(load(PACKAGE, "sequence", table=options.table))
            made.append(f"made the sequence {token}")
        if options.mode != "table":
            return made
        ((_, version),) = await session.execute(_FOUND, (options.table, options.table))
        if version != VERSION:
            await session.script(load(PACKAGE, "schema", table=options.table, index=options.table.rpartition(".")[2]))
            made.append(f"made the tables {options.table} and {options.table}_queue, and their functions")
    return made


async def check(postgres: Postgres, options: PostgresLocksOptions) -> None:
    """Raise `ConfigurationError` unless everything is there."""
    token = f"{options.table}_token"
    ((found, _),) = await postgres.execute(_FOUND, (token, token))
    if found is None:
        raise _lacking(postgres, f"there is no sequence {token}, from which fencing tokens come")
    if await postgres.execute(_GROWS, (token,)) != [(True,)]:
        raise ConfigurationError(
            f"the sequence {token} at {postgres.address} gives tokens that do not grow with time: sessions cache it, "
            f"or it goes down or begins anew; run `ALTER SEQUENCE {token} INCREMENT 1 CACHE 1 NO CYCLE` once",
            path="locking.table",
        )
    if options.mode == "table":
        ((found, version),) = await postgres.execute(_FOUND, (options.table, options.table))
        if found is None:
            raise _lacking(postgres, f"there is no table {options.table}, where leases are")
        if version != VERSION:
            raise _lacking(postgres, f"the table {options.table} is of another version ({version!r}, not {VERSION!r})")


def _lacking(postgres: Postgres, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what}, at {postgres.address}: run `pilotis locks migrate` once, as a role that may make it",
        path="locking.table",
    )
