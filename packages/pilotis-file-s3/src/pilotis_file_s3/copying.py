"""Copying on the server: with one request, or in parts side by side what is too large for that."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]
from pilotis.providers import FileInfo, finish, run_blocking, run_blocking_with_undo

from pilotis_file_s3.abreast import Abreast
from pilotis_file_s3.bucket import Bucket, clean_up
from pilotis_file_s3.errors import is_code
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
    ask = partial(bucket.connection.ask_now, Key=bucket.name_of(key))
    begin = partial(ask, "create_multipart_upload", **facts)
    upload = (await run_blocking_with_undo(begin, lambda made: _abort(ask, made["UploadId"])))["UploadId"]
    etags: dict[int, str] = {}

    def send(number: int, start: int) -> None:
        span = f"bytes={start}-{min(start + PART, size) - 1}"
        part = ask("upload_part_copy", UploadId=upload, PartNumber=number, CopySourceRange=span, **place)
        etags[number] = part["CopyPartResult"]["ETag"]

    sending = Abreast(bucket.options.concurrency)
    try:
        for number, start in enumerate(range(0, size, PART), 1):
            await sending.call(partial(send, number, start))
        await sending.all()
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in sorted(etags.items())]
        complete = partial(ask, "complete_multipart_upload", UploadId=upload, MultipartUpload={"Parts": parts})
        return await bucket.appear(key, id, complete)
    except BaseException as error:
        await clean_up(error, _give_up(sending, partial(_abort, ask, upload)))
        raise


async def _give_up(sending: Abreast, abort: partial[None]) -> None:
    await sending.ended()
    await run_blocking(abort)


def _abort(ask: partial[Any], upload: str) -> None:
    try:
        ask("abort_multipart_upload", UploadId=upload)
    except ClientError as error:
        if not is_code(error, "NoSuchUpload", "404"):
            raise
