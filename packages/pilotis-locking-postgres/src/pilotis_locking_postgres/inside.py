"""Advisory locks inside the caller's own transaction: they last until it ends."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, cast

import psycopg
from pilotis.bridge import drive, finish, run_blocking, running_loop
from pilotis.errors import InvalidInputError
from pilotis.providers import LockRequest
from pilotis_postgres import Session
from psycopg.pq import TransactionStatus

from pilotis_locking_postgres import statements
from pilotis_locking_postgres.waits import TIMED_OUT, is_early, milliseconds

UNDO = "ROLLBACK TO SAVEPOINT pilotis_lock; RELEASE SAVEPOINT pilotis_lock"

_EXPECTED = "connection: expected a psycopg.Connection or psycopg.AsyncConnection of psycopg 3 inside a transaction"


async def lock_inside(request: LockRequest, numbers: list[int], database: str) -> int | None:
    """Lock `numbers` in the transaction of `request.connection`, and return the server's process, or None.

    A wait that is over leaves the transaction as it was. Raises `InvalidInputError` for a connection that cannot do.
    """
    connection = _checked(request.connection)
    if isinstance(connection, psycopg.Connection):
        return await run_blocking(drive, _locked(request, numbers, database), "acquire")
    if running_loop() is None:
        raise InvalidInputError("connection: an asynchronous one needs the async verbs, such as `async with hold`")
    return await _locked(request, numbers, database)


def _checked(given: object) -> Any:
    if not isinstance(given, (psycopg.Connection, psycopg.AsyncConnection)):
        raise InvalidInputError(f"{_EXPECTED}, got {type(given).__qualname__}")
    connection = cast("Any", given)
    status = TransactionStatus(connection.pgconn.transaction_status)
    if status == TransactionStatus.INTRANS or (status == TransactionStatus.IDLE and not connection.autocommit):
        return connection
    how = "it commits each statement by itself" if connection.autocommit else f"its state is {status.name}"
    raise InvalidInputError(f"{_EXPECTED}, and {how}; begin one with `connection.transaction()`")


async def _locked(request: LockRequest, numbers: list[int], database: str) -> int | None:
    session = Session(request.connection)
    try:
        process, where, is_granted = await _tried(session, request, numbers)
    except BaseException:
        with suppress(psycopg.Error):  # the one that is under way says more
            await finish(_undo(session))
        raise
    if where not in (None, database):
        await _undo(session)
        raise InvalidInputError(f"connection: expected one to the database {database!r} of the locks, got {where!r}")
    if not is_granted:
        await _undo(session)
        return None
    return process


async def _tried(session: Session, request: LockRequest, numbers: list[int]) -> tuple[int, str | None, bool]:
    """Return the server's process, its database, and whether all were taken."""
    version: int = session.connection.info.server_version
    waits = request.wait > 0
    script = statements.lock("inside", waits=waits, shared=request.shared, version=version)
    if not waits:
        ((process, where, is_granted),) = await session.script(script, {"numbers": numbers})
        return process, where, is_granted
    began, wait = time.monotonic(), milliseconds(request.wait)
    try:
        ((process, where),) = await session.script(script, {"numbers": numbers, "wait": wait})
    except TIMED_OUT as error:
        if is_early(error, began, wait):
            raise
        return 0, None, False
    return process, where, True


async def _undo(session: Session) -> None:
    """Go back to the savepoint, where there is one: what was taken since is free."""
    if session.connection.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
        await session.script(UNDO)
