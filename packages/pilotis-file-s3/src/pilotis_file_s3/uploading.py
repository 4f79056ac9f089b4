"""Writing: at once what is small, and in parts side by side what is not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]
from pilotis.errors import AlreadyExistsError
from pilotis.providers import FileInfo, WriteRequest, finish, run_blocking

from pilotis_file_s3.bucket import Bucket
from pilotis_file_s3.errors import is_code
from pilotis_file_s3.multipart import Multipart, or_given_up
from pilotis_file_s3.parts import Part
from pilotis_file_s3.records import ELSEWHERE, Note, Record, metadata_of


class Write(NamedTuple):
    """What is to be stored where."""

    bucket: Bucket
    key: str
    request: WriteRequest
    record: Record

    @property
    def name(self) -> str:
        """Of the object."""
        return self.bucket.name_of(self.key)

    @property
    def facts(self) -> dict[str, Any]:
        """What a request says of the file beside its content."""
        return {
            "ContentType": self.request.content_type,
            "Metadata": metadata_of(self.request.metadata, self.record),
            **self.bucket.caching,
            **self.bucket.acl_of(self.request.access),
        }

    @property
    def terms(self) -> dict[str, str]:
        """On which the file is to appear."""
        return {"IfNoneMatch": "*"} if self.request.if_absent else {}

    def ask(self, operation: str, **parameters: Any) -> Any:
        """Send a request about the file, on this thread."""
        return self.bucket.connection.ask_now(operation, Key=self.name, **parameters)

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
        self._parts = Multipart(write.bucket, write.key)
        self._has_note = False

    async def begin(self) -> None:
        """Begin it. A caller who is cancelled meanwhile leaves none behind."""
        await self._parts.begin(**self._write.facts)

    async def send(self, part: Part) -> None:
        """Begin to send the next part, once few enough are under way. Raises what went wrong with those before."""
        await self._parts.send(lambda place: self._write.ask("upload_part", Body=part, **place)["ETag"])

    async def complete(self, size: int, sha256: str) -> FileInfo:
        """Have the parts become the file."""
        await self._parts.sent()
        await finish(run_blocking(self._note, sha256))
        complete = partial(self._parts.complete, **self._write.terms)
        return self._write.info(size, await self._write.store(complete), sha256)

    async def give_up(self) -> None:
        """Remove every trace, unless the file is there after all."""
        await self._parts.ended()
        if self._has_note and await self._write.is_stored():
            return
        # An upload that is unknown may have been completed, and then the file needs its digest; else that is swept.
        if await self._parts.give_up() and self._has_note:
            await run_blocking(self._write.bucket.drop_note, self._write.record.id)

    def _note(self, sha256: str) -> None:
        self._has_note = True
        write = self._write
        write.bucket.put_note(write.record.id, Note(write.name, sha256))


@asynccontextmanager
async def uploading(bucket: Bucket, key: str, request: WriteRequest, now: float) -> AsyncGenerator[Upload]:
    """Begin a file in parts, and give it up if the block raises."""
    write = Write(bucket, key, request, Record.of(request.access, now, ELSEWHERE))
    upload = Upload(write)
    with bucket.at_work(write.name, write.record.id):
        await upload.begin()
        async with or_given_up(upload):
            yield upload
