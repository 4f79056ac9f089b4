"""Links, and hostile keys."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pilotis.errors import InvalidInputError, UnsupportedError
from pilotis.providers import FileCapability, FileProvider

from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import Colour
from pilotis_testing.file_base import LARGE, FileTests, has, keys

HOSTILE = (
    "../escape", "a/../../escape", "/etc/passwd", "a//b", "a/", "./a", "a/.", "..", ".", "", "a\0b", "a\nb", "a\\..\\b",
    "\ud800", "x" * 1025, "x" * 256, "ä" * 600, "\x7f",
)  # fmt: skip
"""Keys that every provider refuses."""

ODD = (
    " ", "~", "...", "-rf", "a b", "a%2e%2e/b", "%00", "CON", "a:b", "*", "?x=1#y", "é", "e\u0301", "日本", "🙂",
    "\u202eabc", "'\"<>|", "x" * 255, ".hidden", "$(id)", "a+b&c=d",
)  # fmt: skip
"""Keys that look dangerous, and are not."""


class LinkTests(FileTests):
    @pytest.mark.parametrize("key", HOSTILE)
    async def test_hostile_keys_are_refused(self, files: Any, key: str) -> None:
        """A key that could lead astray is an `InvalidInputError` for every verb, before anything is done."""
        for call in (
            lambda: files.put(key, b""),
            lambda: files.read(key),
            lambda: files.stat(key),
            lambda: files.exists(key),
            lambda: files.delete(key),
            lambda: files.copy(key, "a"),
            lambda: files.move("a", key),
            lambda: files.url(key),
            lambda: files.signed_upload(key),
            lambda: anext(files.stream(key)),
        ):
            with pytest.raises(InvalidInputError):
                await call()
        with pytest.raises(InvalidInputError):
            files.writer(key)

    @pytest.mark.parametrize("key", ODD)
    async def test_odd_keys_round_trip(self, files: Any, key: str) -> None:
        """A key that merely looks odd is stored, listed and read as it is, also as a folder."""
        await files.put(f"{key}/file", key.encode())
        assert [f"{key}/file"] == await keys(files)
        assert key.encode() == await files.read(f"{key}/file")

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @example(key="a/..").via("a way out")
    @given(key=st.text(max_size=40) | st.text(alphabet="./\\~\0a ", max_size=12))
    def test_any_key_is_refused_or_round_trips(self, files: Any, colour: Colour, key: str) -> None:
        """Whatever the key: `InvalidInputError`, or it is listed and read as it was put."""
        colour.run(_refused_or_round_trips(files, key))

    # Links

    async def test_links_are_refused_where_undeclared(self, files: Any, provider: FileProvider) -> None:
        """Without SIGNED_LINKS there are no links; without SERVED_LINKS no app serves them."""
        if not has(provider, FileCapability.SIGNED_LINKS):
            for call in (files.url, files.signed_upload):
                with pytest.raises(UnsupportedError, match="SIGNED_LINKS"):
                    await call("a.txt")
        if not has(provider, FileCapability.SERVED_LINKS):
            for make in (files.wsgi, files.asgi):
                with pytest.raises(UnsupportedError, match="SERVED_LINKS"):
                    make()

    async def test_a_link_reads_until_it_expires(self, files: Any, provider: FileProvider, clock: ManualClock) -> None:
        """A signed link serves its file until `expires` seconds have passed."""
        if not has(provider, FileCapability.SERVED_LINKS):
            return
        await files.put("a b/ä%.txt", b"hello")
        url = await files.url("a b/ä%.txt", expires=60)
        clock.advance(59)
        answer = await ask(files, "GET", url)
        assert (200, b"hello") == (answer.status, answer.body)
        clock.advance(1)
        assert 403 == (await ask(files, "GET", url)).status

    async def test_a_link_is_for_one_file_only(self, files: Any, provider: FileProvider) -> None:
        """A link serves neither another key nor another method, nor anything once it was altered."""
        if not has(provider, FileCapability.SERVED_LINKS):
            return
        await files.put("a.txt", b"hello")
        await files.put("b.txt", b"secret")
        url = await files.url("a.txt", expires=60)
        path, _, query = url.partition("?")
        for altered in (
            url.replace("a.txt", "b.txt"), path, f"{path}?{query}&max=1", f"{path}?{query[::-1]}", f"{url}x",
            url.replace("expires=", "expires=9"), f"{path}?{query.replace('signature', 'sig')}",
        ):  # fmt: skip
            assert 403 == (await ask(files, "GET", altered)).status, altered
        assert 403 == (await ask(files, "PUT", url, b"new")).status
        assert b"hello" == await files.read("a.txt")

    async def test_a_link_to_nothing(self, files: Any, provider: FileProvider) -> None:
        """A good link to a file that is absent is answered with 404."""
        if has(provider, FileCapability.SERVED_LINKS):
            assert 404 == (await ask(files, "GET", await files.url("nothing"))).status

    async def test_public_files_have_lasting_links(
        self, files: Any, provider: FileProvider, clock: ManualClock
    ) -> None:
        """A link that never expires serves public files, and no private ones."""
        if not has(provider, FileCapability.SERVED_LINKS):
            return
        await files.put("public.txt", b"1", access="public")
        await files.put("private.txt", b"2")
        clock.advance(10**8)
        assert b"1" == (await ask(files, "GET", await files.url("public.txt", expires=None))).body
        assert 403 == (await ask(files, "GET", await files.url("private.txt", expires=None))).status
        assert 403 == (await ask(files, "GET", await files.url("nothing.txt", expires=None))).status

    async def test_an_upload_is_stored(self, files: Any, provider: FileProvider) -> None:
        """What is sent as a signed upload says is stored, whole, with the type that was signed."""
        if not has(provider, FileCapability.SERVED_LINKS):
            return
        upload = await files.signed_upload("in/a.png", content_type="image/png", max_size=len(LARGE))
        answer = await ask(files, upload.method, upload.url, LARGE, upload.headers)
        assert 201 == answer.status
        assert LARGE == await files.read("in/a.png")
        info = await files.stat("in/a.png")
        assert ("image/png", "private", f'"{info.etag}"') == (info.content_type, info.access, answer.headers["etag"])

    async def test_an_upload_is_bound(self, files: Any, provider: FileProvider, clock: ManualClock) -> None:
        """Another key, type or time is refused with 403, too many bytes with 413, and nothing is stored."""
        if not has(provider, FileCapability.SERVED_LINKS):
            return
        upload = await files.signed_upload("a.png", content_type="image/png", max_size=10, expires=60)
        kind = upload.headers
        assert 403 == (await ask(files, "PUT", upload.url.replace("a.png", "b.png"), b"1", kind)).status
        assert 403 == (await ask(files, "PUT", upload.url, b"1", {"Content-Type": "text/html"})).status
        assert 403 == (await ask(files, "PUT", upload.url.replace("max=10", "max=1000"), b"1", kind)).status
        assert 403 == (await ask(files, "GET", upload.url)).status
        assert 413 == (await ask(files, "PUT", upload.url, b"x" * 11, kind)).status
        clock.advance(61)
        assert 403 == (await ask(files, "PUT", upload.url, b"1", kind)).status
        assert [] == await keys(files)


class Reply(NamedTuple):
    """What the web app answered. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


