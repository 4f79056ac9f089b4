"""Writing: at once what is small, and in parts side by side what is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]
from pilotis.errors import AlreadyExistsError, InvalidInputError
from pilotis.providers import FileInfo, WriteRequest, finish, run_blocking, run_blocking_with_undo

from pilotis_file_s3.abreast import Abreast
from pilotis_file_s3.bucket import Bucket
from pilotis_file_s3.errors import is_code
from pilotis_file_s3.options import LARGEST_PART
from pilotis_file_s3.parts import Part
from pilotis_file_s3.records import ELSEWHERE, Note, Record, metadata_of

MOST_PARTS = 10_000


def part_size(configured: int, size: int | None) -> int:
    """Return how large parts are to be: as configured, or larger where a file of a known size has too many of them."""
    return configured if size is None else max(configured, math.ceil(size / MOST_PARTS))


class Write(NamedTuple):
    """What is to be stored where."""

    bucket: Bucket
    key: str
    request: WriteRequest
    record: Record

    @property
    def facts(self) -> dict[str, Any]:
        """What a request says of the file beside its content."""
        return {
            "ContentType": self.request.content_type,
            "Metadata": metadata_of(self.request.metadata, self.record),
            **self.bucket.acl_of(self.request.access),
        }

    @property
    def terms(self) -> dict[str, str]:
        """On which the file is to appear."""
        return {"IfNoneMatch": "*"} if self.request.if_absent else {}

    def ask(self, operation: str, **parameters: Any) -> Any:
        """Send a request about the file, on this thread."""
        return self.bucket.connection.ask_now(operation, Key=self.bucket.name_of(self.key), **parameters)

    async def store(self, send: Callable[[], Any]) -> str:
        """Send what makes the file appear, and return its etag. It is seen through even if the caller is cancelled."""
        try:
            return await self.bucket.appear(self.key, self.record.id, send)
        except ClientError as error:
            if is_code(error, "PreconditionFailed", "412"):
                raise AlreadyExistsError(f"there is a file {self.key!r} already") from error
            raise

    async def is_stored(self) -> bool:
        """Tell whether S3 says that the file is there."""
        return await self.bucket.look(self.key, self.record.id) is not None

    def info(self, size: int, etag: str, sha256: str) -> FileInfo:
        """Return the facts of the file, once it is stored."""
        return FileInfo(
            key=self.key,
            size=size,
            content_type=self.request.content_type,
            etag=etag.strip('"'),
            sha256=sha256,
            modified=self.record.time,
            metadata=self.request.metadata,
            access=self.request.access,
        )


async def put(bucket: Bucket, key: str, body: Part, request: WriteRequest, *, sha256: str, now: float) -> FileInfo:
    """Store a file with one request."""
    write = Write(bucket, key, request, Record.of(request.access, now, sha256))
    send = partial(write.ask, "put_object", Body=body, **write.facts, **write.terms)
    return write.info(body.size, await write.store(send), sha256)


class Upload:
    """A file that is sent in parts: stored when it is completed, and without a trace when it is given up."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._sending = Abreast(write.bucket.options.concurrency)
        self._etags: dict[int, str] = {}
        self._has_note = False
        self._id = ""

    @classmethod
    async def begin(cls, bucket: Bucket, key: str, request: WriteRequest, now: float) -> Upload:
        """Begin one. A caller who is cancelled meanwhile leaves none behind."""
        upload = cls(Write(bucket, key, request, Record.of(request.access, now, ELSEWHERE)))
        upload._id = await run_blocking_with_undo(upload._create, upload._abort)
        return upload

    @property
    def ids(self) -> set[str]:
        """By which sweeping knows what is of it: the upload, and the digest that is stored before it is completed."""
        return {self._id, self._write.record.id}

    async def send(self, part: Part) -> None:
        """Begin to send the next part, once few enough are under way. Raises what went wrong with those before."""
        number = len(self._etags) + 1
        if number > MOST_PARTS:
            raise InvalidInputError(
                f"data: expected {MOST_PARTS} parts at most, which S3 takes of a file; for larger ones of unknown size "
                f"raise part_size, up to {LARGEST_PART}"
            )
        self._etags[number] = ""
        await self._sending.call(partial(self._send, number, part))

    async def complete(self, size: int, sha256: str) -> FileInfo:
        """Have the parts become the file."""
        await self._sending.all()
        await finish(run_blocking(self._note, sha256))
        return self._write.info(size, await self._write.store(self._complete), sha256)

    async def give_up(self) -> None:
        """Remove every trace. What is under way ends first: a part that comes late would stay."""
        await self._sending.ended()
        if not (self._has_note and await self._write.is_stored()):
            await run_blocking(self._abort, self._id)

    # On a thread

    def _create(self) -> str:
        return self._write.ask("create_multipart_upload", **self._write.facts)["UploadId"]

    def _send(self, number: int, part: Part) -> None:
        terms = {"UploadId": self._id, "PartNumber": number}
        self._etags[number] = self._write.ask("upload_part", Body=part, **terms)["ETag"]

    def _note(self, sha256: str) -> None:
        self._has_note = True
        write = self._write
        write.bucket.put_note(write.record.id, Note(write.bucket.name_of(write.key), sha256))

    def _complete(self) -> Any:
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in sorted(self._etags.items())]
        terms = {"UploadId": self._id, "MultipartUpload": {"Parts": parts}}
        return self._write.ask("complete_multipart_upload", **terms, **self._write.terms)

    def _abort(self, id: str) -> None:
        try:
            self._write.ask("abort_multipart_upload", UploadId=id)
        except ClientError as error:
            if not is_code(error, "NoSuchUpload", "404"):
                raise
            return  # it may have been completed, and then the file needs its digest; else that is swept
        if self._has_note:
            self._write.bucket.drop_note(self._write.record.id)
