"""A file cut into what is sent with one request."""

from __future__ import annotations

import mmap
import os
from collections.abc import AsyncGenerator, AsyncIterator


class Part:
    """Bytes that are filled in, and then read like a file, as boto3 wants the body of a request.

    They are in pages of their own, which go back to the system with the part. What many threads take from the common
    heap and give back stays there for long, and would be twice as much.
    """

    def __init__(self, room: int) -> None:
        self._pages = mmap.mmap(-1, room, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._position = 0
        self.size = 0
        """How many bytes were filled in."""

    def fill(self, view: memoryview) -> memoryview:
        """Append what there is room for, and return the rest."""
        taken = view[: len(self._pages) - self.size]
        self._pages[self.size : self.size + len(taken)] = taken
        self.size += len(taken)
        return view[len(taken) :]

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, none at the end."""
        end = self.size if size < 0 else min(self.size, self._position + size)
        taken = self._pages[self._position : end]
        self._position = end
        return taken

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position


async def parts_of(chunks: AsyncIterator[bytes], size: int) -> AsyncGenerator[tuple[Part, bool]]:
    """Yield the bytes of `chunks` in parts of `size`, and with each whether it is the last, which is never missing."""
    part = Part(size)
    async for chunk in chunks:
        rest = part.fill(memoryview(chunk))
        while rest:
            yield part, False
            part = Part(size)
            rest = part.fill(rest)
    yield part, True
