"""Files that are sent in parts, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pilotis.bridge import run_blocking
from pilotis.errors import (
    AlreadyExistsError,
    ConflictError,
    ConnectionFailedError,
    InvalidInputError,
    ThrottledError,
)
from pilotis_file_s3 import copying, multipart
from pilotis_testing.clock import until
from pilotis_testing.colours import Colour, soon
from pilotis_testing.file_links import STORED, send
from pilotis_testing.s3 import S3Space, Trouble

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
PART = 5 * MIB
LARGE = bytes(range(256)) * (10 * 1024 * 4) + b"end"
"""Ten MiB, and a little more: three parts, the last one of three bytes."""

LOST = Trouble(cut_answer=-1)


class BrokenSourceError(Exception):
    """What a user's own iterator raises in these tests."""


def pieces(*more: bytes) -> Iterator[bytes]:
    """Yield something large, whose size nobody knows beforehand."""
    for start in range(0, len(LARGE), MIB):
        yield LARGE[start : start + MIB]
    yield from more


def breaking() -> Iterator[bytes]:
    yield from pieces()
    raise BrokenSourceError


async def test_what_is_large_is_sent_in_parts(files: Any, s3: S3Space, raw: Any) -> None:
    """Of the same size, the last one excepted; facts, digest and content are those of the whole."""
    info = await files.put("a/b.bin", pieces(), metadata={"n": "1"}, access="public")
    assert (1, 3, 1) == tuple(
        s3.proxy.count(name) for name in ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")
    )
    assert (len(LARGE), hashlib.sha256(LARGE).hexdigest(), {"n": "1"}) == (info.size, info.sha256, info.metadata)
    assert info == await files.stat("a/b.bin")
    assert LARGE == await files.read("a/b.bin")
    assert ["a/b.bin"] == [info.key async for info in files.list()]
    assert [] == raw.uploads


@pytest.mark.parametrize(("size", "parts"), [(PART - 1, 0), (PART, 0), (PART + 1, 2), (2 * PART, 2)])
async def test_a_file_of_one_part_is_sent_at_once(files: Any, s3: S3Space, size: int, parts: int) -> None:
    """And no part is empty, at whatever size it ends."""
    content = b"x" * size
    await files.put("a.bin", iter([content]))
    assert parts == s3.proxy.count("UploadPart")
    assert content == await files.read("a.bin")


async def test_parts_are_sent_side_by_side(store: Any, s3: S3Space, raw: Any) -> None:
    """As many as `concurrency` says, also in blocking use, and no more."""
    gate = threading.Event()
    s3.proxy.trouble("UploadPart", *[Trouble(hold=gate)] * 3)
    files = store(concurrency=2)
    under_way: list[int] = []

    def watch() -> None:
        until(lambda: s3.proxy.arrived("UploadPart") == 2)
        under_way.append(s3.proxy.arrived("UploadPart"))
        gate.set()

    watching = threading.Thread(target=watch)
    watching.start()
    await files.put("a.bin", pieces())
    await run_blocking(watching.join)
    assert [2] == under_way
    assert 3 == s3.proxy.count("UploadPart")


async def test_a_source_that_fails_leaves_nothing(files: Any, s3: S3Space, raw: Any) -> None:
    """Neither a file nor parts of it: the upload is aborted, and the caller's own error comes out."""
    with pytest.raises(BrokenSourceError):
        await files.put("a.bin", breaking())
    assert 1 == s3.proxy.count("AbortMultipartUpload")
    assert ([], []) == (raw.names, raw.uploads)


async def test_a_block_that_fails_leaves_nothing(files: Any, raw: Any) -> None:
    """What other libraries store in part when the block of a writer raises is not stored at all."""

    async def write() -> None:
        async with files.writer("a.bin") as out:
            await out.write(LARGE)
            raise BrokenSourceError

    with pytest.raises(BrokenSourceError):
        await write()
    assert ([], []) == (raw.names, raw.uploads)


