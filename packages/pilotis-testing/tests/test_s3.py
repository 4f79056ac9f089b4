"""The S3 of the tests refuses what the real one refuses, although moto behind it takes everything."""

from __future__ import annotations

from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]
from pilotis_testing.s3 import S3Space, Trouble, client_of


@pytest.fixture
def client(s3: S3Space) -> Iterator[Any]:
    client = s3.client(retries={"total_max_attempts": 1, "mode": "standard"})
    yield client
    client.close()


def code_of(raised: pytest.ExceptionInfo[ClientError]) -> str:
    error: Any = raised.value
    return error.response["Error"]["Code"]


def fetch(url: str, method: str = "GET", body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = HTTPConnection(parts.hostname, parts.port, timeout=30)
    connection.request(method, f"{parts.path}?{parts.query}", body, headers)
    answer = connection.getresponse()
    told = answer.status, answer.read()
    connection.close()
    return told


def test_what_is_signed_well_passes(s3: S3Space, client: Any) -> None:
    """With whatever boto3 adds by itself: checksums in headers and in trailers."""
    client.put_object(Bucket=s3.bucket, Key="a b/ä+%.txt", Body=b"hello", Metadata={"n": "two  spaces"})
    assert b"hello" == client.get_object(Bucket=s3.bucket, Key="a b/ä+%.txt")["Body"].read()
    client.put_object(Bucket=s3.bucket, Key="b", Body=b"1", ChecksumAlgorithm="SHA256")
    assert [200, 200] == s3.proxy.statuses("PutObject")


@pytest.mark.parametrize(
    ("header", "value", "code"),
    [
        ("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg==", "BadDigest"),
        ("x-amz-checksum-sha256", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "XAmzContentChecksumMismatch"),
        ("x-amz-checksum-crc32", "AAAAAA==", "XAmzContentChecksumMismatch"),
    ],
)
def test_a_wrong_digest_is_refused(s3: S3Space, client: Any, header: str, value: str, code: str) -> None:
    """Each of those that clients send."""

    def lie(request: Any, **_: object) -> None:
        del request.headers[header]
        request.headers[header] = value

    client.meta.events.register("before-sign.s3.PutObject", lie)
    with pytest.raises(ClientError) as raised:
        client.put_object(Bucket=s3.bucket, Key="a", Body=b"hello")
    assert code == code_of(raised)


def test_a_body_that_is_altered_is_refused(s3: S3Space, client: Any) -> None:
    """Because its digest is part of what is signed."""
    s3.proxy.trouble("PutObject", Trouble(garble=True))
    with pytest.raises(ClientError) as raised:
        client.put_object(Bucket=s3.bucket, Key="a", Body=b"hello")
    assert code_of(raised) == "XAmzContentSHA256Mismatch"


def test_a_wrong_secret_is_refused(s3: S3Space) -> None:
    """And so is a key that nobody has."""
    for key, secret, code in ((s3.key, "wrong", "SignatureDoesNotMatch"), ("AKIANOBODY", "x", "InvalidAccessKeyId")):
        client = client_of(s3.proxy.url, key=key, secret=secret)
        with pytest.raises(ClientError) as raised:
            client.list_objects_v2(Bucket=s3.bucket)
        assert code == code_of(raised)
        client.close()


def test_links_expire(s3: S3Space, client: Any) -> None:
    """When the test has moved on by as many seconds as they are good for."""
    client.put_object(Bucket=s3.bucket, Key="a", Body=b"hello")
    url = client.generate_presigned_url("get_object", {"Bucket": s3.bucket, "Key": "a"}, ExpiresIn=60)
    assert (200, b"hello") == fetch(url)
    s3.proxy.links_ahead = 61
    assert 403 == fetch(url)[0]


def test_headers_that_are_not_signed_are_refused(s3: S3Space, client: Any) -> None:
    """Or whoever has a link could make the file public."""
    url = client.generate_presigned_url("put_object", {"Bucket": s3.bucket, "Key": "a"}, ExpiresIn=60)
    assert 403 == fetch(url, "PUT", b"hello", **{"x-amz-acl": "public-read"})[0]
    assert 200 == fetch(url, "PUT", b"hello")[0]


def test_nobody_gets_in_unsigned(s3: S3Space, client: Any) -> None:
    """But for files that are public, to read them."""
    client.put_object(Bucket=s3.bucket, Key="private", Body=b"1")
    client.put_object(Bucket=s3.bucket, Key="public", Body=b"2", ACL="public-read")
    place = f"{s3.proxy.url}/{s3.bucket}"
    assert 403 == fetch(f"{place}/private")[0]
    assert (200, b"2") == fetch(f"{place}/public")
    assert 403 == fetch(f"{place}/public", "PUT", b"3")[0]
    assert 403 == fetch(place)[0]


FORM = "--b\r\n{}\r\n--b--\r\n"


def form(fields: dict[str, str], content: str) -> bytes:
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}' for name, value in fields.items()]
    parts.append(f'Content-Disposition: form-data; name="file"; filename="f"\r\n\r\n{content}')
    return FORM.format("\r\n--b\r\n".join(parts)).encode()


@pytest.mark.parametrize(
    ("change", "content", "status"),
    [
        ({}, "12345", 204), ({}, "123456", 400), ({}, "", 400), ({"key": "b"}, "1", 403),
        ({"policy": "e30="}, "1", 403), ({"acl": "public-read"}, "1", 403), ({"x-amz-signature": "0" * 64}, "1", 403),
        ({"x-ignore-me": "1"}, "1", 204),
    ],
)  # fmt: skip
def test_forms(s3: S3Space, client: Any, change: dict[str, str], content: str, status: int) -> None:
    """They are held to their policy: size, key and every field; and the policy to its signature."""
    made = client.generate_presigned_post(s3.bucket, "a", Conditions=[["content-length-range", 1, 5]], ExpiresIn=60)
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    assert status == fetch(made["url"], "POST", form({**made["fields"], **change}, content), **kind)[0]
    s3.proxy.links_ahead = 61
    assert 403 == fetch(made["url"], "POST", form(made["fields"], "12345"), **kind)[0]


def test_cuts(s3: S3Space, client: Any) -> None:
    """A connection that is cut is an error of the connection; what was cut on its way in was never stored."""
    from botocore.exceptions import HTTPClientError  # pyright: ignore[reportMissingTypeStubs]

    s3.proxy.trouble("PutObject", Trouble(cut_request=10), Trouble(cut_answer=-1))
    for _ in range(2):
        with pytest.raises(HTTPClientError):
            client.put_object(Bucket=s3.bucket, Key="a", Body=b"x" * 100)
    assert (2, 1) == (s3.proxy.arrived("PutObject"), s3.proxy.count("PutObject"))
    assert 100 == client.head_object(Bucket=s3.bucket, Key="a")["ContentLength"]
