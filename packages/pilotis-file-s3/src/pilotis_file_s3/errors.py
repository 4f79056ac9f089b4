"""Which error of ours an answer of S3, or a failure on the way to it, is."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any, cast

from botocore import exceptions as native  # pyright: ignore[reportMissingTypeStubs]
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

from pilotis_file_s3.options import S3FilesOptions

_CODES: dict[type[OperationError], tuple[str, ...]] = {
    NotFoundError: ("404", "NoSuchBucket", "NoSuchKey", "NoSuchVersion", "NotFound"),
    # Somebody swept the upload: nothing of the caller's is missing.
    ConflictError: ("409", "412", "ConditionalRequestConflict", "InvalidObjectState", "NoSuchUpload",
                    "OperationAborted", "PreconditionFailed"),
    AuthenticationError: ("401", "AuthorizationHeaderMalformed", "AuthorizationQueryParametersError", "ExpiredToken",
                          "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken", "RequestTimeTooSkewed",
                          "SignatureDoesNotMatch", "TokenRefreshRequired"),
    PermissionDeniedError: ("403", "AccessDenied", "AccountProblem", "AllAccessDisabled", "NotSignedUp"),
    ThrottledError: ("429", "503", "RequestLimitExceeded", "ServiceUnavailable", "SlowDown", "Throttling",
                     "ThrottlingException", "TooManyRequests"),
    OperationTimeoutError: ("408", "RequestTimeout"),
    InvalidInputError: ("400", "AccessControlListNotSupported", "EntityTooLarge", "EntityTooSmall", "InvalidArgument",
                        "KeyTooLongError", "MetadataTooLarge"),
    # What arrived was not what was sent.
    ConnectionFailedError: ("500", "502", "504", "BadDigest", "IncompleteBody", "InternalError", "InvalidDigest",
                            "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"),
    StorageFullError: ("507", "InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"),
}  # fmt: skip

_BY_CODE = {code: ours for ours, codes in _CODES.items() for code in codes}

_BY_TYPE: tuple[tuple[type[Exception], type[OperationError]], ...] = (
    (native.ConnectTimeoutError, OperationTimeoutError),
    (native.ReadTimeoutError, OperationTimeoutError),
    (native.HTTPClientError, ConnectionFailedError),
    (native.ConnectionError, ConnectionFailedError),
    (native.IncompleteReadError, ConnectionFailedError),
    (native.NoCredentialsError, AuthenticationError),
    (native.PartialCredentialsError, AuthenticationError),
    (native.CredentialRetrievalError, AuthenticationError),
    (native.ProfileNotFound, AuthenticationError),
    (native.ParamValidationError, InvalidInputError),
    (native.NoRegionError, InvalidInputError),
)

BROKEN = (native.HTTPClientError, native.IncompleteReadError)
"""What is raised where a connection breaks, or is silent for too long."""

_LOST = (native.ReadTimeoutError, native.ConnectionClosedError)


MOST_SKEW = 900
"""Seconds by which clocks may differ, for S3."""


class SilentError(native.ReadTimeoutError):
    """Nothing came for too long."""

    fmt = "nothing came for {seconds:g} s (timeout)"


class DeafError(native.ReadTimeoutError):
    """Nothing was taken for too long. Until a request is sent whole, `connect_timeout` holds for each piece of it."""

    fmt = "nothing more was taken for {seconds:g} s (connect_timeout)"


class UnreachedError(native.ConnectTimeoutError):
    """Nobody took the connection for too long."""

    fmt = "no connection was made within {seconds:g} s (connect_timeout)"


def classify(error: Exception) -> type[OperationError] | None:
    """Return our error for a native one: by its code, else by the status it came with, else by its type."""
    if isinstance(error, native.ClientError):
        return _BY_CODE.get(code_of(error)) or _BY_CODE.get(str(status_of(error)))
    return next((ours for kind, ours in _BY_TYPE if isinstance(error, kind)), None)


def is_lost(error: Exception) -> bool:
    """Tell whether a request was sent, and what became of it is not known."""
    return isinstance(error, _LOST)


def is_code(error: Exception, *codes: str) -> bool:
    """Tell whether S3 answered with one of these codes."""
    return isinstance(error, native.ClientError) and code_of(error) in codes


def code_of(error: native.ClientError) -> str:
    """Return the code of an answer. One without a body, as of HEAD, has its status there."""
    return str(_response(error).get("Error", {}).get("Code", ""))


def status_of(error: native.ClientError) -> int:
    """Return the HTTP status of an answer."""
    return int(_response(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_expired(error: native.ClientError) -> bool:
    """Tell whether credentials have expired, or may have: HEAD is answered with the status alone."""
    return code_of(error) in ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "400")


def told(error: Exception, options: S3FilesOptions) -> Exception:
    """Return what is to be raised for an error: another one where we know more than it says."""
    if isinstance(error, native.ReadTimeoutError):
        return SilentError(seconds=options.timeout)
    if isinstance(error, native.ConnectTimeoutError):
        return UnreachedError(seconds=options.connect_timeout)
    if isinstance(error, native.ConnectionClosedError) and _is_of_time(error):
        return DeafError(seconds=options.connect_timeout)
    return _told_answer(error) if isinstance(error, native.ClientError) else error


def _is_of_time(error: native.ConnectionClosedError) -> bool:
    below: Any = cast("Any", error).kwargs.get("error")
    return any(isinstance(cause, TimeoutError) for cause in getattr(below, "args", ()))


def _told_answer(error: native.ClientError) -> Exception:
    if _BY_CODE.get(code_of(error)) is ThrottledError:
        return ThrottledError(f"S3 asks for fewer requests: {error}", retry_after=_retry_after(error))
    if code_of(error) in ("RequestTimeTooSkewed", "403") and abs(ahead := _ahead(error)) > MOST_SKEW:
        return AuthenticationError(
            f"the clock of this machine is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} that of the "
            f"server, which takes no requests that are {MOST_SKEW} s off: set it, best by NTP ({error})"
        )
    if code_of(error) == "AccessControlListNotSupported":
        return InvalidInputError(
            "access: expected files that need no ACL, as this bucket has ACLs switched off. Set acl = false, and let "
            "the policy of the bucket say what is public"
        )
    return error


def _ahead(error: native.ClientError) -> float:
    """Return how many seconds our clock is ahead of that of the server; 0 where it does not tell the time."""
    text = _headers(error).get("date", "")
    try:
        return time.time() - parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return 0


def refused(code: str, message: str) -> Exception:
    """Return what an error that S3 tells of one key in many is as an error of its own."""
    answer = {"Error": {"Code": code, "Message": message}}
    return _told_answer(native.ClientError(cast("Any", answer), "DeleteObjects"))


def _response(error: native.ClientError) -> dict[str, Any]:
    return cast("dict[str, Any]", error.response)


def _headers(error: native.ClientError) -> dict[str, str]:
    return _response(error).get("ResponseMetadata", {}).get("HTTPHeaders", {})


def _retry_after(error: native.ClientError) -> float | None:
    text = _headers(error).get("retry-after", "")
    return float(text) if text.isdigit() else None
