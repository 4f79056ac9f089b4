"""Which error of ours an error of PostgreSQL is.

Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import psycopg
from pilotis.errors import (
    AuthenticationError,
    ConflictError,
    ConnectionFailedError,
    InvalidInputError,
    NotFoundError,
    OperationError,
    OperationTimeoutError,
    PermissionDeniedError,
    StorageFullError,
    ThrottledError,
)


class NoAnswerError(psycopg.OperationalError):
    """The server was silent for longer than the time-out."""


_BY_CODE: dict[str, type[OperationError]] = {
    "25006": ConnectionFailedError,  # the primary has become a standby
    "3D000": NotFoundError,
    "3F000": NotFoundError,
    "42501": PermissionDeniedError,
    "42704": NotFoundError,
    "42883": NotFoundError,
    "42P01": NotFoundError,
    "53100": StorageFullError,
    "55P03": OperationTimeoutError,  # of lock_timeout
    "57014": OperationTimeoutError,  # of statement_timeout
    "57P01": ConnectionFailedError,
    "57P02": ConnectionFailedError,
    "57P03": ConnectionFailedError,  # it is starting or stopping
    "57P05": ConnectionFailedError,
}
_BY_CLASS: dict[str, type[OperationError]] = {
    "08": ConnectionFailedError,
    "22": InvalidInputError,
    "23": ConflictError,
    "25": ConflictError,
    "28": AuthenticationError,
    "40": ConflictError,
    "53": ThrottledError,
}
_BY_WORDS: tuple[tuple[str, type[OperationError]], ...] = (
    ("password authentication failed", AuthenticationError),
    ("no password supplied", AuthenticationError),
    ("authentication failed", AuthenticationError),
    ("no pg_hba.conf entry", AuthenticationError),
    ("permission denied for database", PermissionDeniedError),
    ("too many clients", ThrottledError),
    ("remaining connection slots", ThrottledError),
    ("too many connections", ThrottledError),
    ("no more connections allowed", ThrottledError),
)
"""Refusals to connect: libpq tells no code of them."""

_UNKNOWN = {"08007", "40003"}
"""Codes by which the server itself says that it does not know what became of a statement."""


def classify(error: Exception) -> type[OperationError] | None:
    """Return our error for a native one; None for one that says no more than that something failed."""
    if not isinstance(error, psycopg.Error):
        return None
    if isinstance(error, NoAnswerError):
        return OperationTimeoutError
    code = error.sqlstate
    if code is not None:
        return _BY_CODE.get(code) or _BY_CLASS.get(code[:2])
    if isinstance(error, (psycopg.DataError, psycopg.ProgrammingError)):
        return InvalidInputError
    return _refusal(str(error)) if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)) else None


def mark_unsent(error: Exception) -> None:
    """Note on an error that no statement was sent before it."""
    error.__dict__["unsent"] = True


def is_lost(error: Exception) -> bool:
    """Tell whether a statement may have been done, and its answer was lost.

    Whatever the server answers, with a code, is an answer: it rolls back what it refuses.
    """
    if not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return False
    return error.sqlstate in _UNKNOWN or (error.sqlstate is None and "unsent" not in error.__dict__)


def may_pass(error: Exception) -> bool:
    """Tell whether the server may let us in when it is asked again: it is down or starting, and not unwilling."""
    return classify(error) is ConnectionFailedError


def _refusal(text: str) -> type[OperationError]:
    """Tell apart why a server did not let us in."""
    found = next((ours for words, ours in _BY_WORDS if words in text), None)
    if found is None and "does not exist" in text:
        return NotFoundError if 'database "' in text else AuthenticationError
    return found or ConnectionFailedError
