"""A file that is being written: a temporary one beside its place, until it is whole.

Its name tells when it was begun, and its writer holds a lock on it. The kernel gives the lock back when the writer
dies, however it dies; so whoever gets the lock knows that the draft is nobody's.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pilotis_file_local import tree

_PREFIX = f"{tree.RESERVED}-draft-"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Draft:
    """One temporary file. Its methods block, and are called one at a time."""

    def __init__(self, root: Path, folders: list[str], now: float, *, durable: bool, mode: int = 0o666) -> None:
        self._root = root
        self._folders = folders
        self._durable = durable
        self._mode = mode
        self._name = f"{_PREFIX}{int(now):x}-{secrets.token_hex(8)}"
        self._at = tree.make_folder(root, folders)
        try:
            self._file = self._create()
        except BaseException:
            os.close(self._at)
            tree.prune(root, folders)
            raise

    def _create(self) -> int:
        while True:
            try:
                file = os.open(self._name, _NEW, self._mode, dir_fd=self._at)
            except FileNotFoundError:  # the folder was pruned between opening it and now
                at, self._at = self._at, tree.make_folder(self._root, self._folders)
                os.close(at)
            else:
                if _is_held(file):
                    return file

    def write(self, chunk: bytes) -> None:
        """Append all of `chunk`."""
        view = memoryview(chunk)
        while view:
            view = view[os.write(self._file, view) :]

    def date(self, modified: int) -> os.stat_result:
        """Set the time of modification, in nanoseconds since 1970, and return the status."""
        os.utime(self._file, ns=(modified, modified))
        return os.fstat(self._file)

    def place(self, name: str, *, if_absent: bool = False) -> os.stat_result | None:
        """Give the draft its name, at once and whole, and return the status of what it replaced.

        Raises `FileExistsError` with `if_absent` if the name is taken, `IsADirectoryError` if it is a folder's.
        """
        if self._durable:
            os.fsync(self._file)
        replaced = status(self._at, name)
        if if_absent:
            os.link(self._name, name, src_dir_fd=self._at, dst_dir_fd=self._at, follow_symlinks=False)
            os.unlink(self._name, dir_fd=self._at)
        else:
            os.rename(self._name, name, src_dir_fd=self._at, dst_dir_fd=self._at)
        if self._durable:
            os.fsync(self._at)
        return replaced

    def close(self) -> None:
        """Let go of the file. A draft that was not placed is removed, with the folders that were made for it."""
        try:
            with suppress(FileNotFoundError):
                os.unlink(self._name, dir_fd=self._at)
        finally:
            os.close(self._file)
            os.close(self._at)
        tree.prune(self._root, self._folders)


def _is_held(file: int) -> bool:
    """Lock a new draft; close it if it is gone. Until it is locked, whoever sweeps takes it for a dead writer's."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        is_there = os.fstat(file).st_nlink > 0
    except BaseException:
        os.close(file)
        raise
    if not is_there:
        os.close(file)
    return is_there


def status(at: int, name: str) -> os.stat_result | None:
    """Return the status of a name in a folder, links not followed, or None where there is none."""
    try:
        return os.lstat(name, dir_fd=at)
    except FileNotFoundError:
        return None


def begun(name: str) -> int | None:
    """Return when a draft was begun, in seconds since 1970; None for what is not a draft."""
    if not name.startswith(_PREFIX):
        return None
    try:
        return int(name.removeprefix(_PREFIX).partition("-")[0], 16)
    except ValueError:
        return None


def remove_if_dead(at: int, name: str, is_needed: Callable[[], bool] = lambda: False) -> bool:
    """Remove a file, unless a living writer holds it, or it `is_needed`. Return whether it was removed.

    Whether it is needed is asked once nobody holds it: a writer may just have finished.
    """
    try:
        file = tree.open_file(at, name)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_needed():
            return False
        os.unlink(name, dir_fd=at)
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(file)
    return True