async def ask(files: Any, method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
    """Ask the web app of the file store: by WSGI in blocking use, by ASGI under a loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _ask_wsgi(files.wsgi(), method, url, body, headers or {})
    return await _ask_asgi(files.asgi(), method, url, body, headers or {})


def _ask_wsgi(app: Any, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
    from io import BytesIO
    from wsgiref.util import setup_testing_defaults
    from wsgiref.validate import validator

    parts = urlsplit(url)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(parts.path).encode().decode("latin-1"),
        "QUERY_STRING": parts.query,
        "wsgi.input": BytesIO(body),
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()},
    }
    if body:
        environ["CONTENT_LENGTH"] = str(len(body))
    if kind := environ.pop("HTTP_CONTENT_TYPE", None):
        environ["CONTENT_TYPE"] = kind
    setup_testing_defaults(environ)
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], error: object = None) -> Any:
        started.append((status, headers))
        return list[bytes]().append

    answer: Any = validator(app)(environ, start_response)
    try:
        content = b"".join(answer)
    finally:
        answer.close()
    status, sent = started[0]
    return Reply(int(status.split()[0]), {name.lower(): value for name, value in sent}, content)


async def _ask_asgi(app: Any, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
    parts = urlsplit(url)
    sent: list[dict[str, Any]] = []
    halves = [body[: len(body) // 2], body[len(body) // 2 :]]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": halves.pop(0), "more_body": bool(halves)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": unquote(parts.path),
        "query_string": parts.query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    await app(scope, receive, send)
    start, *content = sent
    told = {name.decode(): value.decode() for name, value in start["headers"]}
    return Reply(start["status"], told, b"".join(message["body"] for message in content))


async def _refused_or_round_trips(files: Any, key: str) -> None:
    try:
        await files.put(key, b"content")
    except InvalidInputError:
        return
    assert [key] == await keys(files)
    assert b"content" == await files.read(key)
    await files.delete(key)
    assert [] == await keys(files)
