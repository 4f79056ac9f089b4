"""The files under a root together with their records. Everything here blocks."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from pilotis.modules.file.checks import guess_content_type
from pilotis.providers import FileInfo, WriteRequest

from pilotis_file_local import records, tree
from pilotis_file_local.drafts import Draft, status
from pilotis_file_local.records import Record, Version

_SECRET_FILE = "secret"  # noqa: S105 - the name of a file
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Shelf:
    """Finds, places and removes files, each with the record of its version."""

    def __init__(self, root: Path, *, durable: bool) -> None:
        self.root = root
        self._durable = durable

    # Finding

    def open(self, key: str) -> int:
        """Open a file for reading. Raises `FileNotFoundError`."""
        with self._folder_of(key) as (at, name):
            return tree.open_file(at, name)

    def find(self, key: str) -> tuple[int, FileInfo]:
        """Open a file, and return its descriptor with the facts of the very same version."""
        while True:
            file = self.open(key)
            try:
                info = self._facts(key, Version.of(os.fstat(file)))
            except BaseException:
                os.close(file)
                raise
            if info is not None:
                return file, info
            os.close(file)

    def stat(self, key: str) -> FileInfo | None:
        """Return the facts of a file, or None where there is none."""
        try:
            file, info = self.find(key)
        except FileNotFoundError:
            return None
        os.close(file)
        return info

    def exists(self, key: str) -> bool:
        """Tell whether there is something under `key`."""
        return self.version(key) is not None

    def is_folder(self, key: str) -> bool:
        """Tell whether `key` is a folder, and so cannot be a file."""
        found = self._status(key)
        return found is not None and stat.S_ISDIR(found.st_mode)

    def version(self, key: str) -> Version | None:
        """Return the version of the file that is under `key` now, or None where there is none."""
        found = self._status(key)
        return None if found is None or stat.S_ISDIR(found.st_mode) else Version.of(found)

    # Changing

    def put(self, draft: Draft, key: str, sha256: str, request: WriteRequest, now: float) -> FileInfo:
        """Place a draft and its record. Readers see both or neither: they go from the file to the record."""
        note, record = self._note(draft, key, sha256, request, now)
        try:
            replaced = draft.place(tree.segments_of(key)[-1], if_absent=request.if_absent)
        except BaseException:
            records.remove(self.root, key, record.version)
            raise
        finally:
            note.close()
        if replaced is not None and Version.of(replaced) != record.version:
            records.remove(self.root, key, Version.of(replaced))
        return _info(key, record.version, record)

    def remove(self, key: str) -> None:
        """Remove a file, its record, and the folders that are empty then. Nothing happens where there is none."""
        with suppress(FileNotFoundError), self._folder_of(key) as (at, name):
            found = status(at, name)
            if found is None or stat.S_ISDIR(found.st_mode):
                return
            os.unlink(name, dir_fd=at)
            if self._durable:
                os.fsync(at)
            records.remove(self.root, key, Version.of(found))
        tree.prune(self.root, tree.segments_of(key)[:-1])

    # The secret of the links

    def secret(self) -> bytes:
        """Return the secret that was made here before. Raises `FileNotFoundError`."""
        with tree.folder(self.root, [tree.RESERVED]) as at, os.fdopen(tree.open_file(at, _SECRET_FILE), "rb") as file:
            return file.read()

    def make_secret(self, draft: Draft) -> bytes:
        """Make a secret, or return the one that another process made a moment earlier."""
        try:
            draft.write(secrets.token_urlsafe(48).encode())
            with suppress(FileExistsError):
                draft.place(_SECRET_FILE, if_absent=True)
        finally:
            draft.close()
        return self.secret()

    # Within

    def _status(self, key: str) -> os.stat_result | None:
        with suppress(FileNotFoundError), self._folder_of(key) as (at, name):
            return status(at, name)
        return None

    @contextmanager
    def _folder_of(self, key: str) -> Generator[tuple[int, str]]:
        *folders, name = tree.segments_of(key)
        with tree.folder(self.root, folders) as at:
            yield at, name

    def _facts(self, key: str, version: Version) -> FileInfo | None:
        """Return the facts of a version, or None if it was replaced, and its record removed, a moment ago."""
        record = records.read(self.root, key, version)
        if record is None and self.version(key) != version:
            return None
        return _info(key, version, record)

    def _note(self, draft: Draft, key: str, sha256: str, request: WriteRequest, now: float) -> tuple[Draft, Record]:
        """Place the record of a draft, under a time that no other version of the key has.

        The time is moved on by 0, 1, 3, 7, ... nanoseconds, in case the file system rounds it. The draft of the record
        is returned open: as long as it is, nobody takes the record for an orphan.
        """
        moment = int(now * 1_000_000) * 1000
        for attempt in count():
            version = Version.of(draft.date(moment + (1 << attempt) - 1))
            record = Record(
                key=key,
                version=version,
                sha256=sha256,
                content_type=request.content_type,
                access=request.access,
                metadata=dict(request.metadata),
            )
            note = self._place_note(record, now)
            if note is not None:
                return note, record
        raise AssertionError

    def _place_note(self, record: Record, now: float) -> Draft | None:
        """Place a record and return its draft, or None where the version has one already."""
        folders, name = records.place(record.key, record.version)
        note = Draft(self.root, folders, now, durable=self._durable)
        try:
            note.write(records.encode(record))
            note.place(name, if_absent=True)
        except FileExistsError:
            note.close()
            return None
        except BaseException:
            note.close()
            raise
        return note


def _info(key: str, version: Version, record: Record | None) -> FileInfo:
    modified = EPOCH + timedelta(microseconds=version.modified // 1000)
    if record is None:  # it was put there by hand
        return FileInfo(
            key=key,
            size=version.size,
            content_type=guess_content_type(key),
            etag=f"{version.modified:x}-{version.size:x}",
            sha256=None,
            modified=modified,
        )
    return FileInfo(
        key=key,
        size=version.size,
        content_type=record.content_type,
        etag=record.sha256[:32],
        sha256=record.sha256,
        modified=modified,
        metadata=record.metadata,
        access=record.access,
    )
