"""What is looked at before a PostgreSQL is relied on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
from pilotis.errors import OperationError

from pilotis_postgres.session import Session

if TYPE_CHECKING:
    from pilotis_postgres.client import Postgres

OLDEST = 13
LOOKS = 10
"""How often two connections are compared: other clients may come in between."""

Pooler = Literal["transaction", "session"]

_PROCESS = "SELECT pg_backend_pid()"


class Facts(msgspec.Struct, frozen=True):
    """What was found."""

    version: int
    """As the server numbers it: 150018 is 15.18."""
    pooler: Pooler | None
    """What stands in between: it lends its connections for a transaction, or for a session. None: nothing does."""


async def check(postgres: Postgres) -> Facts:
    """Raise unless the server answers, lets us in and is new enough; return what was found."""
    async with postgres.session() as session:
        version: int = session.connection.info.server_version
        if version // 10_000 < OLDEST:
            raise OperationError(
                f"expected PostgreSQL {OLDEST} or newer at {postgres.address}, got {version // 10_000}; "
                f"upgrade the server"
            )
        told, actual = session.connection.info.backend_pid, await _process(session)
    return Facts(version, None if told == actual else await _pooler(postgres))


async def _pooler(postgres: Postgres) -> Pooler:
    """Tell what a pooler lends its connections for, by what two clients get that are connected at the same time."""
    async with postgres.session() as one, postgres.session() as two:
        before = await _process(one)
        for _ in range(LOOKS):
            async with two.transaction():
                taken = await _process(two)
                after = await _process(one)
            if taken == before or after != before:
                return "transaction"
    return "session"


async def _process(session: Session) -> int:
    """Return the number of the server's process that answers."""
    ((pid,),) = await session.execute(_PROCESS)
    return pid
