"""LocalFiles: files in a folder of this machine."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncGenerator, Iterator, Sequence
from enum import Flag
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ClassVar

import msgspec
from pilotis.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    OperationError,
    PermissionDeniedError,
    StorageFullError,
)
from pilotis.modules.file.sources import Source
from pilotis.modules.file.types import CHUNK_SIZE
from pilotis.providers import (
    Chunks,
    FileCapability,
    FileInfo,
    FileProvider,
    Links,
    WriteRequest,
    finish,
    run_blocking,
    run_blocking_with_undo,
)
from pilotis.settings.secrets import Secret

from pilotis_file_local import tree
from pilotis_file_local.drafts import Draft
from pilotis_file_local.shelf import Shelf
from pilotis_file_local.sweeping import sweep
from pilotis_file_local.walking import walk

_PAGE = 100


class LocalFilesOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the local provider."""

    root: str = "storage"
    """The folder of the files, made at the first write. A relative one begins where the app is made."""
    public_url: str = "/files"
    """Where `file.wsgi()` or `file.asgi()` is mounted: how links begin. A path alone gives links within the site."""
    secret: Secret | None = None
    """What links are signed with. By default a random one, kept in the root and readable by its owner only."""
    fsync: bool = True
    """Whether a file is on the disk, safe from power cuts, when `put` returns."""

    def __post_init__(self) -> None:
        for name in ("root", "public_url"):
            if not getattr(self, name):
                raise InvalidInputError(f"{name}: expected text that is not empty")
        if self.secret == "":
            raise InvalidInputError("secret: expected text that is not empty; leave it out for a random one")

    @classmethod
    def from_url(cls, url: str) -> dict[str, object]:
        """Return the options in `local:///srv/files` or `local://relative/folder`."""
        from urllib.parse import unquote

        folder = unquote(url.partition("://")[2])
        return {"root": folder} if folder else {}


