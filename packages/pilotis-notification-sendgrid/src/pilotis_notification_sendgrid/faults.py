"""What errors of a call mean: by the status of the answer, by the field it names, and by how far the call came."""

from __future__ import annotations

import http.client
import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from urllib.error import URLError

import msgspec
from pilotis.errors import (
    AuthenticationError,
    ConnectionFailedError,
    InvalidInputError,
    NotFoundError,
    OperationError,
    OperationTimeoutError,
    PermissionDeniedError,
    ThrottledError,
)
from pilotis.providers import masked

_KINDS: dict[int, type[OperationError]] = {
    400: InvalidInputError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    408: ConnectionFailedError,
    413: InvalidInputError,
    429: ThrottledError,
    500: ConnectionFailedError,
    502: ConnectionFailedError,
    503: ConnectionFailedError,
    504: OperationTimeoutError,
}
"""After a 504, whom the gateway waited for may have accepted the mail."""

_OURS: dict[str, type[OperationError]] = {"from": PermissionDeniedError, "template_id": NotFoundError}
"""A refused message would not get better elsewhere, but another provider may have the sender or the template."""

_PART = re.compile(r"personalizations\.(\d{1,4})(?:\.|$)", re.ASCII)
_ADDRESS = re.compile(r"[^\s@<>()\[\]\"',;:]{1,64}@[^\s@<>()\[\]\"',;:]+")
_LONGEST = 1000
"""The most characters of an answer that an error repeats."""


class Problem(msgspec.Struct, frozen=True):
    """One of the errors in an answer."""

    message: str = ""
    field: str | None = None

    @property
    def part(self) -> int | None:
        """The personalization that it concerns, None where it concerns all."""
        found = _PART.match(self.field or "")
        return int(found[1]) if found else None

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class _Answer(msgspec.Struct, frozen=True):
    errors: tuple[Problem, ...] = ()


def problems_in(body: bytes) -> tuple[Problem, ...]:
    """Return what an answer complains about; nothing where it cannot be read."""
    try:
        return msgspec.json.decode(body, type=_Answer).errors
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()


def kind_of(error: Exception) -> type[OperationError] | None:
    """Tell which error of ours one of the HTTP library is, None for what is not of it."""
    if isinstance(error, URLError):
        return ConnectionFailedError  # raised until the request is out, and not after it
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return _kind_of_answer(status, problems_in(body_in(error)))
    if isinstance(error, (http.client.HTTPException, OSError)):
        return OperationTimeoutError  # the request was out, and nobody can tell what became of it
    return None


def _kind_of_answer(status: int, problems: tuple[Problem, ...]) -> type[OperationError]:
    if status == 400 and problems:
        first = (problems[0].field or "").partition(".")[0]
        return _OURS.get(first, InvalidInputError)
    return _KINDS.get(status, OperationError)


def explained(error: Exception, problems: tuple[Problem, ...], now: float, key: str) -> Exception:
    """Return our error for one of the HTTP library, with what SendGrid complains about; others as they are.

    `now` is in seconds since 1970, for when SendGrid takes calls again. A message holds what SendGrid says of the
    request, without the key, and without any address that it repeats.
    """
    kind = kind_of(error)
    if kind is None:
        return error
    status = getattr(error, "status_code", None)
    told = _discreet("; ".join(map(str, problems)), key)[:_LONGEST]
    what = f"SendGrid answered {status}" if status else f"SendGrid could not be asked: {_reason(error)}"
    more: dict[str, Any] = {"outcome": _outcome(kind)}
    if kind is ThrottledError:
        more["retry_after"] = retry_after(headers_in(error), now)
    ours = kind(f"{what}: {told}" if told else what, **more)
    ours.__cause__ = error
    return ours


def _discreet(text: str, key: str) -> str:
    return _ADDRESS.sub(lambda found: masked(found[0]), text.replace(key, "***"))


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _outcome(kind: type[OperationError]) -> Literal["unknown"] | None:
    return "unknown" if issubclass(kind, OperationTimeoutError) else None


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return how many seconds to wait after a 429: None where the answer does not say so in a way that makes sense.

    The time at which the limit ends is compared with the answer's own date, because our clock may be wrong.
    """
    seconds = _number(headers.get("Retry-After"))
    if seconds is None:
        reset = _number(headers.get("X-RateLimit-Reset"))
        seconds = None if reset is None else reset - (_date(headers.get("Date")) or now)
    return None if seconds is None else max(0.0, seconds)


def _number(text: str | None) -> float | None:
    number = float(text) if text is not None and text.isascii() and text.isdigit() else math.inf
    return number if math.isfinite(number) else None


def _date(text: str | None) -> float | None:
    try:
        date = None if text is None else parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return None if date is None else (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def body_in(error: Exception) -> bytes:
    """Return the body of an answer that is an error."""
    body = getattr(error, "body", b"")
    return body if isinstance(body, bytes) else b""


def headers_in(error: Exception) -> Mapping[str, str]:
    """Return the headers of an answer that is an error."""
    return getattr(error, "headers", None) or {}
