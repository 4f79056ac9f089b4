"""FileStore: what an application holds."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, final

import msgspec

from pilotis.bridge import blocking, blocking_iterator, finish
from pilotis.context import Context
from pilotis.durations import optional_seconds, seconds
from pilotis.errors import InvalidInputError, NotFoundError, OperationError
from pilotis.ids import new_id
from pilotis.keys import check_flag
from pilotis.modules.base import Portable, diverted, operation, operation_iterator
from pilotis.modules.file import checks
from pilotis.modules.file.chunks import Chunks, Progress
from pilotis.modules.file.links import Links
from pilotis.modules.file.names import clean_filename, key_of
from pilotis.modules.file.provider import FileCapability, FileProvider
from pilotis.modules.file.sources import Source, open_source
from pilotis.modules.file.streams import closing, cut_to
from pilotis.modules.file.types import CHUNK_SIZE, Access, Data, FileInfo, Link, SignedUpload, WriteRequest
from pilotis.modules.file.writer import FileWriter
from pilotis.runtime import check_function
from pilotis.settings.model import FileSettings

OnProgress = Callable[[int, int | None], object]
Duration = float | timedelta


@final
class FileStore(Portable[FileProvider]):
    """Files under keys such as `invoices/2026/42.pdf`. Nothing is ever held in memory whole, but by `read`."""

    module = "file"

    def __init__(
        self, provider: FileProvider, *, settings: FileSettings | None = None, context: Context | None = None
    ) -> None:
        super().__init__(provider, context=context)
        self.settings = settings or FileSettings()

    # Storing

    @operation
    async def aput(
        self,
        key: str,
        data: Data | Source,
        *,
        content_type: str | None = None,
        access: Access = "private",
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
        sha256: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> FileInfo:
        """Store `data` under `key`, replacing what was there; readers see the old file or the new one, whole.

        `data` is bytes, a path (`pathlib.Path`), a file open in binary mode (read from where it stands, left open) or
        an iterator of bytes, plain or async. Without `content_type` the ending of the key decides. A file with
        `access="public"` may also be read by links that never expire. `metadata` has lower-case names.
        `on_progress(done, total)`, plain or async, is called with the bytes so far after each MiB; `total` is None
        where nobody knows it. With `sha256` the content must have that digest.

        Raises `AlreadyExistsError` with `if_absent` if the key is taken, `InvalidInputError` for bad arguments and a
        wrong digest, `ConflictError` for a key that the backend cannot hold beside another, `StorageFullError`, and
        what the iterator or `on_progress` raises, unchanged. Then nothing is stored, and the old file stays.
        """
        request = self._request(checks.check_key(key), content_type, access, metadata, if_absent)
        return await self._put(key, request, data, sha256, on_progress)

    put = blocking(aput)

    @operation
    async def aupload(
        self,
        filename: str,
        data: Data,
        *,
        prefix: str = "",
        content_type: str | None = None,
        access: Access = "private",
        metadata: Mapping[str, str] | None = None,
        sha256: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> FileInfo:
        """Store `data` under a new unique key, made from a name that a person gave to a file.

        The key is `prefix`, the safe part of the name, an identifier that sorts by time, and the ending. Folders in the
        name are dropped. The name itself is kept as the metadata `filename`. For the rest see `put`.
        """
        name = clean_filename(filename)
        key = checks.check_prefix(prefix) + key_of(name, new_id(self.context.clock).lower())
        facts = {"filename": name, **checks.check_metadata(metadata)}
        request = self._request(checks.check_key(key), content_type, access, facts, if_absent=False)
        return await self._put(key, request, data, sha256, on_progress)

    upload = blocking(aupload)

    @diverted
    def writer(
        self,
        key: str,
        *,
        content_type: str | None = None,
        access: Access = "private",
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
    ) -> FileWriter:
        """Return a writer for `with` or `async with`: the file is stored when the block ends.

        If the block raises, nothing is stored and nothing left behind. Leaving the block raises what `put` raises.
        """
        request = self._request(checks.check_key(key), content_type, access, metadata, if_absent)
        return FileWriter(partial(self._write_opened, key, request), self.context, key)

    # Reading

    @operation
    async def aread(self, key: str, *, start: int | None = None, end: int | None = None) -> bytes:
        """Return a file's content, or a range of it as in a slice: `end` is not included.

        A range that reaches beyond the file gives what there is. Raises `NotFoundError`.
        """
        first, last = checks.check_range(start, end)
        async with closing(self._read(checks.check_key(key), first, last)) as chunks:
            return b"".join([chunk async for chunk in chunks])

    read = blocking(aread)

    @operation_iterator
    async def astream(
        self, key: str, *, chunk_size: int = CHUNK_SIZE, start: int | None = None, end: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield a file's content, or a range of it, in chunks of `chunk_size` bytes; the last may be shorter.

        All chunks belong to one version of the file, even when it is replaced meanwhile. An iterator that is
        abandoned closes the file. Raises `NotFoundError` at the first chunk.
        """
        checks.check_count(chunk_size, "chunk_size", minimum=1)
        first, last = checks.check_range(start, end)
        source = self._read(checks.check_key(key), first, last)
        async with closing(cut_to(chunk_size, source)) as chunks:
            async for chunk in chunks:
                yield chunk

    stream = blocking_iterator(astream)

    @operation
    async def astat(self, key: str) -> FileInfo:
        """Return the facts of a file. Raises `NotFoundError`."""
        with self.calling("stat"):
            info = await self._provider.stat(checks.check_key(key))
            if info is None:
                raise NotFoundError(f"there is no file {key!r}")
        return info

    stat = blocking(astat)

    @operation
    async def aexists(self, key: str) -> bool:
        """Tell whether there is a file under `key`."""
        with self.calling("exists"):
            return await self._provider.stat(checks.check_key(key)) is not None

    exists = blocking(aexists)

    @operation_iterator
    async def alist(self, prefix: str = "", *, delimiter: str | None = None) -> AsyncGenerator[FileInfo, None]:
        """Yield the files whose key begins with `prefix`, sorted by key.

        `prefix` is text: "a/b" finds "a/bc" too. With `delimiter="/"`, files deeper than the prefix are left out, and
        the folders they are in yielded in their place: `info.is_folder`, with a key such as "a/b/". Where the provider
        does not declare LISTED_FACTS, only key, size, etag and time are told: ask `stat` for the rest.
        """
        wanted = checks.check_prefix(prefix), checks.check_delimiter(delimiter)
        with self.calling("list"):
            async with closing(self._provider.list(*wanted)) as found:
                async for info in found:
                    yield info

    list = blocking_iterator(alist)

    # Moving about

    @operation
    async def acopy(self, source: str, target: str) -> FileInfo:
        """Store a file under another key too, replacing what was there. Raises `NotFoundError`."""
        return await self._transfer("copy", source, target)

    copy = blocking(acopy)

    @operation
    async def amove(self, source: str, target: str) -> FileInfo:
        """Store a file under another key instead, replacing what was there. Raises `NotFoundError`.

        Where the backend cannot move at once, the file has both keys for a moment.
        """
        return await self._transfer("move", source, target)

    move = blocking(amove)

    @operation
    async def adelete(self, *keys: str) -> None:
        """Remove files. A key that is free is not an error.

        Every key is tried; then the first error is raised, with a note for each of the others.
        """
        checked = [checks.check_key(key) for key in keys]
        with self.calling("delete"):
            failures = await self._provider.remove(checked) if checked else {}
            if failures:
                raise self._failed_deletes(failures)

    delete = blocking(adelete)

    @operation
    async def asweep(self, older_than: Duration = 86_400) -> int:
        """Remove what writers left that were killed `older_than` seconds ago or earlier, and return how many things.

        Files and writers at work are not touched. Raises `UnsupportedError` where the backend has nothing to sweep.
        """
        age = seconds(older_than, "older_than")
        self.require(FileCapability.SWEEP)
        with self.calling("sweep"):
            return await self._provider.sweep(age)

    sweep = blocking(asweep)

    # Links

    @operation
    async def aurl(self, key: str, *, expires: Duration | None = 3600, download_as: str | None = None) -> str:
        """Return a link to read a file: signed, and good for `expires` seconds (one at least).

        With `download_as` a browser saves the file under that name; without, it may show it. `expires=None` gives a
        link that never expires, good for files with `access="public"` only. Whether there is such a file is asked
        when the link is followed. Raises `UnsupportedError` where there are no links.
        """
        if expires is None and download_as is not None:
            raise InvalidInputError("download_as: expected None where expires is None: such a link is not signed")
        name = None if download_as is None else clean_filename(download_as, "download_as")
        link = Link(method="GET", key=checks.check_key(key), expires=self._deadline(expires), download_as=name)
        return (await self._sign(link)).url

    url = blocking(aurl)

    @operation
    async def asigned_upload(
        self, key: str, *, expires: Duration = 3600, content_type: str | None = None, max_size: int | None = None
    ) -> SignedUpload:
        """Return a request that stores a file without credentials, such as straight from a browser.

        It is bound to the key, the method, the content type (None: any) and the greatest size in bytes (None: any), and
        is good for `expires` seconds. Raises `UnsupportedError` where there are no links.
        """
        link = Link(
            method="PUT",
            key=checks.check_key(key),
            expires=self._deadline(seconds(expires, "expires", minimum=1)),
            content_type=None if content_type is None else checks.check_content_type(content_type),
            max_size=None if max_size is None else checks.check_count(max_size, "max_size"),
        )
        return await self._sign(link)

    signed_upload = blocking(asigned_upload)

    @operation
    async def alinks(self) -> Links:
        """Return the maker of links, for a server of your own.

        Raises `UnsupportedError` where the backend serves its links itself.
        """
        self.require(FileCapability.SERVED_LINKS)
        with self.calling("links"):
            return await self._provider.links()

    links = blocking(alinks)

    @diverted
    def wsgi(self) -> Callable[..., Any]:
        """Return the WSGI app that serves the links, to be mounted where `public_url` points.

        Raises `UnsupportedError` where the backend serves its links itself.
        """
        from pilotis.modules.file.serving.wsgi import WsgiApp

        self.require(FileCapability.SERVED_LINKS)
        return WsgiApp(self)

    @diverted
    def asgi(self) -> Callable[..., Any]:
        """Return the ASGI app that serves the links, to be mounted where `public_url` points.

        Raises `UnsupportedError` where the backend serves its links itself.
        """
        from pilotis.modules.file.serving.asgi import AsgiApp

        self.require(FileCapability.SERVED_LINKS)
        return AsgiApp(self)

    # Within

    def _request(
        self, key: str, content_type: object, access: object, metadata: object, if_absent: bool
    ) -> WriteRequest:
        if check_flag(if_absent, "if_absent"):
            self.require(FileCapability.CREATE_ONLY)
        return WriteRequest(
            content_type=checks.content_type_of(content_type, key),
            access=checks.check_access(access),
            metadata=checks.check_metadata(metadata),
            if_absent=if_absent,
        )

    async def _put(
        self, key: str, request: WriteRequest, data: Data | Source, sha256: str | None, on_progress: OnProgress | None
    ) -> FileInfo:
        digest = checks.check_digest(sha256)
        progress = None if on_progress is None else self._progress(on_progress)
        source = await open_source(data, self.context.runtime)
        return await self._store(key, request, digest, progress, source)

    def _progress(self, on_progress: OnProgress) -> Progress:
        return partial(self.context.runtime.call, check_function(on_progress, "on_progress"))

    async def _write_opened(self, key: str, request: WriteRequest, source: Source) -> FileInfo:
        await self.aopen()
        return await self._store(key, request, None, None, source)

    async def _store(
        self, key: str, request: WriteRequest, sha256: str | None, progress: Progress | None, source: Source
    ) -> FileInfo:
        chunks = Chunks(source, sha256=sha256, progress=progress)
        try:
            return await self._write(key, chunks, msgspec.structs.replace(request, size=source.size))
        finally:
            await finish(source.close())

    async def _write(self, key: str, chunks: Chunks, request: WriteRequest) -> FileInfo:
        try:
            with self.calling("write"):
                info = await self._provider.write(key, chunks, request)
                if info.size != chunks.size or info.sha256 not in (None, chunks.sha256):
                    raise OperationError(f"the provider did not store what it was given as {key!r}")
                return info
        except OperationError:
            if chunks.failure is not None:
                raise chunks.failure from None  # the caller's own error passes as it is
            raise

    async def _read(self, key: str, start: int, end: int | None) -> AsyncGenerator[bytes, None]:
        with self.calling("read"):
            async with closing(self._provider.read(key, start, end)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def _transfer(self, verb: str, source: str, target: str) -> FileInfo:
        checks.check_key(source, "source")
        checks.check_key(target, "target")
        if source == target:
            return await self.astat(source)  # there is nothing to do, but for telling that it is absent
        transfer: Callable[[str, str], Awaitable[FileInfo]] = getattr(self._provider, verb)
        with self.calling(verb):
            return await transfer(source, target)

    async def _sign(self, link: Link) -> SignedUpload:
        self.require(FileCapability.SIGNED_LINKS)
        with self.calling("sign"):
            return await self._provider.sign(link)

    def _deadline(self, expires: Duration | None) -> int | None:
        after = optional_seconds(expires, "expires", minimum=1)
        return None if after is None else math.ceil(self.context.clock.time() + after)

    def _failed_deletes(self, failures: Mapping[str, Exception]) -> Exception:
        (first, error), *others = failures.items()
        failed = error if isinstance(error, OperationError) else self.explain(error, "delete")
        failed.__cause__ = None if failed is error else error
        failed.add_note(f"{first!r} was not deleted")
        for key, other in others:
            failed.add_note(f"{key!r} was not deleted: {type(other).__name__}: {other}")
        return failed
