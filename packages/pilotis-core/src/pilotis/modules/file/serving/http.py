"""The parts of HTTP that serving files needs."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from pilotis.modules.file.types import FileInfo

Headers = list[tuple[str, str]]

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_ETAG = re.compile(r'(?:W/)?"([^"]*)"')

GUARDS: Headers = [
    ("Content-Security-Policy", "default-src 'none'; sandbox"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
]
"""What keeps a file that somebody uploaded from acting as a page of the site, and its link from leaking."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked. `path` is decoded and whole; `local_path` is what is left below the mount point."""

    method: str
    path: str
    local_path: str
    query: str
    headers: Mapping[str, str]
    """By name in lower case."""


class Part(msgspec.Struct, frozen=True):
    """A range of a file: `end` is not included."""

    key: str
    start: int
    end: int


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What is answered: a part of a file, or else a short text."""

    status: int
    headers: Headers
    part: Part | None = None
    text: bytes = b""


REASONS = {
    200: "OK",
    201: "Created",
    206: "Partial Content",
    304: "Not Modified",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    411: "Length Required",
    413: "Content Too Large",
    416: "Range Not Satisfiable",
    507: "Insufficient Storage",
}


def plain(status: int, line: str, *more: tuple[str, str]) -> Answer:
    """Answer with a line of text, such as an error."""
    text = f"{line}\n".encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text))), *more, *GUARDS]
    return Answer(status=status, headers=headers, text=text)


def file_headers(info: FileInfo, download_as: str | None) -> Headers:
    """Return the headers that go with a file, or a part of it."""
    return [
        *version_headers(info),
        ("Accept-Ranges", "bytes"),
        ("Content-Type", info.content_type),
        ("Content-Disposition", disposition(download_as)),
        ("Last-Modified", _http_date(info.modified.timestamp())),
        *GUARDS,
    ]


def version_headers(info: FileInfo) -> Headers:
    """Return the headers that tell one version from another, and who may keep it."""
    audience = "public" if info.access == "public" else "private"
    return [("ETag", f'"{info.etag}"'), ("Cache-Control", f"{audience}, no-cache")]


def disposition(download_as: str | None) -> str:
    """Return how a browser treats the file: shown, or saved under a name (RFC 6266, with the fallback in ASCII)."""
    from urllib.parse import quote

    if download_as is None:
        return "inline"
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in download_as)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(download_as, safe='')}"


def is_current(headers: Mapping[str, str], etag: str) -> bool:
    """Tell whether the client has this version already (`If-None-Match`, RFC 9110, 13.1.2)."""
    wanted = headers.get("if-none-match", "")
    return wanted.strip() == "*" or etag in _ETAG.findall(wanted)


def requested_range(headers: Mapping[str, str], info: FileInfo) -> tuple[int, int] | None:
    """Return the range that is asked for, its end not included; None for the whole file.

    As RFC 9110, 14.2 allows, what is not one range of bytes is taken for none, and so is a range for another version
    (`If-Range`). A range that holds nothing of the file comes back with its end not after its start.
    """
    found = _RANGE.fullmatch(headers.get("range", "").strip())
    if found is None or headers.get("if-range", f'"{info.etag}"').strip() != f'"{info.etag}"':
        return None
    return _range(found[1], found[2], info.size)


def _range(first: str, last: str, size: int) -> tuple[int, int] | None:
    if not first:
        return (max(size - int(last), 0), size) if last else None
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size) if last else size


def _http_date(timestamp: float) -> str:
    from email.utils import formatdate

    return formatdate(timestamp, usegmt=True)
