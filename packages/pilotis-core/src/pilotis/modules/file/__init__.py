"""The file module: files under keys, whole or not at all, and links to them."""

from __future__ import annotations

from pilotis.modules.file.chunks import Chunks
from pilotis.modules.file.links import Links
from pilotis.modules.file.portable import FileStore
from pilotis.modules.file.provider import FileCapability, FileProvider
from pilotis.modules.file.types import FileInfo, Link, SignedUpload, WriteRequest
from pilotis.modules.file.writer import FileWriter

__all__ = [
    "Chunks",
    "FileCapability",
    "FileInfo",
    "FileProvider",
    "FileStore",
    "FileWriter",
    "Link",
    "Links",
    "SignedUpload",
    "WriteRequest",
]
