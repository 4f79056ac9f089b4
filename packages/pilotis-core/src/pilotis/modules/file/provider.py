"""The face of the file module for authors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Sequence
from enum import Flag, auto
from typing import TYPE_CHECKING, ClassVar

from pilotis.errors import UnsupportedError
from pilotis.modules.file.types import FileInfo, Link, SignedUpload, WriteRequest
from pilotis.provider import Provider

if TYPE_CHECKING:
    from pilotis.modules.file.chunks import Chunks
    from pilotis.modules.file.links import Links


class FileCapability(Flag):
    """What a file provider may guarantee beyond the common obligations."""

    CREATE_ONLY = auto()
    """`if_absent` is honoured: of several writers of one free key, one succeeds."""
    CHECKSUMS = auto()
    """`FileInfo.sha256` is known for every file that was written through the provider."""
    OVERLAPPING_KEYS = auto()
    """A key may be the folder of another: `a` beside `a/b`. Without it, the second is a `ConflictError`."""
    SIGNED_LINKS = auto()
    """`sign` makes links to read and to upload."""
    SERVED_LINKS = auto()
    """The links are ours: `links` tells the secret, and `file.asgi()` and `file.wsgi()` serve them."""
    SWEEP = auto()
    """`sweep` removes what killed writers left."""
    LISTED_FACTS = auto()
    """A listing tells what `stat` tells. Without it: key, size, etag and time alone; the rest is empty."""


class FileProvider(Provider):
    """Stores files under keys. Keys are checked: segments of 1 to 255 bytes with "/" between them, none is "." or "..".

    Verbs are called concurrently, on the same key too. They may take as long as the bytes take; blocking I/O goes
    through `run_blocking`, in pieces of about 1 MiB. Nobody retries `write`, whose content can be read once only;
    every other verb is idempotent and may be called again. An unknown key is `NotFoundError` where nothing else is
    said, or a native error that `classify` maps to it.
    """

    capabilities: ClassVar[Flag] = FileCapability(0)

    @abstractmethod
    async def write(self, key: str, chunks: Chunks, request: WriteRequest) -> FileInfo:
        """Store what `chunks` yields, replacing what was there, and return its facts.

        All or nothing: until the last chunk has come, and for ever if `chunks` raises, the write fails or the caller is
        cancelled, readers see the old file (or none), and nothing is left behind. Errors of `chunks` are passed on as
        they are. No more of them is kept than the backend takes at once. When `write` returns, the file is as
        durable as the backend makes it. `chunks.sha256` and `chunks.size` hold once it is exhausted.
        With `request.if_absent`, a key that is taken raises `AlreadyExistsError`, and stays as it is.
        """

    @abstractmethod
    def read(self, key: str, start: int, end: int | None) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to, not including, `end` (None: to the last one), in order.

        A range that reaches beyond the end yields what there is, which may be nothing. The chunks may have any size
        but none. What was read belongs to one version of the file, even when it is replaced or removed meanwhile.
        An iterator that is closed early gives back what it holds.
        """

    @abstractmethod
    async def stat(self, key: str) -> FileInfo | None:
        """Return the facts of a file, or None where there is none."""

    @abstractmethod
    def list(self, prefix: str, delimiter: str | None) -> AsyncIterator[FileInfo]:
        """Yield the files whose key begins with `prefix`, sorted by code point.

        `prefix` is text, not a folder: "a/b" finds "a/bc". With the delimiter "/", keys with a "/" after the prefix
        are yielded once per folder instead, as `FileInfo(key="folder/", is_folder=True)`. An empty folder
        does not exist. Files that come and go meanwhile may be yielded or not, the others are, once. Without
        `FileCapability.LISTED_FACTS`, type, digest and metadata are empty and access is "private", whatever they are.
        """

    @abstractmethod
    async def copy(self, source: str, target: str) -> FileInfo:
        """Store the content and the facts of `source` under `target` too, as `write` does, and return its facts.

        The keys differ. The content does not pass through the caller where the backend can avoid it.
        """

    async def move(self, source: str, target: str) -> FileInfo:
        """Store `source` under `target` instead. The keys differ. By default: `copy`, then `remove`."""
        info = await self.copy(source, target)
        for error in (await self.remove([source])).values():
            raise error
        return info

    @abstractmethod
    async def remove(self, keys: Sequence[str]) -> dict[str, Exception]:
        """Remove files, and return the errors of those that are still there. An unknown key is not an error."""

    async def sweep(self, older_than: float) -> int:
        """Remove what writers that were killed at least `older_than` seconds ago left, and return how many things.

        Nothing of a writer that is at work is touched, however old; where the backend cannot tell which ones are, that
        holds for those of this process, and others are at work if they have sent something since. Optional:
        `FileCapability.SWEEP`.
        """
        raise UnsupportedError("SWEEP", self.name)

    async def sign(self, link: Link) -> SignedUpload:
        """Make the request that `link` allows. No I/O on the file: it may be absent. Optional: `SIGNED_LINKS`."""
        return (await self.links()).sign(link)

    async def links(self) -> Links:
        """Return the maker of the links that we serve ourselves. Optional: `SERVED_LINKS`."""
        raise UnsupportedError("SERVED_LINKS", self.name)
