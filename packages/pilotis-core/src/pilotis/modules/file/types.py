"""What the file module hands around: facts about files, requests to providers, signed links."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from datetime import datetime
from os import PathLike
from typing import Literal, Protocol, TypeAlias

import msgspec

Access = Literal["private", "public"]
Method = Literal["GET", "PUT", "POST"]

CHUNK_SIZE = 1024 * 1024
"""How many bytes are read, hashed and written at a time."""


class BinaryFile(Protocol):
    """A file open for reading in binary mode."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end."""
        ...


Bytes: TypeAlias = "bytes | bytearray | memoryview[int]"
Data: TypeAlias = "Bytes | PathLike[str] | BinaryFile | Iterable[Bytes] | AsyncIterable[Bytes]"
"""What can be stored. Text is not: whether it is a path or the content, only its author knows."""


class FileInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a stored file, or of a folder in a listing (`is_folder`; its key ends with "/")."""

    key: str
    size: int
    """In bytes."""
    content_type: str
    etag: str
    """Changes with the content. Without quotes."""
    sha256: str | None
    """The digest of the content in hexadecimal. None where the backend was not told."""
    modified: datetime
    """When it was stored, in UTC."""
    metadata: Mapping[str, str] = {}
    access: Access = "private"
    is_folder: bool = False


class WriteRequest(msgspec.Struct, frozen=True, kw_only=True):
    """How a provider stores a file. Everything is checked."""

    content_type: str
    access: Access = "private"
    metadata: Mapping[str, str] = {}
    if_absent: bool = False
    """Store only if the key is free: decided by the backend at the moment of storing."""
    size: int | None = None
    """In bytes, where it is known beforehand."""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """What a signed link allows: one method on one key, until it expires."""

    method: Method
    key: str
    expires: int | None
    """Seconds since 1970. None makes an unsigned link that is good for public files, and never expires."""
    download_as: str | None = None
    """The name under which a browser saves the file. None lets it show the file."""
    content_type: str | None = None
    """The type that an upload must have. None allows any."""
    max_size: int | None = None
    """The most bytes an upload may have. None allows any number."""


class SignedUpload(msgspec.Struct, frozen=True, kw_only=True):
    """A request that stores a file without further credentials: send it as it is, with the content as its body."""

    url: str
    method: Method = "PUT"
    headers: Mapping[str, str] = {}
    """Headers that must be sent with it."""
    fields: Mapping[str, str] = {}
    """Of a POST: form fields that must be sent before the content, in this order."""
