"""The connections of callers: what they are is told by the names of their classes, so that nothing is imported."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from pilotis.bridge import run_blocking, running_loop
from pilotis.errors import InvalidInputError, UsageError
from pilotis.modules.event.outbox import CallersConnection

_PLACE = re.compile(r":(\w+)")
_ALLOWED = (
    "sqlite3.Connection, psycopg.Connection or AsyncConnection, a Connection or Session of SQLAlchemy or their asyncio "
    "twins, or django.db.connection"
)
_IDLE = 0
"""`psycopg.pq.TransactionStatus.IDLE`: no transaction is under way."""


def as_callers(connection: Any) -> CallersConnection:
    """Return what writes through a connection. No I/O. Raises InvalidInputError for what is no known connection."""
    for kind in type(connection).__mro__:
        adapter = _ADAPTERS.get(f"{kind.__module__}.{kind.__qualname__}")
        if adapter is not None:
            return adapter(connection)
    raise InvalidInputError(f"connection: expected {_ALLOWED}, got {type(connection).__name__}")


def driver_error(error: Exception) -> Exception:
    """Return the error of the database's driver where SQLAlchemy or Django has wrapped it; else the error itself."""
    wrapped = getattr(error, "orig", None)
    if wrapped is None and type(error).__module__ == "django.db.utils":
        wrapped = error.__cause__
    return wrapped if isinstance(wrapped, Exception) else error


class _Sqlite:
    """A connection of the standard library. It belongs to one thread, so it is used on the caller's."""

    dialect = "sqlite"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def execute(self, statement: str, values: Mapping[str, Any]) -> None:
        connection = self._connection
        commits_itself = connection.isolation_level is None or getattr(connection, "autocommit", -1) is True
        if commits_itself and not connection.in_transaction:
            raise _no_transaction('connection.execute("BEGIN")')
        connection.execute(statement, values)


class _Psycopg:
    """A blocking connection of psycopg 3. It may wait for another transaction, so never on a loop's thread."""

    dialect = "postgresql"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def execute(self, statement: str, values: Mapping[str, Any]) -> None:
        _check_psycopg(self._connection)
        await run_blocking(_cursor(self._connection, "Cursor").execute, _PLACE.sub(r"%(\1)s", statement), values)


class _AsyncPsycopg:
    dialect = "postgresql"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def execute(self, statement: str, values: Mapping[str, Any]) -> None:
        _check_loop(self._connection)
        _check_psycopg(self._connection)
        await _cursor(self._connection, "AsyncCursor").execute(_PLACE.sub(r"%(\1)s", statement), values)


class _Alchemy:
    """A `Connection` or `Session` of SQLAlchemy."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.dialect: str = _dialect(connection)

    async def execute(self, statement: str, values: Mapping[str, Any]) -> None:
        if self.dialect == "sqlite":
            self._execute(statement, values)
        else:
            await run_blocking(self._execute, statement, values)

    def _execute(self, statement: str, values: Mapping[str, Any]) -> None:
        connection = self._connection
        _execute_text(connection.connection() if hasattr(connection, "get_bind") else connection, statement, values)


class _AsyncAlchemy:
    """An `AsyncConnection` or `AsyncSession` of SQLAlchemy."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.dialect: str = _dialect(connection)

    async def execute(self, statement: str, values: Mapping[str, Any]) -> None:
        _check_loop(self._connection)
        connection = self._connection
        inner = await connection.connection() if hasattr(connection, "get_bind") else connection
        await inner.run_sync(_execute_text, statement, values)


class _Django:
    """A connection of Django, which belongs to one thread, so it is used on the caller's."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.dialect: str = connection.vendor

    async def execute(self, statement: str, values: Mapping[str, Any]) -> None:
        if self._connection.get_autocommit():
            raise _no_transaction("with transaction.atomic()")
        with self._connection.cursor() as cursor:
            cursor.execute(_PLACE.sub(r"%(\1)s", statement), dict(values))


def _execute_text(connection: Any, statement: str, values: Mapping[str, Any]) -> None:
    level = connection.get_execution_options().get("isolation_level")
    # The level that a whole engine was given is told nowhere else.
    if "AUTOCOMMIT" in (level, level or getattr(connection.dialect, "_on_connect_isolation_level", None)):
        raise _no_transaction("another isolation level than AUTOCOMMIT")
    connection.execute(sys.modules["sqlalchemy"].text(statement), values)


def _dialect(connection: Any) -> str:
    bound = connection.get_bind() if hasattr(connection, "get_bind") else connection
    return bound.dialect.name


def _check_psycopg(connection: Any) -> None:
    if connection.autocommit and connection.info.transaction_status == _IDLE:
        raise _no_transaction("with connection.transaction()")


def _cursor(connection: Any, kind: str) -> Any:
    """Return a cursor that takes places by name: of the caller's own kind it may be one that does not."""
    return getattr(sys.modules["psycopg"], kind)(connection, row_factory=sys.modules["psycopg"].rows.tuple_row)


def _check_loop(connection: object) -> None:
    if running_loop() is None:
        raise UsageError(
            f"the transaction is on {type(connection).__name__}, which is used under an event loop: await the async "
            "verb there, such as aemit, or give a blocking connection"
        )


def _no_transaction(mend: str) -> UsageError:
    return UsageError(
        "the connection given to event.transaction commits each statement by itself, and no transaction is under way, "
        f"so that what is emitted could not be rolled back with your changes; begin one first: {mend}"
    )


_ADAPTERS: dict[str, Callable[[Any], CallersConnection]] = {
    "sqlite3.Connection": _Sqlite,
    "psycopg.Connection": _Psycopg,
    "psycopg.AsyncConnection": _AsyncPsycopg,
    "sqlalchemy.engine.base.Connection": _Alchemy,
    "sqlalchemy.orm.session.Session": _Alchemy,
    "sqlalchemy.orm.scoping.scoped_session": lambda scoped: _Alchemy(scoped()),
    "sqlalchemy.ext.asyncio.engine.AsyncConnection": _AsyncAlchemy,
    "sqlalchemy.ext.asyncio.session.AsyncSession": _AsyncAlchemy,
    "sqlalchemy.ext.asyncio.scoping.async_scoped_session": lambda scoped: _AsyncAlchemy(scoped()),
    "django.db.backends.base.base.BaseDatabaseWrapper": _Django,
    "django.utils.connection.ConnectionProxy": _Django,
}
"""By the place where a class is defined. What is scoped means another session on another thread."""