def test_a_cancelled_put_leaves_nothing(s3: S3Space, raw: Any, store: Any) -> None:
    """Also where parts are under way: they are waited for, and the upload is aborted."""
    gate = threading.Event()
    s3.proxy.trouble("UploadPart", *[Trouble(hold=gate)] * 3)

    async def cancelled() -> None:
        putting = asyncio.create_task(store()._thing.aput("a.bin", pieces()))
        await soon(lambda: s3.proxy.arrived("UploadPart") > 1)
        putting.cancel()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await putting

    asyncio.run(cancelled())
    assert ([], []) == (raw.names, raw.uploads)


test_a_cancelled_put_leaves_nothing = pytest.mark.parametrize("colour", [Colour.ASYNC])(
    test_a_cancelled_put_leaves_nothing
)


@pytest.mark.parametrize("trouble", [Trouble(cut_request=MIB), Trouble(garble=True)], ids=["cut", "garbled"])
async def test_a_part_that_does_not_arrive_whole(files: Any, s3: S3Space, raw: Any, trouble: Trouble) -> None:
    """Cut off or altered on its way, it fails the put, which leaves nothing; the old file stays."""
    before = await files.put("a.bin", b"old")
    s3.proxy.trouble("UploadPart", None, trouble)
    with pytest.raises(ConnectionFailedError):
        await files.put("a.bin", pieces())
    assert (["a.bin"], []) == (raw.names, raw.uploads)
    assert before == await files.stat("a.bin")
    s3.proxy.trouble("PutObject", trouble)
    with pytest.raises(ConnectionFailedError):
        await files.put("a.bin", b"x" * PART)
    assert b"old" == await files.read("a.bin")


async def test_a_part_is_sent_again(store: Any, s3: S3Space) -> None:
    """After a cut, and after SlowDown, as often as `attempts` says."""
    s3.proxy.trouble("UploadPart", Trouble(cut_request=MIB), None, Trouble(503, "SlowDown"))
    files = store(attempts=3)
    await files.put("a.bin", pieces())
    assert (5, 4) == (s3.proxy.arrived("UploadPart"), s3.proxy.count("UploadPart"))
    assert LARGE == await files.read("a.bin")


async def test_slow_down(files: Any, s3: S3Space, raw: Any) -> None:
    """Once the attempts are used up, SlowDown is a `ThrottledError`, which tells when to come again."""
    s3.proxy.trouble("UploadPart", Trouble(503, "SlowDown", {"Retry-After": "7"}))
    with pytest.raises(ThrottledError) as raised:
        await files.put("a.bin", pieces())
    assert (7, True) == (raised.value.retry_after, raised.value.retryable)
    assert ([], []) == (raw.names, raw.uploads)


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["at once", "in parts"])
@pytest.mark.parametrize("attempts", [1, 2])
async def test_a_lost_answer(store: Any, s3: S3Space, raw: Any, content: bytes, attempts: int) -> None:
    """A file that is stored although the answer was lost is stored: with `if_absent` too, and when it is sent again."""
    files = store(attempts=attempts)
    await files.put("other.bin", b"", if_absent=True)
    s3.proxy.trouble("PutObject" if content == b"small" else "CompleteMultipartUpload", LOST)
    info = await files.put("a.bin", iter([content]), if_absent=True)
    assert info == await files.stat("a.bin")
    assert content == await files.read("a.bin")
    assert [] == raw.uploads


async def test_an_answer_that_stays_lost(files: Any, s3: S3Space) -> None:
    """Where nobody answers what became of it, the outcome is unknown, and says so."""
    s3.proxy.trouble("PutObject", LOST)
    s3.proxy.trouble("HeadObject", LOST)
    with pytest.raises(ConnectionFailedError) as raised:
        await files.put("a.bin", b"content")
    assert "unknown" == raised.value.outcome


