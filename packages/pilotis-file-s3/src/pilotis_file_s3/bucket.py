"""Single requests about files in a bucket: what provider, uploads and sweeping are made of."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]
from pilotis.errors import InvalidInputError, NotFoundError, PilotisError
from pilotis.modules.file.types import Access
from pilotis.providers import finish, reset_after_fork, run_blocking

from pilotis_file_s3.connection import Connection
from pilotis_file_s3.errors import is_code
from pilotis_file_s3.options import S3FilesOptions
from pilotis_file_s3.records import ELSEWHERE, NOTES, RESERVED, UNSPEAKABLE, Note, record_of

LONGEST_NAME = 1024

FAILURES = (ClientError, BotoCoreError, PilotisError)
"""What requests raise."""


class Bucket:
    """Names, heads and notes of files."""

    def __init__(self, connection: Connection, options: S3FilesOptions) -> None:
        self.connection = connection
        self.options = options
        self.folder = options.folder
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """What the parent is writing is the parent's."""
        self._at_work: dict[object, tuple[str, ...]] = {}

    @contextmanager
    def at_work(self, *names: str) -> Generator[None]:
        """Have sweeping leave alone, for the length of a block, what is sent to an object, or the digest of a write.

        Told by its name, an upload is left alone from before S3 makes it: nobody has its id then.
        """
        work = object()
        self._at_work[work] = names
        try:
            yield
        finally:
            self._at_work.pop(work, None)  # it is not there in a child that was forked meanwhile

    def is_at_work(self, name: str) -> bool:
        """Tell whether this process is writing to an object, or the digest of a write."""
        return any(name in names for names in list(self._at_work.values()))

    def name_of(self, key: str) -> str:
        """Return the name of the object that holds a file.

        Raises `InvalidInputError` for keys that are ours, or too long with the prefix, or not to be told in XML.
        """
        if key.partition("/")[0] == RESERVED:
            raise InvalidInputError(f"key: expected a first segment other than {RESERVED!r}, got {key!r}")
        if UNSPEAKABLE.search(key):
            raise InvalidInputError(
                f"key: expected characters that XML can hold, in which S3 is told what to delete; got {key!r}"
            )
        name = self.folder + key
        if (size := len(name.encode())) > LONGEST_NAME:
            raise InvalidInputError(f"key: expected {LONGEST_NAME} bytes at most with the prefix, got {size}")
        return name

    def acl_of(self, access: Access) -> dict[str, str]:
        """Return what a request says of the ACL: nothing, where the bucket's own rules do."""
        acl = self.options.canned or ("public-read" if self.options.acl is True and access == "public" else None)
        return {} if acl is None else {"ACL": acl}

    @property
    def caching(self) -> dict[str, str]:
        """What a request says of caches."""
        return {} if self.options.cache_control is None else {"CacheControl": self.options.cache_control}

    async def head(self, key: str) -> Mapping[str, Any] | None:
        """Return what S3 says of a file; None where there is none."""
        try:
            return await self.connection.ask("head_object", Key=self.name_of(key))
        except ClientError as error:
            if is_code(error, "404", "NoSuchKey"):
                return None
            raise

    async def existing(self, key: str) -> Mapping[str, Any]:
        """Return what S3 says of a file. Raises `NotFoundError`."""
        answer = await self.head(key)
        if answer is None:
            raise absent(key)
        return answer

    async def written(self, key: str, id: str) -> Mapping[str, Any] | None:
        """Return what S3 says of a file if it is what the write of that id stored, and None if it is not."""
        answer = await self.head(key)
        record = None if answer is None else record_of(answer)
        return answer if record is not None and record.id == id else None

    async def appear(self, key: str, id: str, send: Callable[[], Any]) -> str:
        """Send what makes a file appear, and return its etag. It is seen through even if the caller is cancelled.

        An answer may be lost, and what boto3 sends then for the second time is refused, because the file is there:
        whether it is ours is written in it.
        """
        try:
            return (await finish(run_blocking(send)))["ETag"]
        except FAILURES:
            answer = await finish(self.look(key, id))
            if answer is None:
                raise
            return answer["ETag"]

    async def look(self, key: str, id: str) -> Mapping[str, Any] | None:
        """Return what S3 says of a file if it is what the write of that id stored; None also where it does not tell."""
        try:
            return await self.written(key, id)
        except FAILURES:
            return None  # what is to be told is why it could not be stored

    # Notes: the digests of files that were sent in parts

    def note_name(self, id: str) -> str:
        return f"{self.folder}{NOTES}{id}"

    async def digest(self, answer: Mapping[str, Any]) -> str | None:
        """Return the digest that was stored with a file; None where there is none."""
        record = record_of(answer)
        if record is None or record.sha256 != ELSEWHERE:
            return None if record is None else record.sha256 or None
        note = await self.note(self.note_name(record.id))
        return None if note is None else note.sha256

    async def note(self, name: str) -> Note | None:
        """Return a note; None where there is none, or what is there is none of ours."""
        return await run_blocking(self._read_note, name)

    def _read_note(self, name: str) -> Note | None:
        try:
            answer = self.connection.ask_now("get_object", Key=name)
        except ClientError as error:
            if is_code(error, "404", "NoSuchKey"):
                return None
            raise
        with answer["Body"] as body, suppress(msgspec.DecodeError, UnicodeDecodeError):
            return msgspec.json.decode(body.read(), type=Note)
        return None

    def put_note(self, id: str, note: Note) -> None:
        """Store a note, on this thread."""
        self.connection.ask_now("put_object", Key=self.note_name(id), Body=msgspec.json.encode(note))

    def drop_note(self, id: str) -> None:
        """Remove a note, if there is one, on this thread."""
        self.connection.ask_now("delete_object", Key=self.note_name(id))


async def clean_up(error: BaseException, cleaning: Coroutine[Any, Any, object]) -> None:
    """See through what removes the traces of what failed. If that fails too, it is a note of the error.

    In its place it would hide what happened, and that a caller was cancelled.
    """
    try:
        await finish(cleaning)
    except FAILURES as failure:
        error.add_note(f"what was sent could not be removed, and is left to sweep: {failure}")


def absent(key: str) -> NotFoundError:
    return NotFoundError(f"there is no file {key!r}")
