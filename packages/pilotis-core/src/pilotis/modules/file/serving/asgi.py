"""The web app for ASGI servers (ASGI 3, `http` scope)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pilotis.context import Context
from pilotis.modules.file.portable import FileStore
from pilotis.modules.file.serving.http import Answer, Request, plain
from pilotis.modules.file.serving.site import ClientGoneError, Site
from pilotis.modules.file.sources import AsyncSource
from pilotis.modules.file.types import CHUNK_SIZE

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class AsgiApp:
    """Serves the links of a file store."""

    def __init__(self, store: FileStore) -> None:
        self._context = store.context
        self._site = Site(store)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"links are served over http, not {scope['type']}")
        try:
            answer = await self._answer(scope, receive)
        except ClientGoneError:
            return  # nobody waits for an answer
        await self._send(answer, scope["method"] == "HEAD", send)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        try:
            request, size = _request(scope), _size(scope)
        except ValueError:
            return plain(400, "The request cannot be read.")
        return await self._site.aanswer(request, _Body(receive, size, self._context))

    async def _send(self, answer: Answer, head: bool, send: Send) -> None:
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        if answer.part is not None and not head:
            body = self._site.abody(answer.part)
            try:
                async for chunk in body:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            finally:
                await body.aclose()
        await send({"type": "http.response.body", "body": b"" if head else answer.text})


def _request(scope: Scope) -> Request:
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    local_path = path.removeprefix(root) if path.startswith(f"{root}/") else path
    return Request(
        method=scope["method"],
        path=root + local_path,
        local_path=local_path,
        query=scope.get("query_string", b"").decode("ascii"),
        headers=_headers(scope),
    )


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _size(scope: Scope) -> int | None:
    length = _headers(scope).get("content-length")
    if length is None:
        return None
    if not (length.isascii() and length.isdigit()):
        raise ValueError(length)
    return int(length)


class _Body(AsyncSource):
    """The body of a request, message by message."""

    def __init__(self, receive: Receive, size: int | None, context: Context) -> None:
        super().__init__()
        self._receive = receive
        self._runtime = context.runtime
        self._more = True
        self.size = size

    async def pull(self) -> bytes:
        return await self.at_home(self._gather, self._runtime)

    async def _gather(self) -> bytes:
        gathered = bytearray()
        while self._more and len(gathered) < CHUNK_SIZE:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            gathered += message.get("body", b"")
            self._more = message.get("more_body", False)
        return bytes(gathered)
