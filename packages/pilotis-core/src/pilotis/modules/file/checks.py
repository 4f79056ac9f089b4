"""Arguments of the file verbs, checked before anything is done."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any, cast

from pilotis.errors import InvalidInputError
from pilotis.keys import check_text
from pilotis.modules.file.types import Access

LONGEST_KEY = 1024
LONGEST_SEGMENT = 255
LONGEST_METADATA = 2048
UNKNOWN_TYPE = "application/octet-stream"

_METADATA_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_CONTENT_TYPE = re.compile(
    r"[\w!#$&^.+-]+/[\w!#$&^.+-]+([ \t]*;[ \t]*[\w!#$&^.+-]+=([\w!#$&^.+:/-]+|\"[^\"\\]*\"))*", re.ASCII
)


def check_key(value: object, at: str = "key") -> str:
    """Return `value` if it can be the key of a file.

    Raises `InvalidInputError` naming `at` for what is not text, has control characters or backslashes, is longer than
    1,024 bytes in UTF-8, begins or ends with "/", or has a segment that is empty, ".", ".." or longer than 255 bytes.
    """
    key = _check_path(value, at)
    for segment in key.split("/"):
        _check_segment(segment, key, at)
    return key


def check_prefix(value: object, at: str = "prefix") -> str:
    """Return `value` if keys can begin with it: empty, or like a key whose last segment is cut short anywhere."""
    if value == "":
        return ""
    prefix = _check_path(value, at)
    for segment in prefix.split("/")[:-1]:
        _check_segment(segment, prefix, at)
    return prefix


def check_delimiter(value: object) -> str | None:
    """Return `value` if it is None or "/"."""
    if value not in (None, "/"):
        raise InvalidInputError(f'delimiter: expected None or "/", got {value!r}')
    return cast("str | None", value)


def check_range(start: object, end: object) -> tuple[int, int | None]:
    """Return a range of bytes as in a slice: `end` is not included. Raises `InvalidInputError` for negative ones."""
    first = 0 if start is None else check_count(start, "start")
    last = None if end is None else check_count(end, "end")
    if last is not None and last < first:
        raise InvalidInputError(f"end: expected {first} or more, as start is {first}; got {last}")
    return first, last


def check_count(value: object, at: str, *, minimum: int = 0) -> int:
    """Return `value` if it is a whole number that is not less than `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInputError(f"{at}: expected a whole number, got {type(value).__name__}")
    if value < minimum:
        raise InvalidInputError(f"{at}: expected {minimum} or more, got {value}")
    return value


def check_content_type(value: object) -> str:
    """Return `value` if it is a media type such as "text/plain; charset=utf-8"."""
    text = check_text(value, "content_type", maximum=255)
    if not _CONTENT_TYPE.fullmatch(text):
        raise InvalidInputError(f'content_type: expected a media type such as "image/png", got {text!r}')
    return text


def content_type_of(value: object, key: str) -> str:
    """Return the media type that was given, checked, or else the one that the key's ending stands for."""
    return guess_content_type(key) if value is None else check_content_type(value)


def guess_content_type(name: str) -> str:
    """Return the media type that the ending of a name stands for: the same on every machine."""
    kind, encoding = _media_types().guess_type(name.rpartition("/")[2])
    if encoding is not None:
        return {"gzip": "application/gzip", "bzip2": "application/x-bzip2"}.get(encoding, UNKNOWN_TYPE)
    return kind or UNKNOWN_TYPE


@functools.cache
def _media_types() -> Any:
    from mimetypes import MimeTypes

    return MimeTypes()  # what Python knows; the lists of the machine are not read


def check_access(value: object) -> Access:
    """Return `value` if it is "private" or "public"."""
    if value not in ("private", "public"):
        raise InvalidInputError(f"access: expected 'private' or 'public', got {value!r}")
    return value


def check_metadata(value: object) -> dict[str, str]:
    """Return a copy of the metadata: lower-case names, printable values, 2,048 bytes in all."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"metadata: expected a mapping of text to text, got {type(value).__name__}")
    pairs = cast("Mapping[object, object]", value).items()
    metadata = {_metadata_name(name): _metadata_value(name, text) for name, text in pairs}
    size = sum(len(name) + len(text.encode()) for name, text in metadata.items())
    if size > LONGEST_METADATA:
        raise InvalidInputError(f"metadata: expected {LONGEST_METADATA} bytes at most, got {size}")
    return metadata


def check_digest(value: object) -> str | None:
    """Return `value` in lower case if it is None or a SHA-256 digest in hexadecimal."""
    if value is None:
        return None
    text = check_text(value, "sha256").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise InvalidInputError("sha256: expected 64 hexadecimal digits")
    return text


def _check_path(value: object, at: str) -> str:
    text = check_text(value, at, maximum=LONGEST_KEY)
    if (size := len(text.encode())) > LONGEST_KEY:
        raise InvalidInputError(f"{at}: expected {LONGEST_KEY} bytes at most, got {size}")
    if "\\" in text:
        raise InvalidInputError(f'{at}: expected "/" between segments and no backslash, got {text!r}')
    return text


def _check_segment(segment: str, key: str, at: str) -> None:
    if segment in ("", ".", ".."):
        raise InvalidInputError(
            f'{at}: expected segments with "/" between them, none of which is empty, "." or "..", got {key!r}'
        )
    if (size := len(segment.encode())) > LONGEST_SEGMENT:
        raise InvalidInputError(f"{at}: expected segments of {LONGEST_SEGMENT} bytes at most, got one of {size}")


def _metadata_name(name: object) -> str:
    text = check_text(name, "metadata", maximum=128)
    if not _METADATA_NAME.fullmatch(text):
        raise InvalidInputError(f"metadata: expected names of a-z, 0-9, '-' and '_', got {text!r}")
    return text


def _metadata_value(name: object, value: object) -> str:
    return "" if value == "" else check_text(value, f"metadata[{name!r}]", maximum=LONGEST_METADATA)
