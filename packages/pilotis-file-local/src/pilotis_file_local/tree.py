"""The folders under the root, walked one by one and never through a symbolic link.

Every step is an `openat` with `O_NOFOLLOW` from the folder above, so that no name and no link, however and whenever it
is made, leads out of the root. No path is ever put together and then opened.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pilotis.errors import ConflictError, InvalidInputError, PermissionDeniedError

RESERVED = ".pilotis"
"""How names begin that are ours: no segment of a key may."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a pipe that somebody put there would wait for ever.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ATTEMPTS = 100


def segments_of(key: str) -> list[str]:
    """Return the segments of a key. Raises `InvalidInputError` for one that could not be a name under the root."""
    segments = key.split("/")
    for segment in segments:
        if segment in ("", ".", "..") or "\0" in segment or segment.casefold().startswith(RESERVED):
            raise InvalidInputError(
                f'key: expected segments that are neither empty, "." nor "..", and do not begin with {RESERVED!r}, '
                f"got {key!r}"
            )
    return segments


@contextmanager
def folder(root: Path, segments: Sequence[str]) -> Generator[int]:
    """Open a folder. Raises `FileNotFoundError` where there is none, `PermissionDeniedError` for a symbolic link."""
    opened = _walk(root, segments, create=False)
    try:
        yield opened
    finally:
        os.close(opened)


def make_folder(root: Path, segments: Sequence[str]) -> int:
    """Open a folder, made if need be, and return its descriptor.

    Raises `ConflictError` where a file is in the way. Starts again when somebody prunes the folders meanwhile.
    """
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError):
            root.mkdir(parents=True, exist_ok=True)
            return _walk(root, segments, create=True)
    raise ConflictError(f"the folder {'/'.join(segments)!r} is removed as often as it is made")


def open_file(at: int, name: str) -> int:
    """Open a file for reading. Raises `FileNotFoundError` for what is no file, but for a link, which is refused."""
    try:
        opened = os.open(name, _FILE, dir_fd=at)
    except OSError:
        _refuse_link(at, name)
        raise
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise FileNotFoundError(f"{name!r} is not a file")
    return opened


def prune(root: Path, segments: Sequence[str]) -> None:
    """Remove a folder and those above it, as far as they are empty."""
    for depth in range(len(segments), 0, -1):
        try:
            with folder(root, segments[: depth - 1]) as above:
                os.rmdir(segments[depth - 1], dir_fd=above)
        except (OSError, PermissionDeniedError):
            return  # it is not empty, or gone, or not ours


def _walk(root: Path, segments: Sequence[str], *, create: bool) -> int:
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for segment in segments:
        try:
            below = _step(at, segment, create=create)
        finally:
            os.close(at)
        at = below
    return at


def _step(at: int, segment: str, *, create: bool) -> int:
    if create:
        with suppress(FileExistsError):
            os.mkdir(segment, dir_fd=at)
            os.fsync(at)
    try:
        return os.open(segment, _FOLDER, dir_fd=at)
    except NotADirectoryError as error:
        _refuse_link(at, segment)
        if create:
            raise ConflictError(f"{segment!r} is a file, and cannot be a folder at once") from error
        raise FileNotFoundError(f"{segment!r} is not a folder") from error


def _refuse_link(at: int, name: str) -> None:
    with suppress(FileNotFoundError):
        if stat.S_ISLNK(os.lstat(name, dir_fd=at).st_mode):
            raise PermissionDeniedError(f"{name!r} is a symbolic link, which might lead out of the root")
