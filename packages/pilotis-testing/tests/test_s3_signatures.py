"""What somebody without the secret may try, the S3 of the tests refuses, whatever moto behind it would take."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from typing import Any, NamedTuple, cast

import msgspec
import pytest
from pilotis_testing.s3 import REGION, Keys, S3Space

BODY = b"hello"
Headers = dict[str, str]


class Answer(NamedTuple):
    status: int
    body: bytes


def ask(s3: S3Space, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
    connection = HTTPConnection("127.0.0.1", int(s3.proxy.host.rpartition(":")[2]), timeout=30)
    connection.request(method, target, body, dict(headers))
    answer = connection.getresponse()
    told = Answer(answer.status, answer.read())
    connection.close()
    return told


def signed(
    s3: S3Space, headers: Mapping[str, str] | None = None, *, target: str = "/a", region: str = REGION,
    service: str = "s3", hours: int = 0, secret: str | None = None,
) -> Headers:  # fmt: skip
    """Return the headers of a PUT that is signed by botocore's signer, so many hours from now."""
    from botocore.auth import S3SigV4Auth  # pyright: ignore[reportMissingTypeStubs]
    from botocore.awsrequest import AWSRequest  # pyright: ignore[reportMissingTypeStubs]
    from botocore.credentials import Credentials  # pyright: ignore[reportMissingTypeStubs]

    signer: Any = cast("Any", S3SigV4Auth)(Credentials(s3.key, secret or s3.secret), service, region)
    whole = {"Host": s3.proxy.host, "X-Amz-Content-SHA256": hashlib.sha256(BODY).hexdigest(), **(headers or {})}
    request: Any = AWSRequest("PUT", f"{s3.proxy.url}/{s3.bucket}{target}", headers=whole, data=BODY)
    request.headers["X-Amz-Date"] = request.context["timestamp"] = now(hours)
    string = signer.string_to_sign(request, signer.canonical_request(request))
    names = signer.signed_headers(signer.headers_to_sign(request))
    request.headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={names}, "
        f"Signature={signer.signature(string, request)}"
    )
    return dict(request.headers.items())


def now(hours: int = 0) -> str:
    return f"{datetime.now(UTC) + timedelta(hours=hours):%Y%m%dT%H%M%SZ}"


def put(s3: S3Space, headers: Mapping[str, str], target: str = "/a", body: bytes = BODY) -> Answer:
    return ask(s3, "PUT", f"/{s3.bucket}{target}", headers, body)


def test_what_is_signed_passes(s3: S3Space) -> None:
    """So that what is refused below is refused for what was altered."""
    assert 200 == put(s3, signed(s3)).status
    assert 200 == put(s3, signed(s3, PUBLIC)).status


PUBLIC = {"x-amz-acl": "public-read"}


def resigned(headers: Headers, old: str, new: str) -> Headers:
    assert old in headers["Authorization"]
    return {**headers, "Authorization": headers["Authorization"].replace(old, new)}


ALTERED: dict[str, tuple[Callable[[S3Space], Headers], int, bytes]] = {
    "another signature": (lambda s3: resigned(signed(s3), "Signature=", "Signature=0"), 403, b"SignatureDoesNotMatch"),
    "no signature": (lambda s3: resigned(signed(s3), "Signature=", "Sig="), 400, b"AuthorizationHeaderMalformed"),
    "another secret": (lambda s3: signed(s3, secret="guessed"), 403, b"SignatureDoesNotMatch"),
    "another key": (lambda s3: resigned(signed(s3), s3.key, "AKIANOBODY"), 403, b"InvalidAccessKeyId"),
    "signed for another key": (lambda s3: signed(s3, target="/b"), 403, b"SignatureDoesNotMatch"),
    "signed for another host": (
        lambda s3: signed(s3, {"Host": "evil.example"}) | {"Host": s3.proxy.host}, 403, b"SignatureDoesNotMatch",
    ),
    "sent to another host": (lambda s3: signed(s3, {"Host": "evil.example"}), 400, b"InvalidRequest"),
    "the host unsigned": (lambda s3: resigned(signed(s3), "=host;", "="), 403, b"not signed: host"),
    "a header unsigned": (lambda s3: signed(s3) | PUBLIC, 403, b"not signed: x-amz-acl"),
    "a header altered": (lambda s3: signed(s3, {"x-amz-acl": "private"}) | PUBLIC, 403, b"SignatureDoesNotMatch"),
    "the digest unsigned": (
        lambda s3: resigned(signed(s3), ";x-amz-content-sha256", ""), 403, b"not signed: X-Amz-Content-SHA256",
    ),
    "an hour ago": (lambda s3: signed(s3, hours=-1), 403, b"RequestTimeTooSkewed"),
    "in an hour": (lambda s3: signed(s3, hours=1), 403, b"RequestTimeTooSkewed"),
    "dated again": (lambda s3: signed(s3, hours=-1) | {"X-Amz-Date": now()}, 403, b"SignatureDoesNotMatch"),
    "no date": (lambda s3: signed(s3) | {"X-Amz-Date": "now"}, 403, b"date"),
    "another region": (lambda s3: signed(s3, region="us-east-1"), 400, b"AuthorizationHeaderMalformed"),
    "another service": (lambda s3: signed(s3, service="sqs"), 400, b"AuthorizationHeaderMalformed"),
    "a token of nobody": (lambda s3: signed(s3, {"X-Amz-Security-Token": "x"}), 400, b"InvalidToken"),
}  # fmt: skip


