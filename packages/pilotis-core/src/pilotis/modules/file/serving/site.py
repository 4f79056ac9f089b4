"""What the web app does, whichever way it is served."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from pilotis.bridge import blocking, blocking_iterator
from pilotis.errors import ConflictError, InvalidInputError, NotFoundError, PermissionDeniedError, StorageFullError
from pilotis.modules.file.checks import check_key
from pilotis.modules.file.links import Links, read_link
from pilotis.modules.file.portable import FileStore
from pilotis.modules.file.serving.http import (
    Answer,
    Headers,
    Part,
    Request,
    file_headers,
    is_current,
    plain,
    requested_range,
    version_headers,
)
from pilotis.modules.file.sources import Source
from pilotis.modules.file.types import FileInfo, Link, Method


class ClientGoneError(Exception):
    """The client went away, or sent less than it had announced."""


class CutShortError(Exception):
    """What is being sent has fewer bytes than were announced."""


class TooLargeError(Exception):
    """The body has more bytes than the link allows."""


class Bounded(Source):
    """A body that must not have more bytes than the link allows."""

    def __init__(self, body: Source, maximum: int) -> None:
        self._body = body
        self._left = maximum
        self.size = body.size

    async def pull(self) -> bytes:
        chunk = await self._body.pull()
        self._left -= len(chunk)
        if self._left < 0:
            raise TooLargeError
        return chunk


class Site:
    """Answers requests for the links of one file store."""

    def __init__(self, store: FileStore) -> None:
        self._store = store

    async def aanswer(self, request: Request, body: Source) -> Answer:
        """Answer a request. `body` is read for an upload that is allowed, and for nothing else."""
        if request.method not in ("GET", "HEAD", "PUT"):
            return plain(405, "Only GET, HEAD and PUT are served here.", ("Allow", "GET, HEAD, PUT"))
        links = await self._store.alinks()
        key = _key(request, links)
        if key is None:
            return plain(404, "There is no such file.")
        link = self._allowed(request, links, key)
        if request.method == "PUT":
            return _NO_LINK if link is None else await self._receive(request, link, body)
        return await self._show(request, key, link)

    answer = blocking(aanswer)

    async def abody(self, part: Part) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a part, exactly as many as were announced.

        Raises `CutShortError` if the file shrank meanwhile, so that the connection breaks, and nobody takes the
        beginning for the whole.
        """
        left = part.end - part.start
        source = self._store.astream(part.key, start=part.start, end=part.end)
        try:
            async for chunk in source:
                yield chunk
                left -= len(chunk)
        finally:
            await source.aclose()
        if left:
            raise CutShortError(f"{part.key!r} became shorter while it was being sent")

    body = blocking_iterator(abody)

    def _allowed(self, request: Request, links: Links, key: str) -> Link | None:
        """Return what the signed link of the request allows, or None where it is not good."""
        method: Method = "PUT" if request.method == "PUT" else "GET"
        found = read_link(method, key, request.query)
        if found is None or not links.verify(*found):
            return None
        link = found[0]
        return link if link.expires is not None and self._store.context.clock.time() < link.expires else None

    async def _show(self, request: Request, key: str, link: Link | None) -> Answer:
        try:
            info = await self._store.astat(key)
        except (NotFoundError, InvalidInputError, PermissionDeniedError):  # the last two: a key it cannot have
            return _NO_LINK if link is None else plain(404, "There is no such file.")
        if link is None and (request.query or info.access != "public"):
            return _NO_LINK
        if is_current(request.headers, info.etag):
            return Answer(status=304, headers=version_headers(info))
        return _content(request, info, file_headers(info, link.download_as if link else None))

    async def _receive(self, request: Request, link: Link, body: Source) -> Answer:
        content_type = request.headers.get("content-type")
        if link.content_type not in (None, content_type):
            return plain(403, "The link is for another content type.")
        if link.max_size is not None:
            if body.size is not None and body.size > link.max_size:
                return _too_large(link.max_size)
            body = Bounded(body, link.max_size)
        return await self._keep(link, content_type, body)

    async def _keep(self, link: Link, content_type: str | None, body: Source) -> Answer:
        try:
            info = await self._store.aput(link.key, body, content_type=content_type)
        except TooLargeError:
            return _too_large(link.max_size)
        except InvalidInputError as error:
            return plain(400, str(error))
        except PermissionDeniedError:
            return plain(403, "A file cannot be stored here.")
        except ConflictError:
            return plain(409, "The key is a folder of other files, or one of its folders is a file.")
        except StorageFullError:
            return plain(507, "There is no room for the file.")
        return plain(201, "Stored.", ("ETag", f'"{info.etag}"'))


_NO_LINK = plain(403, "The link is not good, or not any more.")


def _key(request: Request, links: Links) -> str | None:
    below = f"{links.base}/"
    path = request.path.removeprefix(below) if request.path.startswith(below) else request.local_path.lstrip("/")
    try:
        return check_key(path)
    except InvalidInputError:
        return None


def _content(request: Request, info: FileInfo, headers: Headers) -> Answer:
    wanted = requested_range(request.headers, info)
    start, end = wanted or (0, info.size)
    if wanted is not None and start >= end:
        return plain(416, "The file has no such range.", ("Content-Range", f"bytes */{info.size}"))
    headers = [*headers, ("Content-Length", str(end - start))]
    if wanted is not None:
        headers.append(("Content-Range", f"bytes {start}-{end - 1}/{info.size}"))
    part = None if request.method == "HEAD" or start == end else Part(info.key, start, end)
    return Answer(status=200 if wanted is None else 206, headers=headers, part=part)


def _too_large(maximum: int | None) -> Answer:
    return plain(413, f"The link is for {maximum} bytes at most.")
