"""Removing what killed writers left: drafts, and records of files that never took their place."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial

from pilotis.errors import PermissionDeniedError

from pilotis_file_local import drafts, records, tree
from pilotis_file_local.shelf import Shelf

_GONE = (FileNotFoundError, PermissionDeniedError)
"""Somebody has pruned a folder meanwhile, or put a link in its place."""


def sweep(shelf: Shelf, before: float) -> int:
    """Remove what was begun at `before` (seconds since 1970) or earlier and is nobody's; return how many things."""
    return sum(_sweep_folder(shelf, folders, before) for folders in _folders(shelf, []))


def _folders(shelf: Shelf, folders: list[str]) -> Iterator[list[str]]:
    """Yield every folder under the root, the deepest first, so that emptied ones can be pruned."""
    try:
        with tree.folder(shelf.root, folders) as at, os.scandir(at) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except _GONE:
        return
    for name in names:
        yield from _folders(shelf, [*folders, name])
    yield folders


def _sweep_folder(shelf: Shelf, folders: Sequence[str], before: float) -> int:
    removed = 0
    try:
        with tree.folder(shelf.root, folders) as at:
            for name in os.listdir(at):  # noqa: PTH208 - a descriptor, no path
                removed += _remove_if_left(shelf, folders, at, name, before)
    except _GONE:
        pass
    if removed:
        tree.prune(shelf.root, folders)
    return removed


def _remove_if_left(shelf: Shelf, folders: Sequence[str], at: int, name: str, before: float) -> bool:
    begun = drafts.begun(name)
    if begun is not None:
        return begun <= before and drafts.remove_if_dead(at, name)
    is_record = tuple(folders[:-1]) == records.FOLDER
    return is_record and drafts.remove_if_dead(at, name, partial(_is_needed, shelf, at, name, before))


def _is_needed(shelf: Shelf, at: int, name: str, before: float) -> bool:
    record = records.decode(at, name)
    if record is None:  # damaged: nobody can read it
        return False
    return record.version.modified > before * 1e9 or shelf.version(record.key) == record.version