async def test_the_digest_stays_where_the_file_may_be(files: Any, s3: S3Space) -> None:
    """A file that is there although nobody could tell is there with its digest."""
    s3.proxy.trouble("CompleteMultipartUpload", LOST)
    s3.proxy.trouble("HeadObject", LOST, LOST)
    with pytest.raises(ConnectionFailedError) as raised:
        await files.put("a.bin", pieces())
    assert "unknown" == raised.value.outcome
    assert hashlib.sha256(LARGE).hexdigest() == (await files.stat("a.bin")).sha256


async def test_an_upload_that_somebody_swept(files: Any, s3: S3Space, raw: Any) -> None:
    """The put fails with a `ConflictError`: no file of the caller's is missing."""
    s3.proxy.trouble("UploadPart", None, Trouble(404, "NoSuchUpload"))
    with pytest.raises(ConflictError):
        await files.put("a.bin", pieces())
    assert ([], []) == (raw.names, raw.uploads)


async def test_somebody_else_creates_it_meanwhile(files: Any, s3: S3Space, raw: Any) -> None:
    """A key that is taken while parts are sent is `AlreadyExistsError`; the file of the other one stays."""

    def racing() -> Iterator[bytes]:
        yield from pieces()
        raw.ask("put_object", Key="a.bin", Body=b"theirs")

    with pytest.raises(AlreadyExistsError):
        await files.put("a.bin", racing(), if_absent=True)
    assert ([".pilotis/if-absent", "a.bin"], []) == (raw.names, raw.uploads)
    assert b"theirs" == await files.read("a.bin")


