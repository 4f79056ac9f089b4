"""What a real S3 checks of a request and moto does not: signatures, their time, policies of forms, digests.

Signatures are made again with botocore's own signer, from the request as it arrived, and compared.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.message import Message
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

REGION = "eu-west-3"
"""Of the buckets."""
SKEW_SECONDS = 900
LONGEST_LINK = 604_800
TIME_FORMAT = "%Y%m%dT%H%M%SZ"
UNSIGNED = "UNSIGNED-PAYLOAD"
CHUNKED = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

Digests = Mapping[str, Callable[[bytes], bytes]]

DIGESTS: Digests = {
    "content-md5": lambda body: hashlib.md5(body, usedforsecurity=False).digest(),
    "x-amz-checksum-crc32": lambda body: zlib.crc32(body).to_bytes(4),
    "x-amz-checksum-sha1": lambda body: hashlib.sha1(body, usedforsecurity=False).digest(),
    "x-amz-checksum-sha256": lambda body: hashlib.sha256(body).digest(),
}


class Refusal(Exception):
    """What the proxy answers in the place of the server."""

    def __init__(self, status: int, code: str, message: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}


class Call(NamedTuple):
    """A request as it arrived."""

    method: str
    target: str
    """Path and query, still encoded."""
    headers: Message
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def bucket(self) -> str:
        return unquote(self.path[1:].partition("/")[0])

    @property
    def key(self) -> str:
        return unquote(self.path[1:].partition("/")[2])

    @property
    def operation(self) -> str:
        """The name that S3 has for it, as far as tests of files need to tell."""
        return _operation(self)


def _operation(call: Call) -> str:
    query = call.query
    if not call.bucket:
        return "AssumeRole"
    if not call.key:
        return _of_bucket(call.method, query)
    if "uploadId" in query:
        by_method = {"POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload", "GET": "ListParts"}
        is_copy = "x-amz-copy-source" in call.headers
        return by_method.get(call.method) or ("UploadPartCopy" if is_copy else "UploadPart")
    if call.method == "POST":
        return "CreateMultipartUpload"
    if call.method == "PUT" and "x-amz-copy-source" in call.headers:
        return "CopyObject"
    return f"{call.method.capitalize()}Object"


def _of_bucket(method: str, query: Mapping[str, str]) -> str:
    if method == "POST":
        return "DeleteObjects" if "delete" in query else "PostObject"
    if method == "GET":
        return "ListMultipartUploads" if "uploads" in query else "ListObjects"
    return f"{method.capitalize()}Bucket"


class Keys(NamedTuple):
    """What a caller signs with."""

    secret: str
    token: str | None = None
    are_expired: bool = False


Known = Mapping[str, Keys]


# Signatures


def is_signed(call: Call) -> bool:
    """Tell whether a request claims to be signed, in a header or in its link."""
    return "Authorization" in call.headers or "X-Amz-Signature" in call.query


def check_signed(call: Call, known: Known, now: float, link_now: float) -> None:
    """Raise `Refusal` unless the request bears a good signature; `link_now` is the time for links."""
    if "Authorization" in call.headers:
        _check_header(call, known, now)
    else:
        _check_link(call, known, link_now)


def _check_header(call: Call, known: Known, now: float) -> None:
    kind, _, rest = str(call.headers["Authorization"]).partition(" ")
    pairs = [part.strip().partition("=") for part in rest.split(",")]
    said = {name: value for name, _, value in pairs}
    if kind != "AWS4-HMAC-SHA256" or not said.keys() >= {"Credential", "SignedHeaders", "Signature"}:
        raise Refusal(400, "AuthorizationHeaderMalformed")
    time = str(call.headers["X-Amz-Date"])
    if abs(_seconds(time) - now) > SKEW_SECONDS:
        raise Refusal(403, "RequestTimeTooSkewed", "The difference between the request time and now is too large.")
    if call.operation != "AssumeRole" and "x-amz-content-sha256" not in call.headers:
        raise Refusal(400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    _refuse_unsigned(call, said["SignedHeaders"])
    token = call.headers["X-Amz-Security-Token"]
    _compare(call, call.target, known, said["Credential"], said["SignedHeaders"], said["Signature"], time, token)


def _check_link(call: Call, known: Known, now: float) -> None:
    query = call.query
    needed = {"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders"}
    if not query.keys() >= needed or query["X-Amz-Algorithm"] != "AWS4-HMAC-SHA256":
        raise Refusal(400, "AuthorizationQueryParametersError")
    expires = query["X-Amz-Expires"]
    if not (expires.isdecimal() and 0 < int(expires) <= LONGEST_LINK):
        raise Refusal(400, "AuthorizationQueryParametersError", "X-Amz-Expires must be less than a week")
    begin = _seconds(query["X-Amz-Date"])
    if now >= begin + int(expires):
        raise Refusal(403, "AccessDenied", "Request has expired")
    if begin > now + SKEW_SECONDS:
        raise Refusal(403, "AccessDenied", "Request is not valid yet")
    _refuse_unsigned(call, query["X-Amz-SignedHeaders"])
    path, _, text = call.target.partition("?")
    kept = "&".join(pair for pair in text.split("&") if not pair.startswith("X-Amz-Signature="))
    _compare(
        call, f"{path}?{kept}", known, query["X-Amz-Credential"], query["X-Amz-SignedHeaders"],
        query["X-Amz-Signature"], query["X-Amz-Date"], query.get("X-Amz-Security-Token"), UNSIGNED,
    )  # fmt: skip


def _refuse_unsigned(call: Call, signed: str) -> None:
    """Headers that mean something must be signed."""
    for name in ("host", *call.headers):
        if name.lower().startswith(("host", "x-amz-")) and name.lower() not in signed.split(";"):
            raise Refusal(403, "AccessDenied", f"There were headers present which were not signed: {name}")


def _compare(  # noqa: PLR0917 - what a signature is made of
    call: Call,
    target: str,
    known: Known,
    credential: str,
    names: str,
    signature: str,
    time: str,
    token: str | None,
    payload: str | None = None,
) -> None:
    from botocore.auth import S3SigV4Auth  # pyright: ignore[reportMissingTypeStubs]
    from botocore.awsrequest import AWSRequest  # pyright: ignore[reportMissingTypeStubs]

    signer: Any = cast("Any", S3SigV4Auth)(*_signing(known, credential, token, time))
    headers = {name: str(call.headers[name]) for name in names.split(";") if name in call.headers}
    request: Any = AWSRequest(call.method, f"http://{call.headers['Host']}{target}", headers)
    request.context["timestamp"] = time
    told = call.headers["X-Amz-Content-SHA256"] or hashlib.sha256(call.body).hexdigest()
    request.headers["X-Amz-Content-SHA256"] = payload or str(told)
    signed = _only(request.headers, names, str(call.headers["Host"]))
    signer.headers_to_sign = lambda *_: signed  # pyright: ignore[reportUnknownLambdaType]
    expected = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    if not hmac.compare_digest(expected, signature):
        raise Refusal(403, "SignatureDoesNotMatch")


def _only(headers: Any, names: str, host: str) -> Any:
    """Return the headers that the request says are signed, and no other ones."""
    from botocore.compat import HTTPHeaders  # pyright: ignore[reportMissingTypeStubs]

    kept: Any = HTTPHeaders()
    for name in names.split(";"):
        kept[name] = host if name == "host" else headers.get(name, "")
    return kept


def _signing(known: Known, credential: str, token: str | None, time: str) -> tuple[Any, str, str]:
    """Return credentials, service and region, for a signer of botocore's."""
    from botocore.credentials import Credentials  # pyright: ignore[reportMissingTypeStubs]

    name, _, scope = credential.partition("/")
    keys = known.get(name)
    if keys is None:
        raise Refusal(403, "InvalidAccessKeyId")
    if keys.token != token:
        raise Refusal(400, "InvalidToken")
    if keys.are_expired:
        raise Refusal(400, "ExpiredToken", "The provided token has expired.")
    service = scope.split("/")[2:3]
    if service not in (["s3"], ["sts"]) or scope != f"{time[:8]}/{REGION}/{service[0]}/aws4_request":
        raise Refusal(400, "AuthorizationHeaderMalformed", "the scope is another day, region or service")
    return Credentials(name, keys.secret, keys.token), service[0], REGION


