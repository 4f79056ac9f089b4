"""What the file system does not know of a file: its type, digest, metadata and access.

Each version of a file has a record of its own, under `.pilotis/records`, named after the key and the version. The
record is written before the file takes its place, so that both appear at once: readers go from the file to it. A
version is told by its time of modification, to the nanosecond, and its size: a file that was changed by hand has no
record any more, which is right, and one that was copied with its times keeps it.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import msgspec
from pilotis.modules.file.types import Access

from pilotis_file_local import tree

FOLDER = (tree.RESERVED, "records")


class Version(msgspec.Struct, frozen=True):
    """What tells one version of a file from the others."""

    modified: int
    """In nanoseconds since 1970."""
    size: int

    @classmethod
    def of(cls, status: os.stat_result) -> Version:
        """Return the version of a file."""
        return cls(status.st_mtime_ns, status.st_size)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is noted of one version of a file."""

    key: str
    version: Version
    sha256: str
    content_type: str
    access: Access = "private"
    metadata: dict[str, str] = {}


def place(key: str, version: Version) -> tuple[list[str], str]:
    """Return the folder and the name of a record."""
    digest = hashlib.sha256(key.encode()).hexdigest()[:40]
    return [*FOLDER, digest[:2]], f"{digest}-{version.modified:x}-{version.size:x}"


def encode(record: Record) -> bytes:
    """Return a record as it is stored."""
    return msgspec.json.encode(record)


def read(root: Path, key: str, version: Version) -> Record | None:
    """Return the record of a version, or None where there is none that can be read."""
    folders, name = place(key, version)
    try:
        with tree.folder(root, folders) as at:
            record = decode(at, name)
    except FileNotFoundError:
        return None
    return record if record is not None and (record.key, record.version) == (key, version) else None


def decode(at: int, name: str) -> Record | None:
    """Return the record in a file, or None where it is none, such as after a power cut."""
    with os.fdopen(tree.open_file(at, name), "rb") as file:
        try:
            return msgspec.json.decode(file.read(), type=Record)
        except msgspec.DecodeError:
            return None


def remove(root: Path, key: str, version: Version) -> None:
    """Remove the record of a version that is gone."""
    folders, name = place(key, version)
    with suppress(FileNotFoundError), tree.folder(root, folders) as at:
        os.unlink(name, dir_fd=at)