async def test_too_many_parts(files: Any, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 takes 10,000 parts. Where the size is known they are larger; where it is not, more are refused with advice."""
    monkeypatch.setattr(multipart, "MOST_PARTS", 2)
    monkeypatch.setattr(copying, "LARGEST_AT_ONCE", MIB)
    monkeypatch.setattr(copying, "PART", PART)
    await files.put("known.bin", LARGE)
    assert LARGE == await files.read("known.bin")
    await files.move("known.bin", "copied.bin")
    assert LARGE == await files.read("copied.bin")
    with pytest.raises(InvalidInputError, match="part_size"):
        await files.put("unknown.bin", pieces())
    assert [] == raw.uploads
    assert ["copied.bin"] == [info.key async for info in files.list()]


async def test_an_abort_that_fails_is_told(files: Any, s3: S3Space) -> None:
    """Not in the place of what went wrong before, but as a note of it; `sweep` removes what is left."""
    s3.proxy.trouble("AbortMultipartUpload", Trouble(403, "AccessDenied"))
    with pytest.raises(BrokenSourceError) as raised:
        await files.put("a.bin", breaking())
    (note,) = raised.value.__notes__
    assert "AccessDenied" in note
    assert 1 == await files.sweep(older_than=0)


@pytest.mark.parametrize("colour", [Colour.ASYNC])
async def test_a_cancelled_put_stays_cancelled(store: Any, s3: S3Space, colour: Colour) -> None:
    """Though the upload cannot be aborted."""
    gate = threading.Event()
    s3.proxy.trouble("UploadPart", *[Trouble(hold=gate)] * 3)
    s3.proxy.trouble("AbortMultipartUpload", Trouble(403, "AccessDenied"))
    putting = asyncio.ensure_future(store()._thing.aput("a.bin", pieces()))
    await soon(lambda: s3.proxy.arrived("UploadPart") > 1)
    putting.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await putting


async def test_what_s3_says_of_access_without_acls(files: Any, s3: S3Space) -> None:
    """A bucket with its ACLs switched off refuses public files; the message says which option helps."""
    s3.proxy.trouble("PutObject", Trouble(400, "AccessControlListNotSupported"))
    with pytest.raises(InvalidInputError, match="acl = false"):
        await files.put("a.bin", b"1", access="public")


@pytest.mark.parametrize(
    ("acl", "access", "sent"),
    [
        (True, "private", None), (True, "public", "public-read"), (False, "public", None),
        ("bucket-owner-full-control", "private", "bucket-owner-full-control"),
    ],
)  # fmt: skip
async def test_acls(store: Any, s3: S3Space, acl: Any, access: str, sent: str | None) -> None:
    """On, off or canned, for files that are put at once, in parts, and copied."""
    files = store(acl=acl)
    await files.put("a.bin", b"1", access=access)
    await files.put("b.bin", LARGE, access=access)
    await files.copy("a.bin", "c.bin")
    assert [sent] * 3 == [
        seen.headers["x-amz-acl"] for seen in s3.proxy.seen
        if seen.operation in ("PutObject", "CreateMultipartUpload", "CopyObject") and ".pilotis" not in seen.key
    ]  # fmt: skip
    assert access == (await files.stat("c.bin")).access


async def test_what_files_say_of_caches(store: Any, raw: Any) -> None:
    """What the option says, of files that are put at once, in parts or with a link, and of their copies."""
    files = store(cache_control="public, max-age=60")
    await files.put("a.bin", b"1")
    await files.put("b.bin", LARGE)
    await files.copy("a.bin", "c.bin")
    for key, size in (("d.bin", None), ("e.bin", 10)):
        assert (await send(files, await files.signed_upload(key, max_size=size), b"1")).status in STORED
    assert ["public, max-age=60"] * 5 == [raw.ask("head_object", Key=key).get("CacheControl") for key in raw.files]
    await store().put("a.bin", b"1")
    assert "CacheControl" not in raw.ask("head_object", Key="a.bin")


async def test_metadata_have_to_fit(files: Any) -> None:
    """What S3 has no room for is refused before anything is sent; a name of ours too."""
    with pytest.raises(InvalidInputError, match=r"metadata: expected .* bytes at most"):
        await files.put("a.bin", b"1", metadata={"n": "é" * 500})
    with pytest.raises(InvalidInputError, match="pilotis-record"):
        await files.put("a.bin", b"1", metadata={"pilotis-record": "1"})


async def test_metadata_round_trip(files: Any) -> None:
    """Whatever is printable, spaces at the ends and percent signs too."""
    metadata = {"a": "  two  spaces ", "b": "50% é 日本", "c": "=?utf-8?q?x?=", "filename": "My holiday (2).JPG"}
    assert metadata == (await files.put("a.bin", b"1", metadata=metadata)).metadata
    assert metadata == (await files.stat("a.bin")).metadata


@pytest.mark.parametrize("key", [".pilotis", ".pilotis/sha256/x"])
async def test_keys_of_ours_are_refused(files: Any, key: str) -> None:
    """No file can take the place of a digest."""
    for call in (lambda: files.put(key, b""), lambda: files.read(key), lambda: files.delete(key)):
        with pytest.raises(InvalidInputError, match=r"\.pilotis"):
            await call()


@pytest.mark.parametrize("key", ["a\ufffe", "\uffff/b"])
async def test_keys_that_xml_cannot_hold_are_refused(files: Any, raw: Any, key: str) -> None:
    """They could be stored, and not deleted again; what others stored under them is not listed."""
    for call in (lambda: files.put(key, b""), lambda: files.read(key), lambda: files.delete("c", key)):
        with pytest.raises(InvalidInputError, match="XML"):
            await call()
    raw.ask("put_object", Key=key, Body=b"")
    assert [] == [info.key async for info in files.list()]


async def test_a_key_may_be_too_long_with_the_prefix(store: Any) -> None:
    """S3 takes names of 1,024 bytes; the message says that the prefix counts."""
    with pytest.raises(InvalidInputError, match="with the prefix"):
        await store(prefix="shop" * 6).put("/".join(["x" * 250] * 4), b"1")
    await store(prefix="shop").put("/".join(["x" * 250] * 4), b"1")
