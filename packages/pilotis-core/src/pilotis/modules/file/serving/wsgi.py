"""The web app for WSGI servers (PEP 3333)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pilotis.bridge import run_blocking
from pilotis.modules.file.portable import FileStore
from pilotis.modules.file.serving.http import REASONS, Answer, Request, plain
from pilotis.modules.file.serving.site import ClientGoneError, Site
from pilotis.modules.file.sources import Source
from pilotis.modules.file.types import CHUNK_SIZE

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class WsgiApp:
    """Serves the links of a file store."""

    def __init__(self, store: FileStore) -> None:
        self._site = Site(store)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        answer = self._answer(environ)
        start_response(f"{answer.status} {REASONS[answer.status]}", answer.headers)
        if environ["REQUEST_METHOD"] == "HEAD":
            return []
        return [answer.text] if answer.part is None else self._site.body(answer.part)

    def _answer(self, environ: Environ) -> Answer:
        try:
            request, body = _request(environ), _body(environ)
        except ValueError:
            return plain(400, "The request cannot be read.")
        if request.method == "PUT" and body.size is None and not environ.get("wsgi.input_terminated"):
            return plain(411, "Say how long the body is.")
        try:
            answer = self._site.answer(request, body)
        except ClientGoneError:
            return plain(400, "The body is shorter than announced.")
        body.drain()
        return answer


def _request(environ: Environ) -> Request:
    root, path = (_decoded(environ.get(name, "")) for name in ("SCRIPT_NAME", "PATH_INFO"))
    headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
    if environ.get("CONTENT_TYPE"):
        headers["content-type"] = environ["CONTENT_TYPE"]
    return Request(
        method=environ["REQUEST_METHOD"],
        path=root + path,
        local_path=path,
        query=environ.get("QUERY_STRING", ""),
        headers=headers,
    )


def _decoded(text: str) -> str:
    return text.encode("latin-1").decode()  # WSGI passes bytes as if they were Latin-1


def _body(environ: Environ) -> _Body:
    length = environ.get("CONTENT_LENGTH") or None
    size = None if length is None else int(length)
    if size is not None and size < 0:
        raise ValueError(length)
    return _Body(environ["wsgi.input"], size)


DRAINED = 4 * CHUNK_SIZE


class _Body(Source):
    """The body of a request, no further than it was announced to reach: beyond, a read would wait for ever."""

    def __init__(self, stream: Any, size: int | None) -> None:
        self._stream = stream
        self._left = size
        self.size = size

    async def pull(self) -> bytes:
        wanted = CHUNK_SIZE if self._left is None else min(CHUNK_SIZE, self._left)
        chunk: bytes = await run_blocking(self._stream.read, wanted) if wanted else b""
        if self._left is not None:
            self._left -= len(chunk)
            if not chunk and self._left:
                raise ClientGoneError
        return chunk

    def drain(self) -> None:
        """Read what is left of a refused body, 4 MiB at most: many clients look for the answer after sending it."""
        left = min(self._left or 0, DRAINED)
        while left and (chunk := self._stream.read(min(CHUNK_SIZE, left))):
            left -= len(chunk)
