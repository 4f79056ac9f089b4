"""What is particular to files in a folder of this machine."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pilotis.errors import (
    ConflictError,
    ConnectionFailedError,
    InvalidInputError,
    NotFoundError,
    OperationError,
    PermissionDeniedError,
    StorageFullError,
)
from pilotis.modules.file import FileStore
from pilotis.providers import Context
from pilotis_file_local import LocalFiles, LocalFilesOptions
from pilotis_testing import ManualClock

MIB = 1024 * 1024


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of the files, not made yet."""
    return tmp_path / "files"


@pytest.fixture
def files(root: Path, clock: ManualClock) -> Iterator[FileStore]:
    """A store before the local provider."""
    context = Context(clock=clock)
    with_root = LocalFilesOptions(root=str(root), fsync=False)
    yield FileStore(LocalFiles(with_root), context=context)
    context.runtime.stop()


def left(root: Path) -> list[str]:
    """Return what is under the root, records and the secret included."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def open_files() -> int:
    """Return how many descriptors this process has."""
    return len([*Path("/proc/self/fd").iterdir()])


# Where things are


def test_files_lie_where_their_keys_say(files: FileStore, root: Path) -> None:
    """Under the root every file has the path that its key names, and its plain content."""
    files.put("a/b.txt", b"hello")
    assert (root / "a" / "b.txt").read_bytes() == b"hello"


def test_opening_makes_nothing(files: FileStore, root: Path) -> None:
    """The root is made by the first write, not by opening, reading or listing."""
    files.open()
    assert [] == list(files.list())
    assert not files.exists("a/b")
    files.delete("a")
    assert not root.exists()


def test_files_put_there_by_hand(files: FileStore, root: Path) -> None:
    """A file that the provider did not write is served with guessed facts and no digest."""
    (root / "a").mkdir(parents=True)
    (root / "a" / "page.html").write_bytes(b"<p>")
    info = files.stat("a/page.html")
    assert ("text/html", 3, None, {}) == (info.content_type, info.size, info.sha256, info.metadata)
    assert [info] == list(files.list())


def test_a_file_changed_by_hand_has_no_stale_digest(files: FileStore, root: Path) -> None:
    """Digest and metadata belong to the version that was put, and to no other."""
    files.put("a.txt", b"hello", metadata={"n": "1"})
    (root / "a.txt").write_bytes(b"other")
    info = files.stat("a.txt")
    assert (None, {}) == (info.sha256, info.metadata)


def test_records_survive_a_copy_of_the_root(files: FileStore, root: Path, tmp_path: Path) -> None:
    """A root that was copied with its times has all its facts."""
    before = files.put("a/b.txt", b"hello", content_type="text/x", metadata={"n": "1"})
    subprocess.run(["cp", "-a", root, tmp_path / "copy"], check=True)
    copied = FileStore(LocalFiles(LocalFilesOptions(root=str(tmp_path / "copy"))))
    assert before == copied.stat("a/b.txt")


def test_replaced_and_deleted_files_leave_no_records(files: FileStore, root: Path) -> None:
    """There is one record per file; none stays behind, and no empty folder either."""
    for content in (b"1", b"2", b"333"):
        files.put("a/b/c", content)
    assert 2 == len(left(root))
    files.delete("a/b/c")
    assert [] == left(root)
    assert not (root / "a").exists()


def test_a_damaged_copy_is_refused(files: FileStore, root: Path) -> None:
    """`copy` finds out that content rotted on the disk, and does not spread it."""
    files.put("a.bin", b"hello")
    status = (root / "a.bin").stat()
    (root / "a.bin").write_bytes(b"jello")
    os.utime(root / "a.bin", ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(OperationError, match=r"'a\.bin' is damaged"):
        files.copy("a.bin", "b.bin")
    assert not files.exists("b.bin")


@pytest.mark.parametrize(
    "key", [".pilotis/secret", ".pilotis", "a/.pilotis-draft-1-x", ".PILOTIS/records/x", ".Pilotis"]
)
def test_reserved_names_are_refused(files: FileStore, key: str) -> None:
    """No key reaches what the provider keeps for itself."""
    files.url("a.txt")  # makes the secret
    for call in (
        lambda: files.put(key, b"x"),
        lambda: files.read(key),
        lambda: files.delete(key),
        lambda: files.stat(key),
    ):
        with pytest.raises(InvalidInputError, match=r"\.pilotis"):
            call()
    assert [] == list(files.list())


# Symbolic links


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the root, with a file that nobody may reach."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_bytes(b"secret")
    return outside


@pytest.mark.parametrize("key", ["folder/secret.txt", "file.txt", "deep/up/secret.txt", "dangling/x"])
def test_links_do_not_lead_out(files: FileStore, root: Path, outside: Path, key: str) -> None:
    """A symbolic link, wherever it is in the path, is refused by every verb that would follow it."""
    (root / "deep").mkdir(parents=True)
    (root / "folder").symlink_to(outside)
    (root / "file.txt").symlink_to(outside / "secret.txt")
    (root / "deep" / "up").symlink_to("../../outside")
    (root / "dangling").symlink_to(outside / "new")
    for call in (lambda: files.read(key), lambda: files.stat(key), lambda: files.copy(key, "copy")):
        with pytest.raises(PermissionDeniedError, match="symbolic link"):
            call()
    assert [] == list(files.list())
    assert [] == list(files.list("folder/"))


def test_writing_and_deleting_through_links(files: FileStore, root: Path, outside: Path) -> None:
    """A link to a folder is refused; one in the place of a file is replaced or deleted itself."""
    root.mkdir()
    (root / "folder").symlink_to(outside)
    for name in ("a.txt", "b.txt"):
        (root / name).symlink_to(outside / "secret.txt")
    with pytest.raises(PermissionDeniedError, match="symbolic link"):
        files.put("folder/secret.txt", b"x")
    with pytest.raises(PermissionDeniedError, match="symbolic link"):
        files.delete("folder/secret.txt")
    files.put("a.txt", b"mine")
    files.delete("b.txt")
    assert b"mine" == files.read("a.txt")
    assert not (root / "b.txt").is_symlink()
    assert ["secret.txt"] == [path.name for path in outside.iterdir()]
    assert (outside / "secret.txt").read_bytes() == b"secret"


def test_pipes_are_no_files(files: FileStore, root: Path) -> None:
    """A pipe in the root is absent, and never waited for."""
    root.mkdir()
    os.mkfifo(root / "pipe")
    assert not files.exists("pipe")
    with pytest.raises(NotFoundError):
        files.read("pipe")


# Faults

_FILL = """
import resource, sys
from pilotis.errors import StorageFullError
from pilotis.modules.file import FileStore
from pilotis_file_local import LocalFiles, LocalFilesOptions
files = FileStore(LocalFiles(LocalFilesOptions(root=sys.argv[1])))
files.put("old.bin", b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))
for key in ("old.bin", "new/a.bin"):
    try:
        files.put(key, (b"x" * (1 << 20) for _ in range(10)))
    except StorageFullError as error:
        print(type(error.__cause__).__name__)
