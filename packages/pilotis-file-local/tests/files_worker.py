"""A process that does everything to a few files, over and over, and fails at what must not happen; started by tests."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

from pilotis import FileStore
from pilotis.errors import AlreadyExistsError, ConflictError, NotFoundError
from pilotis.providers import FileInfo
from pilotis_file_local import LocalFiles, LocalFilesOptions

KEYS = ("a", "deep/b", "deep/er/c", "deep/er/d")


def check(info: FileInfo | None) -> None:
    """Fail unless the facts are those of one write: none of them is lost, or of another one."""
    if info is None or info.is_folder:
        return
    assert info.sha256 is not None, f"{info.key} has lost its record"
    assert info.size == 100 + int(info.metadata["number"]), f"{info.key} has the record of another version"


def put(files: FileStore, key: str) -> None:
    number = random.randrange(100)
    check(files.put(key, bytes([number]) * (100 + number), metadata={"number": str(number)}, if_absent=number < 20))


def read(files: FileStore, key: str) -> None:
    content = files.read(key)
    assert content == bytes([len(content) - 100]) * len(content), f"{key} is a mixture"


def look(files: FileStore, key: str) -> None:
    check(files.stat(key))


def copy(files: FileStore, key: str) -> None:
    check(files.copy(key, random.choice(KEYS)))


def delete(files: FileStore, key: str) -> None:
    files.delete(key)


def walk(files: FileStore, key: str) -> None:
    for info in files.list(key[:5], delimiter=random.choice((None, "/"))):
        check(info)


def sweep(files: FileStore, key: str) -> None:
    files.sweep(older_than=0)


def main(root: str, seed: int, rounds: int) -> None:
    random.seed(seed)
    files = FileStore(LocalFiles(LocalFilesOptions(root=root, fsync=False)))
    verbs: list[Callable[[FileStore, str], None]] = [put, put, put, read, look, look, copy, delete, walk, sweep, sweep]
    for _ in range(rounds):
        try:
            random.choice(verbs)(files, random.choice(KEYS))
        except (AlreadyExistsError, ConflictError, NotFoundError) as error:
            if "there is" not in str(error):  # it is about something that is missing inside
                raise
    files.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