def _seconds(time: str) -> float:
    try:
        return datetime.strptime(time, TIME_FORMAT).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise Refusal(403, "AccessDenied", "a date is missing or malformed") from None


# Bodies


def check_digests(call: Call) -> bytes:
    """Return the body without the chunks that it may have come in. Raises `Refusal` where a digest is not its own."""
    if call.operation == "DeleteObjects" and not DIGESTS.keys() & {name.lower() for name in call.headers}:
        raise Refusal(400, "InvalidRequest", "Missing required header for this request: Content-MD5")
    payload = call.headers["x-amz-content-sha256"]
    body, trailers = _unchunked(call.body) if payload == CHUNKED else (call.body, {})
    if payload not in (None, UNSIGNED, CHUNKED) and payload != hashlib.sha256(body).hexdigest():
        raise Refusal(400, "XAmzContentSHA256Mismatch")
    for name, value in {**{name.lower(): text for name, text in call.headers.items()}, **trailers}.items():
        _check_digest(name, value, body)
    return body


def _check_digest(name: str, value: str, body: bytes) -> None:
    if name in DIGESTS:
        if base64.b64encode(DIGESTS[name](body)).decode() != value:
            raise Refusal(400, "BadDigest" if name == "content-md5" else "XAmzContentChecksumMismatch", name)
    elif name.startswith("x-amz-checksum-") and name not in ("x-amz-checksum-algorithm", "x-amz-checksum-mode"):
        raise Refusal(501, "NotImplemented", f"the proxy cannot check {name}")


