"""A file on its way to the provider: counted, hashed and checked as it passes."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable

from pilotis.bridge import run_blocking
from pilotis.errors import InvalidInputError
from pilotis.modules.file.sources import Source

SMALL = 64 * 1024
"""Up to this many bytes are hashed faster than a thread is called."""

Progress = Callable[[int, int | None], Awaitable[object]]


class Chunks(AsyncIterator[bytes]):
    """What a provider stores: an iterator of chunks that knows, once it is exhausted, their size and digest.

    It raises before it ends if the bytes are not those that were announced, so that nothing wrong is ever stored.
    """

    def __init__(
        self, source: Source, *, size: int | None = None, sha256: str | None = None, progress: Progress | None = None
    ) -> None:
        self._source = source
        self._expected_size = source.size if size is None else size
        self._expected_sha256 = sha256
        self._progress = progress
        self._digest = hashlib.sha256()
        self.size = 0
        """How many bytes have passed."""
        self.failure: Exception | None = None
        """What the source or the progress function raised."""

    @property
    def sha256(self) -> str:
        """The digest, in hexadecimal, of the bytes that have passed."""
        return self._digest.hexdigest()

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._source.pull()
            await self._pass(chunk)
        except Exception as error:
            self.failure = error
            raise
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def _pass(self, chunk: bytes) -> None:
        if not chunk:
            self._verify()
            return
        self.size += len(chunk)
        if len(chunk) > SMALL:
            await run_blocking(self._digest.update, chunk)
        else:
            self._digest.update(chunk)
        if self._progress is not None:
            await self._progress(self.size, self._expected_size)

    def _verify(self) -> None:
        if self._expected_size not in (None, self.size):
            raise InvalidInputError(f"data: expected {self._expected_size} bytes, got {self.size}")
        if self._expected_sha256 not in (None, self.sha256):
            raise InvalidInputError("data: its digest is not the one given as sha256: it was altered on the way")
