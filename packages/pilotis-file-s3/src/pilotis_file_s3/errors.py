"""Which error of ours an answer of S3, or a failure on the way to it, is."""

from __future__ import annotations

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

_CODES: dict[type[OperationError], tuple[str, ...]] = {
    NotFoundError: ("404", "NoSuchBucket", "NoSuchKey", "NoSuchVersion", "NotFound"),
    # Somebody swept the upload: nothing of the caller's is missing.
    ConflictError: ("409", "412", "ConditionalRequestConflict", "InvalidObjectState", "NoSuchUpload",
                    "OperationAborted", "PreconditionFailed"),
    AuthenticationError: ("401", "AuthorizationHeaderMalformed", "AuthorizationQueryParametersError", "ExpiredToken",
                          "InvalidAccessKeyId", "InvalidToken", "RequestTimeTooSkewed", "SignatureDoesNotMatch"),
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


def told(error: native.ClientError) -> Exception:
    """Return what is to be raised for an answer: an error of ours where it knows more than its class can say."""
    if _BY_CODE.get(code_of(error)) is ThrottledError:
        return ThrottledError(f"S3 asks for fewer requests: {error}", retry_after=_retry_after(error))
    if code_of(error) == "AccessControlListNotSupported":
        return InvalidInputError(
            "access: expected files that need no ACL, as this bucket has ACLs switched off. Set acl = false, and let "
            "the policy of the bucket say what is public"
        )
    return error


def refused(code: str, message: str) -> Exception:
    """Return what an error that S3 tells of one key in many is as an error of its own."""
    answer = {"Error": {"Code": code, "Message": message}}
    return told(native.ClientError(cast("Any", answer), "DeleteObjects"))


def _response(error: native.ClientError) -> dict[str, Any]:
    return cast("dict[str, Any]", error.response)


def _retry_after(error: native.ClientError) -> float | None:
    text = _response(error).get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after", "")
    return float(text) if text.isdigit() else None
