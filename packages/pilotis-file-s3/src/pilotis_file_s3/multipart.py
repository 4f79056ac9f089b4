"""What is sent in parts, side by side: stored when it is completed, and without a trace when it is given up."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol

from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]
from pilotis.errors import InvalidInputError
from pilotis.providers import run_blocking, run_blocking_with_undo

from pilotis_file_s3.abreast import Abreast
from pilotis_file_s3.bucket import Bucket, clean_up
from pilotis_file_s3.errors import is_code
from pilotis_file_s3.options import LARGEST_PART

MOST_PARTS = 10_000


def part_size(wanted: int, size: int | None) -> int:
    """Return how large parts are to be: as is wanted, or larger where a file of a known size has too many of them."""
    return wanted if size is None else max(wanted, math.ceil(size / MOST_PARTS))


class Multipart:
    """One upload of S3's."""

    def __init__(self, bucket: Bucket, key: str) -> None:
        self._ask = partial(bucket.connection.ask_now, Key=bucket.name_of(key))
        self._sending = Abreast(bucket.options.concurrency)
        self._etags: dict[int, str] = {}
        self._id = ""

    async def begin(self, **facts: Any) -> None:
        """Begin it. A caller who is cancelled meanwhile leaves none behind."""
        create = partial(self._ask, "create_multipart_upload", **facts)
        self._id = (await run_blocking_with_undo(create, lambda made: self._abort(made["UploadId"])))["UploadId"]

    async def send(self, part: Callable[[dict[str, Any]], str]) -> None:
        """Begin to send the next part, once few enough are under way: `part` gets its place, and returns its etag.

        Raises what went wrong with those before.
        """
        number = len(self._etags) + 1
        if number > MOST_PARTS:
            raise InvalidInputError(
                f"data: expected {MOST_PARTS} parts at most, which S3 takes of a file; for larger ones of unknown size "
                f"raise part_size, up to {LARGEST_PART}"
            )
        self._etags[number] = ""
        await self._sending.call(partial(self._send, number, part))

    async def sent(self) -> None:
        """Wait until all parts are there. Raises what went wrong with them."""
        await self._sending.all()

    async def ended(self) -> None:
        """Wait until nothing is under way, however it ended: a part that comes late would stay."""
        await self._sending.ended()

    async def give_up(self) -> bool:
        """Remove every trace, once nothing is under way; return whether S3 knew of one."""
        await self.ended()
        return await run_blocking(self._abort, self._id)

    # On a thread

    def complete(self, **terms: Any) -> Any:
        """Have the parts become the file."""
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in sorted(self._etags.items())]
        return self._ask("complete_multipart_upload", UploadId=self._id, MultipartUpload={"Parts": parts}, **terms)

    def _send(self, number: int, part: Callable[[dict[str, Any]], str]) -> None:
        self._etags[number] = part({"UploadId": self._id, "PartNumber": number})

    def _abort(self, id: str) -> bool:
        try:
            self._ask("abort_multipart_upload", UploadId=id)
        except ClientError as error:
            if not is_code(error, "NoSuchUpload", "404"):
                raise
            return False
        return True


class GivenUp(Protocol):
    """What can be given up."""

    async def give_up(self) -> object: ...


@asynccontextmanager
async def or_given_up(upload: GivenUp) -> AsyncGenerator[None]:
    """Give an upload up if the block raises."""
    try:
        yield
    except BaseException as error:
        await clean_up(error, upload.give_up())
        raise
