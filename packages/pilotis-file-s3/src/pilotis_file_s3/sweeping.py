"""Removing what killed writers left: uploads that were never completed, and digests of files that are not there."""

from __future__ import annotations

from collections.abc import Mapping

from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]

from pilotis_file_s3.bucket import Bucket
from pilotis_file_s3.errors import is_code
from pilotis_file_s3.listing import pages_of
from pilotis_file_s3.records import NOTES, Note, is_key


async def sweep(bucket: Bucket, before: float) -> int:
    """Remove what nobody has touched since `before` (seconds since 1970), and return how many things.

    S3 does not know who writes. An upload is taken for left when no part has come since, and this process is not
    writing to the same object.
    """
    return await _sweep_uploads(bucket, before) + await _sweep_notes(bucket, before)


async def _sweep_uploads(bucket: Bucket, before: float) -> int:
    removed = 0
    async for page in pages_of(bucket, "list_multipart_uploads", Prefix=bucket.folder):
        for upload in page.get("Uploads", ()):
            place = {"Key": upload["Key"], "UploadId": upload["UploadId"]}
            if upload["Initiated"].timestamp() > before or bucket.is_at_work(upload["Key"]):
                continue
            if await _last_part(bucket, place) <= before:
                removed += await _abort(bucket, place)
    return removed


async def _last_part(bucket: Bucket, place: Mapping[str, str]) -> float:
    """Return when the last part of an upload came, in seconds since 1970; 0 where none has, or it is gone."""
    try:
        return max(
            [part["LastModified"].timestamp() async for page in pages_of(bucket, "list_parts", **place)
             for part in page.get("Parts", ())], default=0.0
        )  # fmt: skip
    except ClientError as error:
        if is_code(error, "NoSuchUpload", "404"):
            return 0.0
        raise


async def _abort(bucket: Bucket, place: Mapping[str, str]) -> int:
    try:
        await bucket.connection.ask("abort_multipart_upload", **place)
    except ClientError as error:
        if is_code(error, "NoSuchUpload", "404"):
            return 0  # it was completed, or somebody else swept
        raise
    return 1


async def _sweep_notes(bucket: Bucket, before: float) -> int:
    removed = 0
    async for page in pages_of(bucket, "list_objects_v2", Prefix=bucket.folder + NOTES):
        for entry in page.get("Contents", ()):
            if entry["LastModified"].timestamp() > before or bucket.is_at_work(entry["Key"].rpartition("/")[2]):
                continue
            if not await _is_needed(bucket, entry["Key"]):
                await bucket.connection.ask("delete_object", Key=entry["Key"])
                removed += 1
    return removed


async def _is_needed(bucket: Bucket, name: str) -> bool:
    note: Note | None = await bucket.note(name)
    if note is None:
        return True  # somebody else has just removed it, or it is none of ours
    key = note.key.removeprefix(bucket.folder)
    return not is_key(key) or await bucket.written(key, name.rpartition("/")[2]) is not None
