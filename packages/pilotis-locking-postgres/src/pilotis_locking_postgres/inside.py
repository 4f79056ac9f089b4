"""Advisory locks inside the caller's own transaction: they last until it ends."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar, cast

import psycopg
from pilotis.bridge import Latch, drive, finish, run_blocking, running_loop
from pilotis.errors import InvalidInputError
from pilotis.providers import LockRequest
from pilotis_postgres import Session
from pilotis_postgres.connections import GRACE, INTERVAL
from psycopg.pq import PipelineStatus, TransactionStatus

from pilotis_locking_postgres import statements
from pilotis_locking_postgres.waits import TIMED_OUT, is_early, milliseconds

R = TypeVar("R")

KEEP = "RELEASE SAVEPOINT pilotis_lock"
UNDO = f"ROLLBACK TO SAVEPOINT pilotis_lock; {KEEP}"
LOOKS = 50
"""How often a statement is cancelled whose caller is gone: it may begin later than it is cancelled."""

_EXPECTED = "connection: expected a psycopg.Connection or psycopg.AsyncConnection of psycopg 3 inside a transaction"
_BEGIN = "begin one with `connection.transaction()`"
_UNFIT = {
    TransactionStatus.IDLE: f"it commits each statement by itself; {_BEGIN}",
    TransactionStatus.INERROR: "its transaction has failed; roll that back first",
    TransactionStatus.ACTIVE: "it is busy with another statement; wait for the end of that",
    TransactionStatus.UNKNOWN: "it is closed; connect anew",
}


async def lock_inside(
    request: LockRequest, numbers: list[int], sees: Callable[[int], Awaitable[bool]], address: str
) -> int | None:
    """Lock `numbers` in the transaction of `request.connection`, and return the server's process, or None.

    `sees` tells whether a process has them, as seen at the `address` of the provider. Whoever gets nothing has the
    transaction as it was. Raises `InvalidInputError` for a connection that cannot do, or leads elsewhere.
    """
    session = Session(_checked(request.connection))
    try:
        process = await _at_home(session, _taken(session, request, numbers))
        is_here = process is None or await sees(process)
    except BaseException:
        with suppress(psycopg.Error):  # the one that is under way says more
            await finish(_undo(session))
        raise
    if process is None or not is_here:
        await finish(_undo(session))
    else:
        await finish(_keep(session))
    if not is_here:
        raise InvalidInputError(
            f"connection: expected one to the database of the locks, {address}, and what is locked on it is not seen "
            f"there; connect to the same server and database"
        )
    return process


def _checked(given: object) -> Any:
    if not isinstance(given, (psycopg.Connection, psycopg.AsyncConnection)):
        raise InvalidInputError(f"{_EXPECTED}, got {type(given).__qualname__}")
    connection = cast("Any", given)
    if _is_asynchronous(connection) and running_loop() is None:
        raise InvalidInputError("connection: an asynchronous one needs the async verbs, such as `async with hold`")
    if connection.pgconn.pipeline_status != PipelineStatus.OFF:
        raise InvalidInputError(f"{_EXPECTED}, and it is in pipeline mode; lock before the pipeline, or after it")
    status = TransactionStatus(connection.pgconn.transaction_status)
    if status == TransactionStatus.INTRANS or (status == TransactionStatus.IDLE and not connection.autocommit):
        return connection
    raise InvalidInputError(f"{_EXPECTED}, and {_UNFIT[status]}")


def _is_asynchronous(connection: object) -> bool:
    return isinstance(connection, psycopg.AsyncConnection)


async def _taken(session: Session, request: LockRequest, numbers: list[int]) -> int | None:
    """Return the server's process if it has all of them now, all since the savepoint."""
    version: int = session.connection.info.server_version
    waits = request.wait > 0
    script = statements.lock("inside", waits=waits, shared=request.shared, version=version)
    if not waits:
        ((process, is_granted),) = await session.script(script, {"numbers": numbers})
        return process if is_granted else None
    began, wait = time.monotonic(), milliseconds(request.wait)
    try:
        ((process,),) = await session.script(script, {"numbers": numbers, "wait": wait})
    except TIMED_OUT as error:
        if is_early(error, began, wait):
            raise
        return None
    return process


async def _undo(session: Session) -> None:
    """Go back to the savepoint, where there is one: what was taken since is free."""
    status = session.connection.pgconn.transaction_status
    if status == TransactionStatus.INERROR:
        await _at_home(session, session.script(UNDO))
    elif status == TransactionStatus.INTRANS:
        try:
            await _at_home(session, session.script(f"SAVEPOINT pilotis_undo; {UNDO}"))
        except psycopg.errors.InvalidSavepointSpecification:  # we were cancelled before anything was sent
            await _at_home(session, session.script(UNDO.replace("pilotis_lock", "pilotis_undo")))


async def _keep(session: Session) -> None:
    """Forget the savepoint, and keep what was taken since: savepoints that stay make a transaction slow."""
    await _at_home(session, session.execute(KEEP))


# Blocking connections under an event loop


async def _at_home(session: Session, work: Coroutine[Any, Any, R]) -> R:
    """Do what waits for a connection: for a blocking one under an event loop, on a thread.

    A caller who is cancelled leaves nobody at work on his connection.
    """
    if running_loop() is None or _is_asynchronous(session.connection):
        return await work
    ended = Latch()

    def run() -> R:
        try:
            return drive(work, "acquire")
        finally:
            ended.set()

    try:
        return await run_blocking(run)
    except BaseException:
        await finish(_stop(session.connection, ended))
        raise


async def _stop(connection: Any, ended: Latch) -> None:
    """Cancel on the server what a thread waits for, until it has ended."""
    for _ in range(LOOKS):
        if ended.is_set():
            return
        with suppress(psycopg.Error):  # it ends without
            await run_blocking(connection.cancel_safe, timeout=GRACE)
        await ended.wait(INTERVAL)
