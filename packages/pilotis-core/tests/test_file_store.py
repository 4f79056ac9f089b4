"""What the portable class does by itself, in front of a provider that keeps files in a dict."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pilotis.bridge import Latch, drive
from pilotis.errors import (
    BlockingCallInEventLoopError,
    ClosedError,
    InvalidInputError,
    OperationError,
    UnsupportedError,
    UsageError,
)
from pilotis.modules.file import FileStore
from pilotis.modules.file.types import CHUNK_SIZE
from pilotis.providers import Chunks, Context, FileInfo, FileProvider, WriteRequest
from pilotis_testing import Colour, ManualClock
from pilotis_testing.colours import soon


class DictFiles(FileProvider):
    """Files in a dict: a complete provider without any optional ability."""

    asyncio_only = False

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, tuple[bytes, FileInfo]] = {}
        self.cut = 0

    async def write(self, key: str, chunks: Chunks, request: WriteRequest) -> FileInfo:
        content = b"".join([chunk async for chunk in chunks])
        content = content[: len(content) - self.cut]
        modified = datetime.fromtimestamp(self.context.clock.time(), UTC)
        info = FileInfo(
            key=key,
            size=len(content),
            content_type=request.content_type,
            etag=chunks.sha256,
            sha256=None,
            modified=modified,
            metadata=request.metadata,
            access=request.access,
        )
        self.files[key] = content, info
        return info

    async def read(self, key: str, start: int, end: int | None) -> AsyncIterator[bytes]:
        if content := self.files[key][0][start:end]:
            yield content

    async def stat(self, key: str) -> FileInfo | None:
        return self.files[key][1] if key in self.files else None

    async def list(self, prefix: str, delimiter: str | None) -> AsyncIterator[FileInfo]:
        for key in sorted(self.files):
            yield self.files[key][1]

    async def copy(self, source: str, target: str) -> FileInfo:
        raise OSError("the backend is not in the mood")

    async def remove(self, keys: Sequence[str]) -> dict[str, Exception]:
        return {key: OSError(f"{key} is stuck") for key in keys}


class SlowFiles(DictFiles):
    """The same, once the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Latch()

    async def write(self, key: str, chunks: Chunks, request: WriteRequest) -> FileInfo:
        await self.gate.wait(10)
        return await super().write(key, chunks, request)


class LodgedFiles(DictFiles):
    """The same, living on the background loop."""

    asyncio_only = True


@pytest.fixture
def provider() -> DictFiles:
    """The provider itself."""
    return DictFiles()


@pytest.fixture
def files(provider: DictFiles, clock: ManualClock, colour: Colour) -> Iterator[Any]:
    """The store in front of it, speaking in the colour of the test."""
    context = Context(clock=clock)
    yield colour.voice(FileStore(provider, context=context))
    context.runtime.stop()


async def test_upload_makes_keys(files: Any) -> None:
    """The same name twice makes two keys, that sort by time and keep the name beside the caller's metadata."""
    infos = [await files.upload("My photo.jpg", b"1", prefix="in/", metadata={"n": "1"}, access="public") for _ in "ab"]
    assert infos[0].key < infos[1].key
    for info in infos:
        assert info.key.startswith("in/My-photo-")
        assert info.key.endswith(".jpg")
        assert ({"filename": "My photo.jpg", "n": "1"}, "image/jpeg", "public") == (
            info.metadata,
            info.content_type,
            info.access,
        )
        assert b"1" == await files.read(info.key)


@pytest.mark.parametrize(
    "data", ["text", 5, None, io.StringIO("text"), ["text"], [5], {"a": b"1"}], ids=lambda data: type(data).__name__
)
async def test_data_that_cannot_be_stored(files: Any, provider: DictFiles, data: object) -> None:
    """Text, and iterators of anything but bytes, are refused, and nothing is stored."""
    with pytest.raises(InvalidInputError, match="data: expected"):
        await files.put("a", data)
    assert {} == provider.files


async def test_a_path_that_cannot_be_read(files: Any, tmp_path: Any) -> None:
    """A path without a file is refused by name before anything is done."""
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(InvalidInputError, match=f"data: .*{path.name}"):
            await files.put("a", path)


async def test_bad_arguments_are_named(files: Any) -> None:
    """Each argument is checked, and named in the error."""
    for name, value in (("access", "open"), ("content_type", "x"), ("metadata", {"A": "b"}), ("sha256", "zz")):
        with pytest.raises(InvalidInputError, match=name):
            await files.put("a", b"", **{name: value})
    with pytest.raises(InvalidInputError, match="if_absent: expected True or False, got str"):
        await files.put("a", b"", if_absent="no")
    with pytest.raises(InvalidInputError, match="on_progress: expected a function"):
        await files.put("a", b"", on_progress=5)
    with pytest.raises(InvalidInputError, match="download_as: expected text, got int"):
        await files.url("a", download_as=5)
    with pytest.raises(InvalidInputError, match="delimiter"):
        await anext(files.list(delimiter="-"))
    with pytest.raises(InvalidInputError, match="chunk_size"):
        await anext(files.stream("a", chunk_size=0))
    for filename in ("", "..", "\n", 5, "a/"):
        with pytest.raises(InvalidInputError, match="filename"):
            await files.upload(filename, b"")


async def test_a_provider_that_stores_too_little_is_found_out(files: Any, provider: DictFiles) -> None:
    """What the provider says it stored is compared with what it was given."""
    provider.cut = 1
    with pytest.raises(OperationError, match="did not store what it was given"):
        await files.put("a", b"hello")


async def test_native_errors_are_explained(files: Any) -> None:
    """An error of the backend comes out as ours, with the verb and the cause."""
    with pytest.raises(OperationError, match="failed in copy: OSError: the backend is not in the mood") as caught:
        await files.copy("a", "b")
    assert isinstance(caught.value.__cause__, OSError)