@pytest.mark.parametrize("altered", ALTERED)
def test_requests_that_were_altered(s3: S3Space, altered: str) -> None:
    """Nothing gets through, and nothing is stored."""
    make, status, code = ALTERED[altered]
    answer = put(s3, make(s3))
    assert status == answer.status
    assert code in answer.body
    assert [status] == s3.proxy.statuses("PutObject")


def test_another_body(s3: S3Space) -> None:
    """It is not what its digest says; with another digest, that is not what was signed; without one, nothing is."""
    headers = signed(s3)
    assert b"XAmzContentSHA256Mismatch" in put(s3, headers, body=b"other").body
    other = headers | {"X-Amz-Content-SHA256": hashlib.sha256(b"other").hexdigest()}
    assert b"SignatureDoesNotMatch" in put(s3, other, body=b"other").body
    del headers["X-Amz-Content-SHA256"]
    assert b"x-amz-content-sha256" in put(s3, headers, body=BODY).body


def test_keys_that_have_expired(s3: S3Space) -> None:
    """They are told apart from those that nobody has."""
    s3.proxy.known[s3.key] = s3.proxy.known[s3.key]._replace(are_expired=True)
    try:
        answer = put(s3, signed(s3))
    finally:
        s3.proxy.known[s3.key] = Keys(s3.secret)
    assert (400, True) == (answer.status, b"ExpiredToken" in answer.body)


# Links


def link(s3: S3Space, method: str = "get_object", expires: int = 60) -> str:
    client = s3.client()
    url = client.generate_presigned_url(method, {"Bucket": s3.bucket, "Key": "a"}, ExpiresIn=expires)
    client.close()
    return url.removeprefix(s3.proxy.url)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("X-Amz-Signature=", "X-Amz-Signature=0", b"SignatureDoesNotMatch"),
        ("X-Amz-Expires=60", "X-Amz-Expires=6000", b"SignatureDoesNotMatch"),
        ("X-Amz-Expires=60", "X-Amz-Expires=700000", b"less than a week"),
        ("X-Amz-Expires=60", "X-Amz-Expires=soon", b"less than a week"),
        ("X-Amz-Expires=60", "X-Amz-Expires=-1", b"less than a week"),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=", b"not signed: host"),
        ("HMAC-SHA256", "HMAC-MD5", b"AuthorizationQueryParametersError"),
        ("X-Amz-Date=2", "X-Amz-Date=3", b"not valid yet"),
        ("%2Fs3%2F", "%2Fsts%2F", b"SignatureDoesNotMatch"),
        ("%2Faws4_request", "%2Faws5_request", b"AuthorizationHeaderMalformed"),
        (REGION, "eu-west-1", b"AuthorizationHeaderMalformed"),
        ("/a?", "/b?", b"SignatureDoesNotMatch"),
    ],
)
def test_links_that_were_altered(s3: S3Space, old: str, new: str, code: bytes) -> None:
    """Each part of a link is part of what is signed, or checked by itself."""
    assert 200 == put(s3, signed(s3)).status
    url = link(s3)
    assert Answer(200, BODY) == ask(s3, "GET", url, {})
    assert old in url
    answer = ask(s3, "GET", url.replace(old, new), {})
    assert (True, True) == (answer.status in (400, 403), code in answer.body)


