"""What S3 does not keep by itself, in the metadata of each object: its access, the exact time, and its digest.

The digest of a file that is sent in parts is known only when its metadata have long been sent. So it stands in an
object of its own, below `.pilotis/sha256`, named by the id of that one write, which is in the metadata. It is stored
before the file appears, and so the two appear at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import quote, unquote
from uuid import uuid4

import msgspec
from pilotis.errors import InvalidInputError
from pilotis.modules.file.checks import check_key
from pilotis.modules.file.types import Access
from pilotis.providers import FileInfo

RESERVED = ".pilotis"
"""The first segment of what is ours: no key has it."""
UNSPEAKABLE = re.compile("[\ufffe\uffff]")
"""What keys may have elsewhere, and XML cannot hold: https://www.w3.org/TR/xml/#charsets."""
NOTES = f"{RESERVED}/sha256/"
NAME = "pilotis-record"
"""The metadata that hold a record."""
LARGEST_METADATA = 2048
"""Of S3, in bytes, names and values together."""
ELSEWHERE = "elsewhere"
"""What stands in the place of a digest that has an object of its own."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_VERSION = "1"
_TIME = re.compile("[0-9]{1,17}")  # what a datetime has room for
# Not the percent sign, nor spaces, which headers lose at their ends, nor what encoded words of mail headers begin with.
_PLAIN = "!\"#$&'()*+,-./:;<>?@[]^_`{|}~"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one write."""

    id: str
    access: Access
    modified: int
    """Microseconds since 1970."""
    sha256: str
    """In hexadecimal, `ELSEWHERE`, or empty where nobody knows it."""

    @classmethod
    def of(cls, access: Access, now: float, sha256: str) -> Self:
        """Return the record of a new write."""
        return cls(id=uuid4().hex, access=access, modified=round(now * 1_000_000), sha256=sha256)

    @property
    def time(self) -> datetime:
        """When it was written, in UTC."""
        return EPOCH + timedelta(microseconds=self.modified)

    def encode(self) -> str:
        return ";".join((_VERSION, self.id, self.access, str(self.modified), self.sha256))


class Note(msgspec.Struct, frozen=True):
    """The digest of a file that was sent in parts."""

    key: str
    """With the prefix."""
    sha256: str


def is_key(text: str) -> bool:
    """Tell whether a name in the bucket can be the key of a file: not if it is ours, or what no key can be."""
    with suppress(InvalidInputError):
        return check_key(text).partition("/")[0] != RESERVED and not UNSPEAKABLE.search(text)
    return False


def record_of(answer: Mapping[str, Any]) -> Record | None:
    """Return the record in what S3 says of an object; None for one that we did not write, or cannot read."""
    match answer["Metadata"].get(NAME, "").split(";"):
        case ["1", id, "private" | "public" as access, modified, sha256] if _TIME.fullmatch(modified):
            return Record(id=id, access=access, modified=int(modified), sha256=sha256)
        case _:
            return None


def metadata_of(metadata: Mapping[str, str], record: Record) -> dict[str, str]:
    """Return the metadata of an object: what the user gave, as headers can hold it, and the record.

    Raises `InvalidInputError` for more than S3 takes.
    """
    if NAME in metadata:
        raise InvalidInputError(f"metadata: {NAME!r} is a name of ours; take another one")
    whole = {**{name: quote(text, safe=_PLAIN) for name, text in metadata.items()}, NAME: record.encode()}
    if (size := sum(len(name) + len(text) for name, text in whole.items())) > LARGEST_METADATA:
        own = len(NAME) + len(whole[NAME])
        raise InvalidInputError(
            f"metadata: expected {LARGEST_METADATA - own} bytes at most once percent-encoded, got {size - own}: "
            f"S3 has room for {LARGEST_METADATA}, and {own} are taken by access, time and digest"
        )
    return whole


def users_metadata(answer: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata that the user gave. Those of objects that we did not write are taken as they are."""
    found: dict[str, str] = answer["Metadata"]
    if record_of(answer) is None:
        return dict(found)
    return {name: unquote(text) for name, text in found.items() if name != NAME}


def told_info(key: str, answer: Mapping[str, Any], sha256: str | None) -> FileInfo:
    """Return the facts in what S3 says of an object."""
    record = record_of(answer)
    return FileInfo(
        key=key,
        size=answer["ContentLength"],
        content_type=answer.get("ContentType", ""),
        etag=answer["ETag"].strip('"'),
        sha256=sha256,
        modified=answer["LastModified"].astimezone(UTC) if record is None else record.time,
        metadata=users_metadata(answer),
        access="private" if record is None else record.access,
    )


def listed_info(key: str, entry: Mapping[str, Any]) -> FileInfo:
    """Return the few facts that stand in a listing."""
    return FileInfo(
        key=key,
        size=entry["Size"],
        content_type="",
        etag=entry["ETag"].strip('"'),
        sha256=None,
        modified=entry["LastModified"].astimezone(UTC),
    )


def folder_info(key: str) -> FileInfo:
    """Return a folder, as it stands in a listing."""
    return FileInfo(key=key, size=0, content_type="", etag="", sha256=None, modified=EPOCH, is_folder=True)
