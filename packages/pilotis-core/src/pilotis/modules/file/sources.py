"""Where the bytes of a file come from: memory, a path, an open file, an iterator."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from functools import partial
from pathlib import Path
from typing import Any, cast

from pilotis.bridge import on_loop, run_blocking, run_blocking_with_undo, running_loop
from pilotis.errors import InvalidInputError
from pilotis.modules.file.types import CHUNK_SIZE, BinaryFile, Bytes
from pilotis.runtime import Runtime


class Source(ABC):
    """Bytes, pulled piece by piece; never more than a piece of them is in memory."""

    size: int | None = None
    """How many bytes there are in all, where it is known beforehand."""

    @abstractmethod
    async def pull(self) -> bytes:
        """Return the next bytes, about 1 MiB of them, and none at the end."""

    async def close(self) -> None:
        """Give back what was opened. Idempotent."""


async def open_source(data: object, runtime: Runtime) -> Source:
    """Return the source of what a user wants stored. Raises `InvalidInputError` for what it cannot be."""
    if isinstance(data, Source):
        return data
    if isinstance(data, bytes | bytearray | memoryview):
        return _Memory(cast("Bytes", data))
    if isinstance(data, os.PathLike):
        return await run_blocking_with_undo(partial(_open_path, cast("os.PathLike[str]", data)), _Path.shut)
    if isinstance(data, AsyncIterable):
        return _AsyncPieces(cast("AsyncIterable[Bytes]", data), runtime)
    if callable(getattr(data, "read", None)):
        return _File(cast("BinaryFile", data))
    if isinstance(data, Iterable) and not isinstance(data, str):
        return _Pieces(cast("Iterable[Bytes]", data))
    raise InvalidInputError(f"data: {_EXPECTED}, got {type(data).__name__}{_advice(data)}")


_EXPECTED = "expected bytes, a path, a file open in binary mode, or an iterator of bytes"


def _advice(data: object) -> str:
    return ". Encode the text, or make a pathlib.Path of it if it is a path" if isinstance(data, str) else ""


class _Memory(Source):
    def __init__(self, data: Bytes) -> None:
        self._view = view_of(data)
        self._position = 0
        self.size = len(self._view)

    async def pull(self) -> bytes:
        start, self._position = self._position, self._position + CHUNK_SIZE
        return bytes(self._view[start : self._position])


class _File(Source):
    """A file of the caller's: read from where it stands, and left open."""

    def __init__(self, file: BinaryFile) -> None:
        self._file = file

    async def pull(self) -> bytes:
        return _as_bytes(await run_blocking(self._file.read, CHUNK_SIZE), "the file")


class _Path(_File):
    """A file that was opened here."""

    def __init__(self, file: Any, size: int) -> None:
        super().__init__(file)
        self.size = size

    async def close(self) -> None:
        self.shut()

    def shut(self) -> None:
        self._file.close()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] - opened below


def _open_path(path: os.PathLike[str]) -> _Path:
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - closed by `close`
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InvalidInputError(f"data: expected a file that can be read: {os.fspath(path)!r}: {why}") from error
    return _Path(file, os.fstat(file.fileno()).st_size)


class _Pieces(Source):
    def __init__(self, pieces: Iterable[Bytes]) -> None:
        self._pieces = iter(pieces)

    async def pull(self) -> bytes:
        return await run_blocking(self._gather)

    def _gather(self) -> bytes:
        gathered = bytearray()
        for piece in self._pieces:
            gathered += _as_bytes(piece, "the iterator")
            if len(gathered) >= CHUNK_SIZE:
                break
        return bytes(gathered)


class AsyncSource(Source):
    """A source whose coroutines belong to the event loop that runs where it is made, if there is one."""

    def __init__(self) -> None:
        self._loop = running_loop()

    async def at_home(self, function: Callable[[], Coroutine[Any, Any, bytes]], runtime: Runtime) -> bytes:
        """Call an async function on that loop; without one, on the app's home loop."""
        return await runtime.call(function) if self._loop is None else await on_loop(self._loop, function())


class _AsyncPieces(AsyncSource):
    def __init__(self, pieces: AsyncIterable[Bytes], runtime: Runtime) -> None:
        super().__init__()
        self._pieces: AsyncIterator[Bytes] = aiter(pieces)
        self._runtime = runtime

    async def pull(self) -> bytes:
        return await self.at_home(self._gather, self._runtime)

    async def close(self) -> None:
        if isinstance(self._pieces, AsyncGenerator):
            await self.at_home(self._end, self._runtime)

    async def _gather(self) -> bytes:
        gathered = bytearray()
        async for piece in self._pieces:
            gathered += _as_bytes(piece, "the iterator")
            if len(gathered) >= CHUNK_SIZE:
                break
        return bytes(gathered)

    async def _end(self) -> bytes:
        await cast("AsyncGenerator[Bytes, None]", self._pieces).aclose()
        return b""


def view_of(data: Bytes) -> memoryview[int]:
    """Return the bytes of `data`, without copying them where they lie side by side."""
    view = cast("memoryview[Any]", memoryview(data))
    return view.cast("B") if view.c_contiguous else memoryview(view.tobytes())


def _as_bytes(piece: object, origin: str) -> bytes:
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, bytearray | memoryview):
        return bytes(view_of(cast("Bytes", piece)))
    raise InvalidInputError(f"data: expected bytes from {origin}, got {type(piece).__name__}")
