"""Reading: one request, and another one from where it broke off."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError  # pyright: ignore[reportMissingTypeStubs]
from pilotis.bridge import THREADS
from pilotis.errors import ConflictError, OperationError
from pilotis.modules.file.types import CHUNK_SIZE
from pilotis.providers import run_blocking, run_blocking_with_undo

from pilotis_file_s3.bucket import Bucket, absent
from pilotis_file_s3.errors import BROKEN, is_code, told

MOST_BREAKS = 3
"""How often in a row a connection may break without a byte."""

_HURRY_SECONDS = 0.001


class Reading:
    """A range of one version of a file, on its way."""

    def __init__(self, bucket: Bucket, key: str, start: int, end: int | None) -> None:
        self._bucket = bucket
        self._key = key
        self._position = start
        self._end = end
        self._answer: Mapping[str, Any] = {}
        self._breaks = 0
        self._busy = threading.Lock()
        """Held while a thread reads: one whose caller was cancelled may still be at it."""
        # Only what is read whole can be compared with the digest of the whole.
        self._digest = hashlib.sha256() if start == 0 and end is None else None

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield the bytes. Raises `OperationError` at the end of a whole file that is not what was stored."""
        if not await self._open():
            return
        try:
            while chunk := await self._pull():
                yield chunk
        finally:
            self._leave()
        await self._verify()

    async def _open(self) -> bool:
        """Ask for what is still to come, and return whether there can be any."""
        if self._end is not None and self._position >= self._end:
            return False
        try:
            self._answer = await run_blocking_with_undo(self._ask, _close)
        except ClientError as error:
            if is_code(error, "InvalidRange", "416"):
                return False
            raise self._explained(error) from error
        return True

    def _ask(self) -> Mapping[str, Any]:
        span = self._range()
        name = self._bucket.name_of(self._key)
        answer = self._bucket.connection.ask_now("get_object", Key=name, **span, **self._version())
        if span and "ContentRange" not in answer:
            _close(answer)
            raise OperationError("the server passed over the range that was asked for, and would send the whole file")
        return answer

    def _range(self) -> dict[str, str]:
        if self._position == 0 and self._end is None:
            return {}
        return {"Range": f"bytes={self._position}-{'' if self._end is None else self._end - 1}"}

    def _version(self) -> dict[str, str]:
        """Once a byte was read, say of which version the others are to be."""
        if not self._answer:
            return {}
        version = self._answer.get("VersionId")
        return {"IfMatch": self._answer["ETag"], **({} if version in (None, "null") else {"VersionId": version})}

    def _explained(self, error: ClientError) -> Exception:
        if self._answer and is_code(error, "PreconditionFailed", "412", "NoSuchKey", "404"):
            return ConflictError(
                f"{self._key!r} was replaced or deleted while it was read, and the connection broke: read it again"
            )
        return absent(self._key) if is_code(error, "NoSuchKey", "404") else error

    async def _pull(self) -> bytes:
        """Return the next bytes, none at the end. Goes on where the connection broke."""
        while True:
            try:
                chunk = await run_blocking(self._read)
            except BROKEN:
                self._breaks += 1
                if self._breaks > MOST_BREAKS:
                    raise
                self._answer["Body"].close()
                if not await self._open():
                    return b""
            else:
                self._breaks = 0
                return chunk

    def _read(self) -> bytes:
        with self._busy:
            chunk = self._read_now()
        self._position += len(chunk)
        if self._digest is not None:
            self._digest.update(chunk)
        return chunk

    def _read_now(self) -> bytes:
        try:
            return self._answer["Body"].read(CHUNK_SIZE)
        except ReadTimeoutError as error:
            raise told(error, self._bucket.options) from error

    def _leave(self) -> None:
        """Close the connection: at once, or when the thread is done that still reads from it, which is hurried."""
        if self._busy.acquire(blocking=False):
            self._close_held()
            return
        with suppress(AttributeError):  # all has come meanwhile
            self._answer["Body"].set_socket_timeout(_HURRY_SECONDS)
        THREADS.submit(self._close_later)

    def _close_later(self) -> None:
        self._busy.acquire()
        self._close_held()

    def _close_held(self) -> None:
        try:
            _close(self._answer)
        finally:
            self._busy.release()

    async def _verify(self) -> None:
        if self._digest is None:
            return
        expected = await self._bucket.digest(self._answer)
        if expected not in (None, self._digest.hexdigest()):
            raise OperationError(f"{self._key!r} is damaged: it is not what was stored")


def _close(answer: Mapping[str, Any]) -> None:
    answer["Body"].close()