def test_a_link_is_for_one_method_and_host(s3: S3Space) -> None:
    """One to read does not store, delete, or read elsewhere."""
    assert 200 == put(s3, signed(s3)).status
    for method in ("PUT", "DELETE"):
        assert 403 == ask(s3, method, link(s3), {}, BODY).status
    assert 400 == ask(s3, "GET", link(s3), {"Host": "evil.example"}).status
    assert Answer(200, BODY) == ask(s3, "GET", link(s3), {})


# Forms


def form(s3: S3Space, fields: Mapping[str, str], content: bytes = BODY, after: str = "") -> Answer:
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{text}'.encode() for name, text in fields.items()]
    parts.append(b'Content-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + content)
    if after:
        parts.append(f'Content-Disposition: form-data; name="{after}"\r\n\r\nx'.encode())
    body = b"--b\r\n" + b"\r\n--b\r\n".join(parts) + b"\r\n--b--\r\n"
    return ask(s3, "POST", f"/{s3.bucket}", {"Content-Type": "multipart/form-data; boundary=b"}, body)


def fields_of(s3: S3Space, key: str = "a") -> Headers:
    """Return a form for a picture of one byte to five."""
    client = s3.client()
    fields = {"Content-Type": "image/png"}
    made = client.generate_presigned_post(
        s3.bucket, key, Fields=fields, Conditions=[["content-length-range", 1, 5], fields], ExpiresIn=60
    )
    client.close()
    return made["fields"]


def rewritten(fields: Headers, **more: Any) -> Headers:
    """Return a form whose policy somebody has rewritten, and could not sign."""
    policy = msgspec.json.decode(base64.b64decode(fields["policy"]))
    return {**fields, "policy": base64.b64encode(msgspec.json.encode({**policy, **more})).decode()}


def test_forms_that_were_altered(s3: S3Space) -> None:
    """Key, size, type, time and bucket are those of the policy, and the policy is that which was signed."""
    good = fields_of(s3)
    assert 204 == form(s3, good).status
    attempts = {
        "another key": {**good, "key": "b"},
        "another type": {**good, "Content-Type": "text/html"},
        "another field": {**good, "acl": "public-read"},
        "another policy": rewritten(good, conditions=[["starts-with", "$key", ""], {"bucket": s3.bucket}]),
        "more time": rewritten(good, expiration="2999-01-01T00:00:00Z"),
        "the policy of another key": {**good, "policy": fields_of(s3, "b")["policy"], "key": "b"},
        "another signature": {**good, "x-amz-signature": "0" * 64},
        "another secret": {**good, "x-amz-credential": good["x-amz-credential"].replace(s3.key, "AKIANOBODY")},
        "another region": {**good, "x-amz-credential": good["x-amz-credential"].replace(REGION, "eu-west-1")},
        "another day": {**good, "x-amz-date": "20250101T000000Z"},
        "no policy": {name: text for name, text in good.items() if name != "policy"},
        "no type": {name: text for name, text in good.items() if name != "Content-Type"},
    }
    assert {} == {
        name: told for name, fields in attempts.items() if (told := form(s3, fields).status) not in (400, 403)
    }
    assert b"EntityTooLarge" in form(s3, good, BODY + b"!").body
    assert b"EntityTooSmall" in form(s3, good, b"").body


def test_a_form_of_another_bucket(s3: S3Space) -> None:
    """A policy is for the bucket that it names."""
    fields = fields_of(s3._replace(bucket="another-bucket"))
    assert 403 == form(s3, fields).status


def test_deleting_needs_a_digest(s3: S3Space) -> None:
    """S3 takes no list of what to delete without one, and neither does this."""
    client = s3.client(request_checksum_calculation="when_required")
    client.meta.events.register("before-sign.s3.DeleteObjects", _without_digests)
    with pytest.raises(Exception, match="Content-MD5"):
        client.delete_objects(Bucket=s3.bucket, Delete={"Objects": [{"Key": "a"}]})
    client.close()


def _without_digests(request: Any, **_: object) -> None:
    for name in [name for name in request.headers if "checksum" in name.lower() or name.lower() == "content-md5"]:
        del request.headers[name]