"""

_DIE = """
import os, signal, sys
from pilotis.modules.file import FileStore
from pilotis_file_local import LocalFiles, LocalFilesOptions
files = FileStore(LocalFiles(LocalFilesOptions(root=sys.argv[1])))
files.put("old.bin", b"old")
def pieces():
    yield b"x" * (2 << 20)
    yield b"x" * (2 << 20)
    os.kill(os.getpid(), signal.SIGKILL)
files.put(sys.argv[2], pieces())
"""

_DIE_BEFORE_THE_FILE = """
import os, signal, sys
from pilotis.modules.file import FileStore
from pilotis_file_local import LocalFiles, LocalFilesOptions, drafts
files = FileStore(LocalFiles(LocalFilesOptions(root=sys.argv[1])))
files.put("old.bin", b"old", metadata={"n": "1"})
place = drafts.Draft.place
def die_before_the_file(draft, name, **options):
    if name == "old.bin":
        os.kill(os.getpid(), signal.SIGKILL)
    return place(draft, name, **options)
drafts.Draft.place = die_before_the_file
files.put("old.bin", b"new", metadata={"n": "2"})
"""


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def test_a_full_disk_leaves_nothing_half_written(files: FileStore, root: Path) -> None:
    """When there is no room, `StorageFullError` is raised, the old file stays, and nothing is left of the new one."""
    done = run(_FILL, root)
    assert ("OSError\nOSError\n", "") == (done.stdout, done.stderr)
    assert b"old" == files.read("old.bin")
    assert ["old.bin"] == [name for name in left(root) if not name.startswith(".pilotis/")]
    assert 2 == len(left(root))
    assert not (root / "new").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_errors_of_a_full_disk_are_known(number: int) -> None:
    """Disk, quota and limit are all `StorageFullError`."""
    assert StorageFullError is LocalFiles().classify(OSError(number, os.strerror(number)))


@pytest.mark.parametrize("key", ["old.bin", "deep/down/new.bin"])
def test_a_killed_writer_leaves_only_what_is_swept(files: FileStore, root: Path, key: str) -> None:
    """After kill -9 the old file is whole, the draft is not listed, and `sweep` removes it."""
    assert -signal.SIGKILL == run(_DIE, root, key).returncode
    assert ["old.bin"] == [info.key for info in files.list()]
    assert ["old.bin"] == [info.key for info in files.list(delimiter="/")]
    assert b"old" == files.read("old.bin")
    assert 3 == len(left(root))
    files.context.clock = _tomorrow()
    assert 0 == files.sweep(older_than=3 * 86_400)
    assert 1 == files.sweep()
    assert 2 == len(left(root))
    assert not (root / "deep").exists()


def test_a_writer_killed_between_record_and_file(files: FileStore, root: Path) -> None:
    """The old file keeps its own facts, and `sweep` removes the record and the draft of the new one."""
    assert -signal.SIGKILL == run(_DIE_BEFORE_THE_FILE, root).returncode
    before = files.stat("old.bin")
    assert (b"old", {"n": "1"}) == (files.read("old.bin"), before.metadata)
    assert 4 == len(left(root))
    files.context.clock = _tomorrow()
    assert 2 == files.sweep()
    assert before == files.stat("old.bin")
    assert 2 == len(left(root))


def _tomorrow() -> ManualClock:
    import time

    return ManualClock(time.time() + 2 * 86_400)


def test_a_cancelled_put_leaves_nothing(files: FileStore, root: Path) -> None:
    """A put that is cancelled while it waits for its source leaves neither file nor draft nor descriptor."""

    async def endless(started: asyncio.Event) -> AsyncIterator[bytes]:
        yield b"x" * MIB
        started.set()
        await asyncio.Event().wait()

    async def main() -> None:
        started = asyncio.Event()
        put = asyncio.create_task(files.aput("deep/a.bin", endless(started)))
        await started.wait()
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put

    before = open_files()
    asyncio.run(main())
    assert [] == left(root)
    assert not (root / "deep").exists()
    assert before >= open_files()


def test_a_cancelled_writer_leaves_nothing(files: FileStore, root: Path) -> None:
    """A block of a writer that is cancelled stores nothing."""

    async def write(started: asyncio.Event) -> None:
        async with files.writer("a.bin") as out:
            await out.awrite(b"x" * 2 * MIB)
            started.set()
            await asyncio.Event().wait()

    async def main() -> None:
        started = asyncio.Event()
        writing = asyncio.create_task(write(started))
        await started.wait()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing

    asyncio.run(main())
    assert [] == left(root)


def test_an_error_of_the_provider_comes_out_of_the_writer(files: FileStore, root: Path) -> None:
    """A writer whose file cannot be stored raises at the write that notices it, or at the end."""
    files.put("a", b"1")

    def write() -> None:
        with files.writer("a/b.bin") as out:
            for _ in range(100):
                out.write(b"x" * MIB)

    with pytest.raises(ConflictError, match="cannot be a folder"):
        write()
    assert ["a"] == [info.key for info in files.list()]


def test_abandoned_streams_close_their_file(files: FileStore) -> None:
    """A stream that is not read to its end gives its descriptor back, in both colours."""
    files.put("a.bin", b"x" * 3 * MIB)
    before = open_files()

    async def abandon() -> None:
        stream = files.astream("a.bin")
        await anext(stream)
        await stream.aclose()

    for _ in range(3):
        stream = files.stream("a.bin")
        next(stream)
        del stream
        asyncio.run(abandon())
    gc.collect()
    assert before >= open_files()


def test_files_are_never_in_memory_whole(files: FileStore, root: Path) -> None:
    """Putting, copying, streaming and writing 64 MiB takes a few MiB of memory."""
    chunk = b"x" * MIB
    files.open()
    tracemalloc.start()
    try:
        files.put("a.bin", (chunk for _ in range(64)))
        files.copy("a.bin", "b.bin")
        files.put("c.bin", root / "a.bin")
        assert 64 * MIB == sum(len(piece) for piece in files.stream("b.bin", chunk_size=100_000))
        with files.writer("d.bin") as out:
            for _ in range(64):
                out.write(chunk)
        assert tracemalloc.get_traced_memory()[1] < 12 * MIB
    finally:
        tracemalloc.stop()


# The root and the options


def test_a_root_that_cannot_be_used(tmp_path: Path) -> None:
    """A root that is a file fails when the store is opened, with the address in the message."""
    (tmp_path / "file").write_bytes(b"")
    for name in ("file", "file/below"):
        store = FileStore(LocalFiles(LocalFilesOptions(root=str(tmp_path / name))))
        with pytest.raises(OperationError, match=str(tmp_path / name)) as caught:
            store.open()
        assert not isinstance(caught.value, ConnectionFailedError)


def test_options_are_checked() -> None:
    """Empty options are refused by name."""
    for name in ("root", "public_url", "secret"):
        with pytest.raises(InvalidInputError, match=name):
            LocalFilesOptions(**{name: ""})  # pyright: ignore[reportArgumentType]


def test_options_in_a_url() -> None:
    """The path of a URL is the root."""
    assert {"root": "/srv/my files"} == LocalFilesOptions.from_url("local:///srv/my%20files")
    assert {"root": "data/files"} == LocalFilesOptions.from_url("local://data/files")
    assert {} == LocalFilesOptions.from_url("local://")


def test_a_relative_root_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative root begins in the directory in which the provider was made."""
    monkeypatch.chdir(tmp_path)
    provider = LocalFiles(LocalFilesOptions(root="files"))
    monkeypatch.chdir("/")
    assert str(tmp_path / "files") == provider.address
    assert tmp_path / "files" == FileStore(provider).native(Path)
