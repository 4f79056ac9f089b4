"""Which error of ours an error of Redis is."""

from __future__ import annotations

from pilotis.errors import (
    AuthenticationError,
    ConflictError,
    ConnectionFailedError,
    InvalidInputError,
    OperationError,
    OperationTimeoutError,
    PermissionDeniedError,
    StorageFullError,
    ThrottledError,
)
from redis import exceptions as native

_BY_TYPE: tuple[tuple[type[Exception], type[OperationError]], ...] = (
    (native.AuthenticationError, AuthenticationError),
    (native.AuthenticationWrongNumberOfArgsError, AuthenticationError),
    (native.AuthorizationError, PermissionDeniedError),
    (native.NoPermissionError, PermissionDeniedError),
    (native.TimeoutError, OperationTimeoutError),
    (native.MaxConnectionsError, ThrottledError),
    (native.ReadOnlyError, ConnectionFailedError),  # the master has changed
    (native.ClusterError, ConnectionFailedError),
    (native.TryAgainError, ConnectionFailedError),
    (native.RedisClusterException, ConnectionFailedError),
    (native.OutOfMemoryError, StorageFullError),
    (native.DataError, InvalidInputError),
)

_BY_WORDS: tuple[tuple[str, type[OperationError]], ...] = (
    ("No connection available", OperationTimeoutError),  # all of the pool were in use for as long as the time-out
    ("max number of clients", ThrottledError),
    ("WRONGTYPE", ConflictError),
    ("BUSY ", ThrottledError),
    ("OOM ", StorageFullError),
    ("MISCONF", StorageFullError),  # snapshots cannot be written
    ("NOREPLICAS", ConnectionFailedError),
    ("LOADING", ConnectionFailedError),
    ("READONLY", ConnectionFailedError),
    ("NOAUTH", AuthenticationError),
    ("NOPERM", PermissionDeniedError),
    ("is not an integer or out of range", InvalidInputError),
    ("would overflow", InvalidInputError),
    ("DB index is out of range", InvalidInputError),
)


def classify(error: Exception) -> type[OperationError] | None:
    """Return our error for a native one; None for one that says no more than that something failed."""
    if not isinstance(error, (native.RedisError, native.RedisClusterException)):
        return None
    by_type = next((ours for kind, ours in _BY_TYPE if isinstance(error, kind)), None)
    return by_type or _by_words(error)


_NEVER_DONE = (
    native.BusyLoadingError,
    native.AuthenticationError,
    native.AuthenticationWrongNumberOfArgsError,
    native.AuthorizationError,
    native.MaxConnectionsError,
)
"""Answers that redis-py takes for errors of the connection."""


def mark_unsent(error: Exception) -> None:
    """Note on an error that no command was sent before it."""
    error.__dict__["unsent"] = True


def is_lost(error: Exception) -> bool:
    """Tell whether a command may have been done, and its answer was lost."""
    is_broken = isinstance(error, (native.ConnectionError, native.TimeoutError)) and not isinstance(error, _NEVER_DONE)
    return is_broken and "unsent" not in error.__dict__


def _by_words(error: Exception) -> type[OperationError] | None:
    """Tell apart what redis-py does not; scripts put their own words around those of a command."""
    text = str(error)
    found = next((ours for words, ours in _BY_WORDS if words in text), None)
    return found or (ConnectionFailedError if isinstance(error, native.ConnectionError) else None)
