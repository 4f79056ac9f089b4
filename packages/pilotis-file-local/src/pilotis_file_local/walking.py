"""Listing: the files below a folder, in the order of their keys."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from pilotis.errors import InvalidInputError, PermissionDeniedError
from pilotis.modules.file.checks import check_key
from pilotis.providers import FileInfo

from pilotis_file_local import tree
from pilotis_file_local.shelf import EPOCH, Shelf


def walk(shelf: Shelf, prefix: str, *, whole: bool, folders: Sequence[str] = ()) -> Iterator[FileInfo]:
    """Yield the files whose key begins with `prefix`; unless `whole`, folders after the prefix stand for theirs.

    What is no file of ours is passed over: symbolic links, pipes, names that cannot be in a key.
    """
    for name in _names(shelf, folders):
        path = "/".join((*folders, name))
        if not name.endswith("/"):
            if path.startswith(prefix) and (info := _info(shelf, path)) is not None:
                yield info
        elif not whole and path.startswith(prefix) and path != prefix:
            if _holds_files(shelf, path):
                yield _folder(path)
        elif path.startswith(prefix) or prefix.startswith(path):
            yield from walk(shelf, prefix, whole=whole, folders=[*folders, name[:-1]])


def _info(shelf: Shelf, path: str) -> FileInfo | None:
    try:
        return shelf.stat(path)
    except PermissionDeniedError:
        return None  # a link has taken its place meanwhile


def _names(shelf: Shelf, folders: Sequence[str]) -> list[str]:
    """Return the names in a folder, those of folders with "/" at the end: sorted so, they are in the order of keys."""
    try:
        with tree.folder(shelf.root, folders) as at, os.scandir(at) as entries:
            found = [_name(entry) for entry in entries]
    except (FileNotFoundError, PermissionDeniedError):
        return []  # it is gone meanwhile, or a link has taken its place
    return sorted(name for name in found if name is not None and _is_key("/".join((*folders, name.rstrip("/")))))


def _name(entry: os.DirEntry[str]) -> str | None:
    if entry.is_dir(follow_symlinks=False):
        return f"{entry.name}/"
    return entry.name if entry.is_file(follow_symlinks=False) else None


def _is_key(path: str) -> bool:
    try:
        tree.segments_of(check_key(path))
    except InvalidInputError:
        return False
    return True


def _holds_files(shelf: Shelf, path: str) -> bool:
    return any(True for _ in walk(shelf, "", whole=True, folders=path[:-1].split("/")))


def _folder(path: str) -> FileInfo:
    return FileInfo(key=path, size=0, content_type="", etag="", sha256=None, modified=EPOCH, is_folder=True)
