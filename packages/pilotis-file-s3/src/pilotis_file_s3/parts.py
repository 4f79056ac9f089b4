"""A file cut into what is sent with one request, without copying its bytes together."""

from __future__ import annotations

import base64
import hashlib
import os
from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from itertools import accumulate

View = memoryview


class Part:
    """Bytes in several pieces that read like a file, as boto3 wants the body of a request."""

    def __init__(self, pieces: Sequence[View]) -> None:
        ends = list(accumulate(map(len, pieces)))
        self._pieces = pieces
        self._starts = [0, *ends[:-1]]
        self._position = 0
        self.size = ends[-1] if ends else 0

    @property
    def md5(self) -> str:
        """What goes into Content-MD5, against which every S3 checks a body."""
        digest = hashlib.md5(usedforsecurity=False)
        for piece in self._pieces:
            digest.update(piece)
        return base64.b64encode(digest.digest()).decode()

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, none at the end; where a size is given perhaps fewer, as of a pipe."""
        if size < 0:
            return b"".join(iter(lambda: self.read(self.size), b""))
        if self._position >= self.size:
            return b""
        index = bisect_right(self._starts, self._position) - 1
        offset = self._position - self._starts[index]
        taken = bytes(self._pieces[index][offset : offset + size])
        self._position += len(taken)
        return taken

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position


async def parts_of(chunks: AsyncIterator[bytes], size: int) -> AsyncGenerator[tuple[Part, bool]]:
    """Yield the bytes of `chunks` in parts of `size`, and with each whether it is the last, which is never missing."""
    pieces: list[View] = []
    held = 0
    async for chunk in chunks:
        view = memoryview(chunk)
        while held + len(view) > size:
            room = size - held
            yield Part([*pieces, view[:room]]), False
            view, pieces, held = view[room:], [], 0
        pieces.append(view)
        held += len(view)
    yield Part(pieces), True
