"""Copying on the server: with one request, or in parts side by side what is too large for that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from pilotis.providers import FileInfo, finish, run_blocking

from pilotis_file_s3.bucket import Bucket
from pilotis_file_s3.multipart import Multipart, or_given_up, part_size
from pilotis_file_s3.records import Record, metadata_of, record_of, told_info, users_metadata

LARGEST_AT_ONCE = 5 * 1024**3
"""Bytes; S3 copies no more with one request."""
PART = 512 * 1024**2

_KEPT = ("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType")


async def copy(bucket: Bucket, source: str, target: str, now: float) -> FileInfo:
    """Copy one version of a file, with its facts, and return those of the copy. Raises `NotFoundError`."""
    head = await bucket.existing(source)
    sha256 = await bucket.digest(head)
    before = record_of(head)
    record = Record.of("private" if before is None else before.access, now, sha256 or "")
    facts = {name: head[name] for name in _KEPT if name in head}
    facts |= {"Metadata": metadata_of(users_metadata(head), record), **bucket.acl_of(record.access)}
    place = {"CopySource": {"Bucket": bucket.options.bucket, "Key": bucket.name_of(source)}}
    place["CopySourceIfMatch"] = head["ETag"]
    if (size := head["ContentLength"]) <= LARGEST_AT_ONCE:
        etag = await _at_once(bucket, bucket.name_of(target), place, facts)
    else:
        etag = await _in_parts(bucket, target, place, facts, (size, record.id))
    return told_info(target, {**head, **facts, "ETag": etag}, sha256)


async def _at_once(bucket: Bucket, name: str, place: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    send = partial(bucket.connection.ask_now, "copy_object", Key=name, MetadataDirective="REPLACE", **place, **facts)
    return (await finish(run_blocking(send)))["CopyObjectResult"]["ETag"]


async def _in_parts(
    bucket: Bucket, key: str, place: Mapping[str, Any], facts: Mapping[str, Any], what: tuple[int, str]
) -> str:
    """Copy what has a size, under the id of its record."""
    size, id = what
    name = bucket.name_of(key)
    upload = Multipart(bucket, key)

    def send(span: str, at: dict[str, Any]) -> str:
        part = bucket.connection.ask_now("upload_part_copy", Key=name, CopySourceRange=span, **at, **place)
        return part["CopyPartResult"]["ETag"]

    with bucket.at_work(name, id):
        await upload.begin(**facts)
        async with or_given_up(upload):
            for span in _spans(size):
                await upload.send(partial(send, span))
            await upload.sent()
            return await bucket.appear(key, id, upload.complete)


def _spans(size: int) -> Iterator[str]:
    part = part_size(PART, size)
    for start in range(0, size, part):
        yield f"bytes={start}-{min(start + part, size) - 1}"