class LocalFiles(FileProvider):
    """Files in a folder, stored whole or not at all, and never outside of it."""

    Options = LocalFilesOptions
    capabilities: ClassVar[Flag] = (
        FileCapability.CREATE_ONLY
        | FileCapability.CHECKSUMS
        | FileCapability.SIGNED_LINKS
        | FileCapability.SERVED_LINKS
        | FileCapability.SWEEP
        | FileCapability.LISTED_FACTS
    )

    def __init__(
        self,
        options: LocalFilesOptions | None = None,
        *,
        client: object | None = None,
        async_client: object | None = None,
    ) -> None:
        super().__init__(options, client=client, async_client=async_client)
        self._root = Path(os.path.abspath(self.options.root))  # noqa: PTH100 - links in it are left alone
        self._shelf = Shelf(self._root, durable=self.options.fsync)
        self._secret: bytes | None = None

    @property
    def address(self) -> str:
        return str(self._root)

    async def open(self) -> None:
        await self.ping()

    async def ping(self) -> None:
        await run_blocking(_check_usable, self._root)

    def native(self, kind: type) -> object | None:
        return self._root if isinstance(self._root, kind) else super().native(kind)

    def classify(self, error: Exception) -> type[OperationError] | None:
        number = error.errno if isinstance(error, OSError) else None
        return _ERRORS.get(number or 0) or super().classify(error)

    # Files

    async def write(self, key: str, chunks: Chunks, request: WriteRequest) -> FileInfo:
        folders = tree.segments_of(key)[:-1]
        if request.if_absent and await run_blocking(self._shelf.exists, key):
            raise AlreadyExistsError(f"there is a file {key!r} already")
        draft = await run_blocking_with_undo(partial(self._draft, folders), Draft.close)
        try:
            async for chunk in chunks:
                await finish(run_blocking(draft.write, chunk))
            return await finish(run_blocking(self._commit, draft, key, chunks.sha256, request))
        finally:
            await finish(run_blocking(draft.close))

    async def read(self, key: str, start: int, end: int | None) -> AsyncGenerator[bytes]:
        file = await run_blocking_with_undo(partial(self._open, key), os.close)
        opened = _Opened(file, start, end)
        try:
            while chunk := await opened.pull():
                yield chunk
        finally:
            os.close(file)

    async def stat(self, key: str) -> FileInfo | None:
        return await run_blocking(self._shelf.stat, key)

    async def list(self, prefix: str, delimiter: str | None) -> AsyncGenerator[FileInfo]:
        found = walk(self._shelf, prefix, whole=delimiter is None)
        while page := await finish(run_blocking(_page, found)):
            for info in page:
                yield info

    async def copy(self, source: str, target: str) -> FileInfo:
        file, info = await run_blocking_with_undo(partial(self._find, source), lambda found: os.close(found[0]))
        chunks = Chunks(_Opened(file, 0, info.size), size=info.size, sha256=info.sha256)
        request = WriteRequest(content_type=info.content_type, access=info.access, metadata=info.metadata)
        try:
            return await self.write(target, chunks, request)
        except InvalidInputError as error:
            if chunks.failure is None:
                raise
            raise OperationError(f"{source!r} is damaged: it is not what was stored") from error
        finally:
            os.close(file)

    async def remove(self, keys: Sequence[str]) -> dict[str, Exception]:
        return await finish(run_blocking(self._remove, keys))

    async def sweep(self, older_than: float) -> int:
        return await finish(run_blocking(sweep, self._shelf, self.context.clock.time() - older_than))

    async def links(self) -> Links:
        if self._secret is None:
            self._secret = await finish(run_blocking(self._find_secret))
        return Links(self._secret, self.options.public_url)

    # Blocking, in this colour or on a thread

    def _draft(self, folders: Sequence[str], mode: int = 0o666) -> Draft:
        return Draft(self._root, [*folders], self.context.clock.time(), durable=self.options.fsync, mode=mode)

    def _commit(self, draft: Draft, key: str, sha256: str, request: WriteRequest) -> FileInfo:
        try:
            return self._shelf.put(draft, key, sha256, request, self.context.clock.time())
        except (FileExistsError, IsADirectoryError) as error:
            if self._shelf.is_folder(key):
                raise ConflictError(f"{key!r} is a folder of other files, and cannot be a file at once") from error
            raise AlreadyExistsError(f"there is a file {key!r} already") from error

    def _open(self, key: str) -> int:
        try:
            return self._shelf.open(key)
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no file {key!r}") from error

    def _find(self, key: str) -> tuple[int, FileInfo]:
        try:
            return self._shelf.find(key)
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no file {key!r}") from error

    def _remove(self, keys: Sequence[str]) -> dict[str, Exception]:
        failures: dict[str, Exception] = {}
        for key in keys:
            try:
                self._shelf.remove(key)
            except (OSError, OperationError) as error:
                failures[key] = error
        return failures

    def _find_secret(self) -> bytes:
        if self.options.secret is not None:
            return self.options.secret.encode()
        try:
            return self._shelf.secret()
        except FileNotFoundError:
            return self._shelf.make_secret(self._draft([tree.RESERVED], mode=0o600))


class _Opened(Source):
    """A range of an open file, read from where it was left."""

    def __init__(self, file: int, start: int, end: int | None) -> None:
        self._file = file
        self._position = start
        self._end = end

    async def pull(self) -> bytes:
        size = CHUNK_SIZE if self._end is None else min(CHUNK_SIZE, self._end - self._position)
        chunk = await finish(run_blocking(os.pread, self._file, size, self._position)) if size > 0 else b""
        self._position += len(chunk)
        return chunk


def _page(found: Iterator[FileInfo]) -> Sequence[FileInfo]:
    return [*islice(found, _PAGE)]


def _check_usable(root: Path) -> None:
    """Raise unless the root is a folder that can be written to, or can be made."""
    nearest = next(path for path in (root, *root.parents) if path.exists() or path.is_symlink())
    if not nearest.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "expected a folder", str(nearest))
    if not os.access(nearest, os.R_OK | os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "expected a folder that can be written to", str(nearest))


_ERRORS: dict[int, type[OperationError]] = {
    errno.ENOSPC: StorageFullError,
    errno.EDQUOT: StorageFullError,
    errno.EFBIG: StorageFullError,
    errno.ENAMETOOLONG: InvalidInputError,
    errno.EROFS: PermissionDeniedError,
}
