"""Links, and hostile keys."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pilotis.bridge import run_blocking
from pilotis.errors import InvalidInputError, UnsupportedError
from pilotis.providers import FileCapability, FileProvider, SignedUpload

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
        if not has(provider, FileCapability.SIGNED_LINKS):
            return
        await files.put("a b/ä%.txt", b"hello")
        url = await files.url("a b/ä%.txt", expires=60)
        clock.advance(50)
        answer = await ask(files, "GET", url)
        assert (200, b"hello") == (answer.status, answer.body)
        clock.advance(10)
        assert 403 == (await ask(files, "GET", url)).status

    async def test_a_link_may_name_what_is_saved(self, files: Any, provider: FileProvider) -> None:
        """With `download_as` the answer tells a browser to save the file under that name, whatever is in it."""
        if not has(provider, FileCapability.SIGNED_LINKS):
            return
        await files.put("a.txt", b"hello")
        for name, quoted in (('Zoë\'s "bill".txt', "Zo%C3%AB%27s%20%22bill%22.txt"), ("a%0d.txt", "a%250d.txt")):
            answer = await ask(files, "GET", await files.url("a.txt", download_as=name))
            assert answer.headers["content-disposition"].startswith("attachment; ")
            assert answer.headers["content-disposition"].endswith(f"filename*=UTF-8''{quoted}")

    async def test_a_link_is_for_one_file_only(self, files: Any, provider: FileProvider) -> None:
        """A link serves neither another key nor another method, nor anything once it was altered."""
        if not has(provider, FileCapability.SIGNED_LINKS):
            return
        await files.put("a.txt", b"hello")
        await files.put("b.txt", b"secret")
        url = await files.url("a.txt", expires=60)
        for altered in (url.replace("a.txt", "b.txt"), url.partition("?")[0], *altered_queries(url)):
            assert (await ask(files, "GET", altered)).status in REFUSED, altered
        assert (await ask(files, "PUT", url, b"new")).status in REFUSED
        assert b"hello" == await files.read("a.txt")

    async def test_a_link_to_nothing(self, files: Any, provider: FileProvider) -> None:
        """A good link to a file that is absent is answered with 404."""
        if has(provider, FileCapability.SIGNED_LINKS):
            assert 404 == (await ask(files, "GET", await files.url("nothing"))).status

    async def test_public_files_have_lasting_links(
        self, files: Any, provider: FileProvider, clock: ManualClock
    ) -> None:
        """A link that never expires serves public files, and no private ones."""
        if not has(provider, FileCapability.SIGNED_LINKS):
            return
        await files.put("public.txt", b"1", access="public")
        await files.put("private.txt", b"2")
        clock.advance(10**8)
        assert b"1" == (await ask(files, "GET", await files.url("public.txt", expires=None))).body
        assert 403 == (await ask(files, "GET", await files.url("private.txt", expires=None))).status
        assert 403 == (await ask(files, "GET", await files.url("nothing.txt", expires=None))).status

    @pytest.mark.parametrize("size", [None, len(LARGE)], ids=["of any size", "with a greatest size"])
    async def test_an_upload_is_stored(self, files: Any, provider: FileProvider, size: int | None) -> None:
        """What is sent as a signed upload says is stored, whole, with the type that was signed."""
        if not has(provider, FileCapability.SIGNED_LINKS):
            return
        upload = await files.signed_upload("in/a.png", content_type="image/png", max_size=size)
        answer = await send(files, upload, LARGE)
        assert answer.status in STORED
        assert LARGE == await files.read("in/a.png")
        info = await files.stat("in/a.png")
        assert ("image/png", "private") == (info.content_type, info.access)
        if upload.method == "PUT":
            assert f'"{info.etag}"' == answer.headers["etag"]

    @pytest.mark.parametrize("size", [None, 10], ids=["of any size", "with a greatest size"])
    async def test_an_upload_is_bound(
        self, files: Any, provider: FileProvider, clock: ManualClock, size: int | None
    ) -> None:
        """Another key, type, size or time is refused, and nothing is stored."""
        if not has(provider, FileCapability.SIGNED_LINKS):
            return
        upload = await files.signed_upload("a.png", content_type="image/png", max_size=size, expires=60)
        for altered in (renamed(upload, "a.png", "b.png"), of_type(upload, "text/html"), enlarged(upload)):
            if altered != upload:
                assert (await send(files, altered, b"1")).status in REFUSED, altered
        assert (await ask(files, "GET", upload.url)).status in REFUSED
        if size is not None:
            assert (await send(files, upload, b"x" * 11)).status in TOO_LARGE
        clock.advance(61)
        assert 403 == (await send(files, upload, b"1")).status
        assert [] == await keys(files)


REFUSED = (400, 403)
STORED = (200, 201, 204)
TOO_LARGE = (400, 413)
BOUNDARY = "a-boundary-that-occurs-in-no-file"


def altered_queries(url: str) -> Iterator[str]:
    """Yield the link with each parameter of its query left out or changed, and with others."""
    path, _, query = url.partition("?")
    pairs = query.split("&")
    for index, pair in enumerate(pairs):
        others = pairs[:index] + pairs[index + 1 :]
        yield f"{path}?{'&'.join(others)}"
        yield f"{path}?{'&'.join([*others, f'{pair}1'])}"
    yield f"{path}?{query}&max=1"
    yield f"{path}?{query[::-1]}"


def renamed(upload: SignedUpload, old: str, new: str) -> SignedUpload:
    """Return the upload for another key, as somebody might try."""
    fields = {name: value.replace(old, new) for name, value in upload.fields.items()}
    return msgspec.structs.replace(upload, url=upload.url.replace(old, new), fields=fields)


def of_type(upload: SignedUpload, kind: str) -> SignedUpload:
    """Return the upload with another type of content."""
    headers, fields = ({**upload.headers, "Content-Type": kind}, upload.fields)
    if upload.method == "POST":
        headers, fields = (upload.headers, {**upload.fields, "Content-Type": kind})
    return msgspec.structs.replace(upload, headers=headers, fields=fields)


def enlarged(upload: SignedUpload) -> SignedUpload:
    """Return the upload with a greatest size of 1000 where it was 10."""
    fields = dict(upload.fields)
    if "policy" in fields:
        policy = b64decode(fields["policy"]).replace(b"0, 10]", b"0, 1000]")
        fields["policy"] = b64encode(policy).decode()
    return msgspec.structs.replace(upload, url=upload.url.replace("max=10", "max=1000"), fields=fields)


class Reply(NamedTuple):
    """What the web app answered. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


async def ask(files: Any, method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
    """Ask whoever serves the links: the web app of the file store, by WSGI or ASGI as is the colour, or the backend."""
    if FileCapability.SERVED_LINKS not in files.capabilities:
        return await run_blocking(_ask_http, method, url, body, headers or {})
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _ask_wsgi(files.wsgi(), method, url, body, headers or {})
    return await _ask_asgi(files.asgi(), method, url, body, headers or {})


async def send(files: Any, upload: SignedUpload, body: bytes) -> Reply:
    """Do what a signed upload says."""
    if upload.method != "POST":
        return await ask(files, upload.method, upload.url, body, upload.headers)
    parts = [_part(f'name="{name}"', value.encode()) for name, value in upload.fields.items()]
    parts.append(_part('name="file"; filename="a"', body))
    form = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    return await ask(files, "POST", upload.url, form, {**upload.headers, "Content-Type": kind})


def _part(name: str, value: bytes) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {name}\r\n\r\n"
    return head.encode() + value + b"\r\n"


def _ask_http(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = HTTPConnection(parts.hostname, parts.port, timeout=30)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body, dict(headers))
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, told, answer.read())
    finally:
        connection.close()


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
