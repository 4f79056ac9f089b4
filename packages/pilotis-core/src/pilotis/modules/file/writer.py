"""Writing a file piece by piece, where the caller pushes and the provider pulls."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, cast

from pilotis.bridge import Latch, blocking, finish, reset_after_fork
from pilotis.context import Context
from pilotis.errors import InvalidInputError, UsageError
from pilotis.modules.file.sources import Source, view_of
from pilotis.modules.file.types import CHUNK_SIZE, Bytes, FileInfo
from pilotis.runtime import Job

Store = Callable[[Source], Awaitable[FileInfo]]


class Pipe(Source):
    """Hands chunks over, one at a time, from whoever pushes to whoever pulls."""

    def __init__(self) -> None:
        self._chunk = b""
        self._offered = Latch()
        self._taken = Latch()
        self._shut = False

    async def push(self, chunk: bytes) -> None:
        """Wait until `chunk` is taken, or nobody pulls any more. No bytes mark the end."""
        self._chunk = chunk
        taken = self._taken = Latch()
        self._offered.set()
        if not self._shut:
            await taken.wait()

    async def pull(self) -> bytes:
        await self._offered.wait()
        self._offered = Latch()
        chunk, self._chunk = self._chunk, b""
        self._taken.set()
        return chunk

    def shut(self) -> None:
        """Let the pushing side go on: nobody pulls any more."""
        self._shut = True
        self._taken.set()


class _State(enum.Enum):
    NEW = enum.auto()
    OPEN = enum.auto()
    ENDED = enum.auto()
    PARENTS = enum.auto()  # after a fork: the parent goes on writing it


class FileWriter:
    """A file being written: stored when its `with` block ends, and not at all if the block raises.

    Enter it with `with` and call `write`, or with `async with` and await `awrite`; once only. The provider
    stores on the app's background loop, while the block goes on.
    """

    def __init__(self, store: Store, context: Context, key: str) -> None:
        self._store = store
        self._context = context
        self._key = key
        self._pipe = Pipe()
        self._buffer = bytearray()
        self._flushing = False
        self._job: Job[None] | None = None
        self._state = _State.NEW
        self._error: Exception | None = None
        self.info: FileInfo | None = None
        """The facts of the stored file, once the block has ended."""

    @property
    def blocking_in_loop(self) -> str:
        return self._context.blocking_in_loop

    def after_fork(self) -> None:
        """The file is the parent's to store: here nothing more is done with it."""
        if self._state is _State.OPEN:
            self._state = _State.PARENTS

    async def awrite(self, data: Bytes) -> int:
        """Append bytes, and return how many. About 1 MiB is kept in memory.

        Raises what the provider raised in the meantime, `InvalidInputError` for what is not bytes, and `UsageError`
        outside the block, while another call is under way, and after one that was interrupted: nobody knows then what
        is in the file, and it is not stored.
        """
        if self._state is not _State.OPEN:
            raise UsageError(
                f"write() on {self._key!r} works inside `with file.writer(...) as out:` only, "
                f"in the process that entered it"
            )
        self._refuse_torn()
        view = _view(data)
        for start in range(0, len(view), CHUNK_SIZE):
            self._buffer += view[start : start + CHUNK_SIZE]
            if len(self._buffer) >= CHUNK_SIZE:
                await self._flush()
        return len(view)

    write = blocking(awrite)

    async def __aenter__(self) -> Self:
        if self._state is not _State.NEW:
            raise UsageError(f"this writer of {self._key!r} was used already: call file.writer(...) again")
        self._state = _State.OPEN
        reset_after_fork(self)
        self._job = self._context.runtime.spawn(self._run(), f"write {self._key}")
        self._job.ended.on_set(self._pipe.shut)  # even if it was cancelled before it began
        return self

    __enter__ = blocking(__aenter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        was, self._state = self._state, _State.ENDED
        if was is _State.PARENTS:
            return
        if kind is not None:
            await finish(self._abandon())
            return
        try:
            await self._commit()
        except BaseException:
            await finish(self._abandon())
            raise

    __exit__ = blocking(__aexit__)

    async def _commit(self) -> None:
        assert self._job is not None
        self._refuse_torn()
        if self._buffer:
            await self._flush()
        await self._pipe.push(b"")
        await self._job.ended.wait()
        if self._error is not None:
            raise self._error
        if self.info is None:
            raise UsageError(f"the app was closed while {self._key!r} was being written: it was not stored")

    async def _abandon(self) -> None:
        assert self._job is not None
        self._job.cancel()
        await self._job.ended.wait()

    async def _flush(self) -> None:
        self._flushing = True  # and so it stays when this is interrupted
        await self._pipe.push(bytes(self._buffer))
        self._buffer.clear()
        self._flushing = False
        if self._error is not None:
            raise self._error

    def _refuse_torn(self) -> None:
        if self._flushing:
            raise UsageError(f"a write to {self._key!r} is under way, or was interrupted; write piece by piece")

    async def _run(self) -> None:
        try:
            self.info = await self._store(self._pipe)
        except Exception as error:
            self._error = error  # raised in the block


def _view(data: object) -> memoryview[int]:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise InvalidInputError(f"data: expected bytes, got {type(data).__name__}")
    return view_of(cast("Bytes", data))
