"""Local providers that each break one obligation of file providers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import msgspec
from pilotis.errors import ConflictError, OperationError
from pilotis.modules.file.sources import Source
from pilotis.providers import Chunks, FileCapability, FileInfo, Link, Links, SignedUpload, WriteRequest
from pilotis_file_local import LocalFiles


class CommitsWhatFailed(LocalFiles):
    async def write(self, key: str, chunks: Chunks, request: WriteRequest) -> FileInfo:
        return await super().write(key, _Endured(chunks), request)  # pyright: ignore[reportArgumentType]


class _Endured:
    """Chunks that end where they should raise."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks

    @property
    def sha256(self) -> str:
        return self._chunks.sha256

    def __aiter__(self) -> _Endured:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._chunks)
        except StopAsyncIteration:
            raise
        except Exception:
            raise StopAsyncIteration from None


class DeletesBeforeWriting(LocalFiles):
    async def write(self, key: str, chunks: Chunks, request: WriteRequest) -> FileInfo:
        if not request.if_absent:
            await self.remove([key])
        return await super().write(key, chunks, request)


class IgnoresIfAbsent(LocalFiles):
    async def write(self, key: str, chunks: Chunks, request: WriteRequest) -> FileInfo:
        return await super().write(key, chunks, msgspec.structs.replace(request, if_absent=False))


class LosesMetadata(LocalFiles):
    async def write(self, key: str, chunks: Chunks, request: WriteRequest) -> FileInfo:
        return await super().write(key, chunks, msgspec.structs.replace(request, metadata={}))


class ReadsEndInclusive(LocalFiles):
    async def read(self, key: str, start: int, end: int | None) -> AsyncGenerator[bytes]:
        async for chunk in super().read(key, start, None if end is None else end + 1):
            yield chunk


class ReopensBetweenChunks(LocalFiles):
    async def read(self, key: str, start: int, end: int | None) -> AsyncGenerator[bytes]:
        while True:
            async for chunk in super().read(key, start, end):
                yield chunk
                start += len(chunk)
                break
            else:
                return


class TakesAbsentForEmpty(LocalFiles):
    async def read(self, key: str, start: int, end: int | None) -> AsyncGenerator[bytes]:
        if await self.stat(key) is not None:
            async for chunk in super().read(key, start, end):
                yield chunk


class ListsBackwards(LocalFiles):
    async def list(self, prefix: str, delimiter: str | None) -> AsyncGenerator[FileInfo]:
        for info in reversed([info async for info in super().list(prefix, delimiter)]):
            yield info


class TakesPrefixForFolder(LocalFiles):
    async def list(self, prefix: str, delimiter: str | None) -> AsyncGenerator[FileInfo]:
        folder = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
        async for info in super().list(folder, delimiter):
            yield info


class CopiesWithoutType(LocalFiles):
    async def copy(self, source: str, target: str) -> FileInfo:
        chunks = Chunks(_Whole(b"".join([chunk async for chunk in self.read(source, 0, None)])))
        return await self.write(target, chunks, WriteRequest(content_type="text/plain"))


class _Whole(Source):
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def pull(self) -> bytes:
        content, self._content = self._content, b""
        return content


class MovesByCopying(LocalFiles):
    async def move(self, source: str, target: str) -> FileInfo:
        return await self.copy(source, target)


class StopsDeletingAtTheFirst(LocalFiles):
    async def remove(self, keys: Sequence[str]) -> dict[str, Exception]:
        return await super().remove(keys[:1])


class RefusesToDeleteTwice(LocalFiles):
    async def remove(self, keys: Sequence[str]) -> dict[str, Exception]:
        for key in keys:
            if await self.stat(key) is None:
                raise OperationError("it is not there")
        return await super().remove(keys)


class SweepsLivingWriters(LocalFiles):
    async def sweep(self, older_than: float) -> int:
        drafts = [*self._root.rglob(".pilotis-draft-*")]
        for draft in drafts:
            draft.unlink()
        return len(drafts)


class SignsForEver(LocalFiles):
    async def sign(self, link: Link) -> SignedUpload:
        forever = None if link.expires is None else link.expires + 10**9
        return await super().sign(msgspec.structs.replace(link, expires=forever))


class AcceptsEveryLink(LocalFiles):
    async def links(self) -> Links:
        return _Trusting(b"", self.options.public_url)


class _Trusting(Links):
    def verify(self, link: Link, signature: str) -> bool:
        return True


class SignsWithoutSize(LocalFiles):
    async def sign(self, link: Link) -> SignedUpload:
        return await super().sign(msgspec.structs.replace(link, max_size=None))


class ClaimsOverlappingKeys(LocalFiles):
    capabilities = LocalFiles.capabilities | FileCapability.OVERLAPPING_KEYS


class DeniesItsChecksums(LocalFiles):
    capabilities = LocalFiles.capabilities & ~FileCapability.CHECKSUMS


class HidesConflicts(LocalFiles):
    async def write(self, key: str, chunks: Chunks, request: WriteRequest) -> FileInfo:
        try:
            return await super().write(key, chunks, request)
        except ConflictError as error:
            raise OSError("something is in the way") from error


class ListsWithoutFacts(LocalFiles):
    async def list(self, prefix: str, delimiter: str | None) -> AsyncGenerator[FileInfo]:
        async for info in super().list(prefix, delimiter):
            yield msgspec.structs.replace(info, content_type="", sha256=None, metadata={})
