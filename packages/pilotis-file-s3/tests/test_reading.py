"""Reading, listing, copying and deleting on S3, where connections break and others store things too."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.client import BaseClient  # pyright: ignore[reportMissingTypeStubs]
from pilotis.errors import (
    AuthenticationError,
    ConflictError,
    ConnectionFailedError,
    NotFoundError,
    OperationError,
    OperationTimeoutError,
    PermissionDeniedError,
    StorageFullError,
    ThrottledError,
)
from pilotis_file_s3 import copying
from pilotis_testing.s3 import S3Space, Trouble

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
LARGE = bytes(range(256)) * (20 * 1024) + b"end"
"""Five MiB, and a little more: two parts."""

CUT = Trouble(cut_answer=2 * MIB)

# Breaking


@pytest.mark.parametrize("span", [(0, None), (7, None), (7, 4 * MIB)])
async def test_a_read_goes_on_where_it_broke(files: Any, s3: S3Space, span: tuple[int, int | None]) -> None:
    """A connection that is cut in the middle is made again, and the rest asked for, of the same version."""
    await files.put("a.bin", LARGE)
    s3.proxy.trouble("GetObject", CUT, Trouble(cut_answer=0), CUT)
    start, end = span
    assert LARGE[start:end] == await files.read("a.bin", start=start, end=end)
    gets = [seen.headers for seen in s3.proxy.seen if seen.operation == "GetObject" and seen.key == "a.bin"]
    etag = (await files.stat("a.bin")).etag
    assert [None, *[f'"{etag}"'] * (len(gets) - 1)] == [headers["If-Match"] for headers in gets]
    assert len(gets) >= 3


async def test_a_read_that_breaks_again_and_again(files: Any, s3: S3Space) -> None:
    """It fails when nothing has come several times."""
    await files.put("a.bin", LARGE)
    s3.proxy.trouble("GetObject", CUT, *[Trouble(cut_answer=0)] * 10)
    with pytest.raises(ConnectionFailedError):
        await files.read("a.bin")


@pytest.mark.parametrize("change", ["replaced", "deleted"])
async def test_a_read_that_breaks_while_the_file_changes(files: Any, s3: S3Space, raw: Any, change: str) -> None:
    """The rest of another version is never read: it is a `ConflictError`."""
    await files.put("a.bin", LARGE)
    s3.proxy.trouble("GetObject", CUT)
    stream = files.stream("a.bin")
    await anext(stream)
    if change == "replaced":
        raw.ask("put_object", Key="a.bin", Body=LARGE[::-1])
    else:
        raw.ask("delete_object", Key="a.bin")
    with pytest.raises(ConflictError, match="read it again"):
        [chunk async for chunk in stream]


async def test_a_version_that_was_replaced_is_read_to_its_end(files: Any, s3: S3Space, raw: Any) -> None:
    """Where the bucket keeps versions, a broken connection changes nothing."""
    raw.ask("put_bucket_versioning", VersioningConfiguration={"Status": "Enabled"})
    await files.put("a.bin", LARGE)
    s3.proxy.trouble("GetObject", CUT)
    stream = files.stream("a.bin")
    first = await anext(stream)
    await files.put("a.bin", b"new")
    assert LARGE == first + b"".join([chunk async for chunk in stream])


async def test_a_server_that_passes_over_ranges(files: Any, s3: S3Space) -> None:
    """What it sends in the place of a range, or of the rest after a break, is not taken for that."""
    await files.put("a.bin", LARGE)

    def strip(request: Any, **_: object) -> None:
        del request.headers["Range"]

    files.native(BaseClient).meta.events.register("before-sign.s3.GetObject", strip)
    assert LARGE == await files.read("a.bin")
    with pytest.raises(OperationError, match="passed over the range"):
        await files.read("a.bin", start=7)
    s3.proxy.trouble("GetObject", CUT)
    with pytest.raises(OperationError, match="passed over the range"):
        await files.read("a.bin")


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["at once", "in parts"])
async def test_a_file_that_is_damaged(files: Any, s3: S3Space, content: bytes) -> None:
    """A whole file whose digest is not what was stored with it is refused."""
    await files.put("a.bin", content)
    s3.proxy.trouble("GetObject", Trouble(alter=True))
    with pytest.raises(OperationError, match="is damaged"):
        await files.read("a.bin")
    assert content == await files.read("a.bin")


async def test_an_abandoned_stream_gives_its_connection_back(store: Any) -> None:
    """So that any number of them can be begun."""
    files = store(max_connections=1, timeout=5)
    await files.put("a.bin", LARGE)
    for _ in range(5):
        stream = files.stream("a.bin")
        await anext(stream)
        await stream.aclose()
    assert LARGE == await files.read("a.bin")


# Other people's objects


async def test_objects_that_others_stored(files: Any, raw: Any) -> None:
    """They are read, listed, told of and copied as they are; nobody knows their digest."""
    raw.ask(
        "put_object", Key="a.csv", Body=b"1;2", ContentType="text/csv", Metadata={"n": "50%25"}, CacheControl="no-store"
    )
    info = await files.stat("a.csv")
    assert ("text/csv", {"n": "50%25"}, None, "private", 3) == (
        info.content_type, info.metadata, info.sha256, info.access, info.size,
    )  # fmt: skip
    assert b"1;2" == await files.read("a.csv")
    copied = await files.copy("a.csv", "b.csv")
    assert copied == await files.stat("b.csv")
    assert ("text/csv", {"n": "50%25"}, None) == (copied.content_type, copied.metadata, copied.sha256)
    assert "no-store" == raw.ask("head_object", Key="b.csv")["CacheControl"]


@pytest.mark.parametrize("record", ["1;id;public;soon;", "1;id;public;9" + "9" * 40 + ";", "1;id;secret;1;", ";;;;"])
async def test_records_that_others_wrote(files: Any, raw: Any, record: str) -> None:
    """What cannot be read says nothing; the object is read like any other."""
    raw.ask("put_object", Key="a", Body=b"1", Metadata={"pilotis-record": record})
    info = await files.stat("a")
    assert ("private", None, b"1") == (info.access, info.sha256, await files.read("a"))


async def test_what_cannot_be_a_file_is_not_listed(files: Any, raw: Any) -> None:
    """Neither the empty objects that consoles make for folders, nor names that no key can have, nor digests."""
    for name in ("folder/", "a//b", "../c", ".pilotis/sha256/x", "folder/a"):
        raw.ask("put_object", Key=name, Body=b"")
    assert ["folder/a"] == [info.key async for info in files.list()]
    assert ["folder/"] == [info.key async for info in files.list(delimiter="/") if info.key != "a/"]


# Folders


async def test_the_prefix_is_a_folder(store: Any, raw: Any) -> None:
    """What is outside of it is neither seen nor touched, whatever its name begins with."""
    raw.ask("put_object", Key="shopping/a", Body=b"theirs")
    raw.ask("put_object", Key="a", Body=b"theirs")
    files = store(prefix="shop")
    await files.put("a", b"ours")
    assert ["a", "shop/a", "shopping/a"] == raw.names
    assert ["a"] == [info.key async for info in files.list()] == [info.key async for info in files.list("a")]
    await files.move("a", "b")
    await files.put("large.bin", LARGE)
    assert hashlib.sha256(LARGE).hexdigest() == (await files.stat("large.bin")).sha256
    await files.delete("b", "large.bin")
    assert 1 == await files.sweep(older_than=0)
    assert ["a", "shopping/a"] == raw.names


async def test_a_listing_that_leads_nowhere(files: Any, raw: Any) -> None:
    """A server that tells of more, and not where, or again and again of the same, is not asked for ever."""
    await files.put("a", b"1")
    for told in (b"", b"<NextContinuationToken>1</NextContinuationToken>"):
        with telling_of_more(files, told), pytest.raises(OperationError, match="not where it goes on"):
            [info async for info in files.list()]


@contextmanager
def telling_of_more(files: Any, told: bytes) -> Generator[None]:
    def tell(response_dict: Any, **_: object) -> None:
        body = response_dict["body"].replace(b"<IsTruncated>false", b"<IsTruncated>true")
        response_dict["body"] = body.replace(b"</ListBucketResult>", told + b"</ListBucketResult>")

    def forget(params: Any, **_: object) -> None:
        params.pop("ContinuationToken", None)  # moto takes none that it did not make

    events = files.native(BaseClient).meta.events
    events.register("before-parse.s3.ListObjectsV2", tell)
    events.register("before-parameter-build.s3.ListObjectsV2", forget)
    yield
    events.unregister("before-parse.s3.ListObjectsV2", tell)
    events.unregister("before-parameter-build.s3.ListObjectsV2", forget)


# Copying


async def test_copies_of_large_files(files: Any, s3: S3Space, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What S3 does not copy with one request is copied in parts, on the server, with all facts; or not at all."""
    monkeypatch.setattr(copying, "LARGEST_AT_ONCE", MIB)
    monkeypatch.setattr(copying, "PART", 5 * MIB)
    await files.put("a.bin", LARGE, metadata={"n": "é"}, access="public")
    copied = await files.copy("a.bin", "b.bin")
    assert 2 == s3.proxy.count("UploadPartCopy")
    assert copied == await files.stat("b.bin")
    assert ({"n": "é"}, "public", hashlib.sha256(LARGE).hexdigest()) == (
        copied.metadata, copied.access, copied.sha256,
    )  # fmt: skip
    assert LARGE == await files.read("b.bin")
    s3.proxy.trouble("UploadPartCopy", None, Trouble(503, "SlowDown"), None, Trouble(503, "SlowDown"))
    with pytest.raises(ThrottledError):
        await files.copy("a.bin", "c.bin")
    assert [] == raw.uploads
    s3.proxy.trouble("AbortMultipartUpload", Trouble(403, "AccessDenied"))
    with pytest.raises(ThrottledError):
        await files.copy("a.bin", "c.bin")
    assert ["c.bin"] == raw.uploads
    assert not await files.exists("c.bin")


