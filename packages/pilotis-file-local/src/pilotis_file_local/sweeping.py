"""Removing what killed writers left: drafts, and records of files that never took their place."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from pilotis_file_local import drafts, records, tree
from pilotis_file_local.shelf import Shelf


def sweep(shelf: Shelf, before: float) -> int:
    """Remove what was begun at `before` (seconds since 1970) or earlier and is nobody's; return how many things."""
    return sum(_sweep_folder(shelf, folders, before) for folders in _folders(shelf, []))


def _folders(shelf: Shelf, folders: list[str]) -> Iterator[list[str]]:
    """Yield every folder under the root, the deepest first, so that emptied ones can be pruned."""
    try:
        with tree.folder(shelf.root, folders) as at, os.scandir(at) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for name in names:
        yield from _folders(shelf, [*folders, name])
    yield folders


def _sweep_folder(shelf: Shelf, folders: Sequence[str], before: float) -> int:
    removed = 0
    try:
        with tree.folder(shelf.root, folders) as at:
            for name in os.listdir(at):  # noqa: PTH208 - a descriptor, no path
                if _is_left(shelf, folders, at, name, before):
                    removed += drafts.remove_if_dead(at, name)
    except FileNotFoundError:
        return removed  # somebody pruned it meanwhile
    if removed:
        tree.prune(shelf.root, folders)
    return removed


def _is_left(shelf: Shelf, folders: Sequence[str], at: int, name: str, before: float) -> bool:
    begun = drafts.begun(name)
    if begun is not None:
        return begun <= before
    return tuple(folders[:-1]) == records.FOLDER and _is_orphan(shelf, at, name, before)


def _is_orphan(shelf: Shelf, at: int, name: str, before: float) -> bool:
    try:
        record = records.decode(at, name)
    except FileNotFoundError:
        return False
    if record is None:  # damaged: nobody can read it
        return True
    return record.version.modified <= before * 1e9 and shelf.version(record.key) != record.version