def _unchunked(body: bytes) -> tuple[bytes, dict[str, str]]:
    """Return what the chunks of `aws-chunked` hold, and the trailers after them."""
    content = bytearray()
    while True:
        head, _, body = body.partition(b"\r\n")
        size = int(head.partition(b";")[0], 16)
        if size == 0:
            break
        content += body[:size]
        body = body[size + 2 :]
    lines = [line.partition(":") for line in body.decode().split("\r\n") if line]
    return bytes(content), {name.strip().lower(): value.strip() for name, _, value in lines}


# Forms


def check_form(call: Call, known: Known, now: float) -> None:
    """Raise `Refusal` unless a form bears a signed policy, and is what the policy allows.

    After "Creating a POST policy" in the API reference of Amazon S3.
    """
    fields, content = _form(call)
    if not fields.keys() >= {"policy", "x-amz-credential", "x-amz-date", "x-amz-signature", "key"}:
        raise Refusal(403, "AccessDenied", "the form has no signed policy")
    _check_policy_signature(fields, known)
    policy = msgspec.json.decode(base64.b64decode(fields["policy"]))
    if now >= datetime.fromisoformat(policy["expiration"]).timestamp():
        raise Refusal(403, "AccessDenied", "Invalid according to Policy: Policy expired.")
    facts = {**fields, "bucket": call.bucket}
    for condition in policy["conditions"]:
        _check_condition(condition, facts, len(content))
    _refuse_unnamed(fields, policy["conditions"])


def _check_policy_signature(fields: Mapping[str, str], known: Known) -> None:
    from botocore.auth import S3SigV4PostAuth  # pyright: ignore[reportMissingTypeStubs]
    from botocore.awsrequest import AWSRequest  # pyright: ignore[reportMissingTypeStubs]

    token = fields.get("x-amz-security-token")
    signing = _signing(known, fields["x-amz-credential"], token, fields["x-amz-date"])
    signer: Any = cast("Any", S3SigV4PostAuth)(*signing)
    request: Any = AWSRequest()
    request.context["timestamp"] = fields["x-amz-date"]
    if not hmac.compare_digest(signer.signature(fields["policy"], request), fields["x-amz-signature"]):
        raise Refusal(403, "SignatureDoesNotMatch")


def _check_condition(condition: Any, facts: Mapping[str, str], size: int) -> None:
    if isinstance(condition, dict):
        (pair,) = cast("dict[str, str]", condition).items()
        _check_match("eq", *pair, facts)
        return
    operator, first, second = condition
    if operator == "content-length-range":
        if size > int(second):
            raise Refusal(400, "EntityTooLarge")
        if size < int(first):
            raise Refusal(400, "EntityTooSmall")
    else:
        _check_match(operator, str(first).removeprefix("$"), second, facts)


def _check_match(operator: str, name: str, value: str, facts: Mapping[str, str]) -> None:
    said = facts.get(name.lower(), "")
    if not (said.startswith(value) if operator == "starts-with" else said == value):
        raise Refusal(403, "AccessDenied", f"Invalid according to Policy: Policy Condition failed: {name}")


def _refuse_unnamed(fields: Mapping[str, str], conditions: list[Any]) -> None:
    named = {_named(condition).lower() for condition in conditions}
    free = {"policy", "x-amz-signature", "file"} | named
    for name in fields:
        if name not in free and not name.startswith("x-ignore-"):
            raise Refusal(403, "AccessDenied", f"Invalid according to Policy: Extra input fields: {name}")


def _named(condition: Any) -> str:
    """Return the field that a condition is about; for the one on the size, something that is no field."""
    if isinstance(condition, dict):
        return next(iter(cast("dict[str, str]", condition)))
    return str(condition[1]).removeprefix("$")


def _form(call: Call) -> tuple[dict[str, str], bytes]:
    from email import message_from_bytes
    from email.policy import HTTP

    head = f"Content-Type: {call.headers['Content-Type']}\r\n\r\n".encode()
    try:
        parts = cast("list[Any]", message_from_bytes(head + call.body, policy=cast("Any", HTTP)).get_payload())
        found = [
            (part.get_param("name", header="content-disposition"), part.get_payload(decode=True)) for part in parts
        ]
    except (AttributeError, binascii.Error):
        raise Refusal(400, "MalformedPOSTRequest") from None
    if not found or found[-1][0] != "file":  # S3 passes over what comes after it; moto would not
        raise Refusal(400, "InvalidArgument", "a form ends with its file")
    return {str(name).lower(): value.decode() for name, value in found[:-1]}, found[-1][1]
