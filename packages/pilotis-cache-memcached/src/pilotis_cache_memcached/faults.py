"""Which error of ours an error of pymemcache is."""

from __future__ import annotations

from pilotis.errors import (
    ConnectionFailedError,
    InvalidInputError,
    OperationError,
    OperationTimeoutError,
    StorageFullError,
)
from pymemcache import exceptions as native  # pyright: ignore[reportMissingTypeStubs]

_BY_TYPE: tuple[tuple[type[Exception], type[OperationError]], ...] = (
    (native.MemcacheUnexpectedCloseError, ConnectionFailedError),
    (native.MemcacheIllegalInputError, InvalidInputError),
    (TimeoutError, OperationTimeoutError),
    (OSError, ConnectionFailedError),  # also hosts that have no address, or no route to them
)

_BY_WORDS: tuple[tuple[str, type[OperationError]], ...] = (
    ("object too large", InvalidInputError),
    ("out of memory", StorageFullError),
)


def classify(error: Exception) -> type[OperationError] | None:
    """Return our error for a native one; None for one that says no more than that something failed."""
    by_type = next((ours for kind, ours in _BY_TYPE if isinstance(error, kind)), None)
    if by_type is not None or not isinstance(error, native.MemcacheError):
        return by_type
    return next((ours for words, ours in _BY_WORDS if words in str(error)), None)