async def test_all_failed_deletes_are_told(files: Any) -> None:
    """The first error is raised, and every key that is still there is named."""
    with pytest.raises(OperationError, match="failed in delete: OSError: a is stuck") as caught:
        await files.delete("a", "b")
    assert ["'a' was not deleted", "'b' was not deleted: OSError: b is stuck"] == caught.value.__notes__


async def test_what_the_provider_cannot_do(files: Any) -> None:
    """Verbs whose capability is missing say which."""
    for capability, call in (
        ("CREATE_ONLY", lambda: files.put("a", b"", if_absent=True)),
        ("SIGNED_LINKS", lambda: files.url("a")),
        ("SIGNED_LINKS", lambda: files.signed_upload("a")),
        ("SWEEP", files.sweep),
    ):
        with pytest.raises(UnsupportedError, match=capability):
            await call()


async def test_the_writer_is_used_once_and_inside(files: Any) -> None:
    """Writing outside the block, and entering it again, are errors that say what to do."""
    writer = files.writer("a")
    with pytest.raises(UsageError, match="inside"):
        await writer.write(b"1")
    async with writer as out:
        assert 2 == await out.write(b"12")
        with pytest.raises(InvalidInputError, match="data: expected bytes, got str"):
            await out.write("text")
    with pytest.raises(UsageError, match="inside"):
        await out.write(b"1")
    with pytest.raises(UsageError, match="used already"):
        async with writer:
            pass
    assert b"12" == await files.read("a")


async def test_a_provider_on_the_background_loop(clock: ManualClock, colour: Colour) -> None:
    """With an asyncio-only provider sources and writers work the same: a user's async iterator stays at home."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"he"
        yield b"llo"

    context = Context(clock=clock)
    files: Any = colour.voice(FileStore(LodgedFiles(), context=context))
    await files.put("a", pieces())
    async with files.writer("b") as out:
        await out.write(b"hello")
    assert b"hello" == await files.read("a") == await files.read("b")
    context.runtime.stop()


async def test_an_app_that_is_closed_ends_its_writers(colour: Colour) -> None:
    """A writer whose background loop was stopped does not hang, and says that nothing was stored."""
    context, provider = Context(), DictFiles()
    files: Any = colour.voice(FileStore(provider, context=context))

    async def write() -> None:
        async with files.writer("a") as out:
            context.runtime.stop()
            for _ in range(5):
                await out.write(b"x" * 2**20)

    with pytest.raises(UsageError, match="was not stored"):
        await write()
    assert {} == provider.files


async def test_an_interrupted_write_is_not_stored() -> None:
    """Whoever gives up on a write and goes on would store some bytes twice, or not at all."""
    context, provider = Context(), SlowFiles()
    files = FileStore(provider, context=context)

    async def write() -> None:
        async with files.writer("a") as out:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(out.awrite(b"1" * CHUNK_SIZE), 0.01)
            provider.gate.set()

    with pytest.raises(UsageError, match="was interrupted"):
        await write()
    assert {} == provider.files
    context.runtime.stop()


async def test_two_writes_at_once_are_told() -> None:
    """Nobody could tell the order of their bytes."""
    context, provider = Context(), SlowFiles()
    files = FileStore(provider, context=context)

    async def write() -> None:
        async with files.writer("a") as out:
            await asyncio.gather(*(out.awrite(b"1" * CHUNK_SIZE) for _ in "abc"))

    with pytest.raises(UsageError, match="under way"):
        await write()
    assert {} == provider.files
    context.runtime.stop()


def test_a_child_process_leaves_the_writer_to_its_parent() -> None:
    """It cannot write, leaves the block without waiting, and what the parent writes is stored."""
    context, provider = Context(), DictFiles()
    files = FileStore(provider, context=context)
    with files.writer("a") as out:
        pid = os.fork()
        if pid == 0:
            signal.alarm(10)
            try:
                out.write(b"x" * CHUNK_SIZE)
            except UsageError:
                out.__exit__(None, None, None)
                os._exit(0)
            os._exit(1)
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        out.write(b"parent")
    assert b"parent" == files.read("a")
    context.runtime.stop()


def test_a_writer_of_a_closed_app_starts_nothing() -> None:
    """It says so, and no background loop is left behind."""
    context = Context()
    files = FileStore(DictFiles(), context=context)
    context.runtime.stop()
    with pytest.raises(ClosedError), files.writer("a"):
        pass
    assert not context.runtime.started


async def test_a_cancelled_put_closes_the_path(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was opened on a thread for a caller who is gone is closed there."""
    path = tmp_path / "source"
    path.write_bytes(b"1")
    begun, gate = Latch(), Latch()
    opened: list[Any] = []
    original = Path.open

    def slow(self: Path, *args: Any) -> Any:
        begun.set()
        drive(gate.wait(10))
        opened.append(original(self, *args))
        return opened[-1]

    monkeypatch.setattr(Path, "open", slow)
    task = asyncio.ensure_future(FileStore(DictFiles()).aput("a", path))
    await begun.wait(10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    await soon(lambda: bool(opened) and opened[0].closed)


async def test_blocking_verbs_in_a_loop(provider: DictFiles) -> None:
    """On a thread whose loop runs, blocking verbs name their async twins."""
    files = FileStore(provider)
    with pytest.raises(BlockingCallInEventLoopError, match="aput"):
        files.put("a", b"")
    with pytest.raises(BlockingCallInEventLoopError, match="async for"):
        files.stream("a")
    with pytest.raises(BlockingCallInEventLoopError, match="async with"), files.writer("a"):
        pass