async def test_a_copy_whose_answer_is_lost(store: Any, s3: S3Space, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that is there is there, also when it is asked for twice and refused the second time."""
    monkeypatch.setattr(copying, "LARGEST_AT_ONCE", MIB)
    monkeypatch.setattr(copying, "PART", 5 * MIB)
    files = store(attempts=2)
    await files.put("a.bin", LARGE)
    s3.proxy.trouble("CompleteMultipartUpload", Trouble(cut_answer=-1), Trouble(404, "NoSuchUpload"))
    assert await files.copy("a.bin", "b.bin") == await files.stat("b.bin")
    assert [] == raw.uploads


async def test_a_copy_that_was_swept(files: Any, s3: S3Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told as what it is: the source is there."""
    monkeypatch.setattr(copying, "LARGEST_AT_ONCE", MIB)
    await files.put("a.bin", LARGE)
    s3.proxy.trouble("UploadPartCopy", Trouble(404, "NoSuchUpload"))
    s3.proxy.trouble("AbortMultipartUpload", Trouble(404, "NoSuchUpload"))
    with pytest.raises(ConflictError):
        await files.copy("a.bin", "b.bin")


async def test_a_source_that_changes_while_it_is_copied(files: Any, s3: S3Space) -> None:
    """A copy is of one version: that of which the facts are."""
    await files.put("a.bin", b"1")
    s3.proxy.trouble("CopyObject", Trouble(412, "PreconditionFailed"))
    with pytest.raises(ConflictError):
        await files.copy("a.bin", "b.bin")
    (copy,) = [seen for seen in s3.proxy.seen if seen.operation == "CopyObject"]
    assert copy.headers["x-amz-copy-source-if-match"] == f'"{(await files.stat("a.bin")).etag}"'


async def test_a_copy_of_a_file_in_parts_needs_no_note(files: Any, raw: Any) -> None:
    """Its digest stands with it, and the note of the source can go with that."""
    await files.put("a.bin", LARGE)
    await files.move("a.bin", "b.bin")
    assert 1 == await files.sweep(older_than=0)
    assert ["b.bin"] == raw.names
    assert hashlib.sha256(LARGE).hexdigest() == (await files.stat("b.bin")).sha256


# Deleting


async def test_an_error_for_each_key(files: Any, s3: S3Space, raw: Any) -> None:
    """S3 answers 200 and says which keys it did not delete: each is an error, and the others are gone."""
    for key in ("a", "b & <c>", "d", "e"):
        await files.put(key, b"1")
    s3.proxy.protected |= {"b & <c>", "d"}
    with pytest.raises(PermissionDeniedError) as raised:
        await files.delete("a", "b & <c>", "d", "e")
    notes = raised.value.__notes__
    assert (True, True) == ("'b & <c>' was not deleted" in notes, any(note.startswith("'d' was") for note in notes))
    assert ["b & <c>", "d"] == raw.names


async def test_many_are_deleted_a_thousand_at_a_time(files: Any, s3: S3Space) -> None:
    """As many as S3 takes, each time with the digest that it wants."""
    await files.delete(*(f"many/{number}" for number in range(1001)))
    deletes = [seen.headers for seen in s3.proxy.seen if seen.operation == "DeleteObjects"]
    assert 2 == len(deletes)
    assert all(headers["Content-MD5"] for headers in deletes)


# Errors


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "AccessDenied", PermissionDeniedError),
        (403, "InvalidAccessKeyId", AuthenticationError),
        (403, "SignatureDoesNotMatch", AuthenticationError),
        (400, "ExpiredToken", AuthenticationError),
        (404, "NoSuchBucket", NotFoundError),
        (409, "OperationAborted", ConflictError),
        (429, "TooManyRequests", ThrottledError),
        (500, "InternalError", ConnectionFailedError),
        (503, "SlowDown", ThrottledError),
        (507, "XMinioStorageFull", StorageFullError),
        (400, "RequestTimeout", OperationTimeoutError),
        (418, "SomethingNew", OperationError),
        (403, "SomethingNew", PermissionDeniedError),
    ],
)
async def test_what_s3_answers(files: Any, s3: S3Space, status: int, code: str, expected: type[OperationError]) -> None:
    """Each answer is the error that its code stands for, or else its status; HEAD has the status alone."""
    await files.put("a", b"1")
    s3.proxy.trouble("GetObject", Trouble(status, code))
    with pytest.raises(OperationError) as raised:
        await files.read("a")
    assert expected is type(raised.value)


async def test_a_head_that_is_refused(files: Any, s3: S3Space) -> None:
    """A status without a body is told apart too: what may not be seen is not absent."""
    s3.proxy.trouble("HeadObject", Trouble(403, "AccessDenied"), Trouble(503, "SlowDown"))
    with pytest.raises(PermissionDeniedError):
        await files.exists("a")
    with pytest.raises(ThrottledError):
        await files.exists("a")
