"""Links, served over a real socket by WSGI, and by ASGI message by message."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from pilotis.modules.file import FileStore
from pilotis.providers import Context
from pilotis.settings.secrets import Secret
from pilotis_file_local import LocalFiles, LocalFilesOptions
from pilotis_testing import ManualClock
from pilotis_testing.clock import until

CONTENT = bytes(range(256)) * 8192
"""Two MiB."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of the files."""
    return tmp_path / "files"


@pytest.fixture
def files(root: Path, clock: ManualClock) -> FileStore:
    """A store whose links are served under `/files`."""
    options = LocalFilesOptions(root=str(root), fsync=False, public_url="https://shop.example/files")
    return FileStore(LocalFiles(options), context=Context(clock=clock))


class Quiet(WSGIRequestHandler):
    """A request handler that writes no log."""

    def log_message(self, format: str, *args: Any) -> None:
        return


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Server:
    """A real server on a port of its own."""

    def __init__(self, files: FileStore) -> None:
        self._server = make_server("127.0.0.1", 0, files.wsgi(), handler_class=Quiet)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def ask(self, method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, f"{parts.path}?{parts.query}", body, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server(files: FileStore) -> Iterator[Server]:
    """A server of the links of `files`."""
    server = Server(files)
    yield server
    server.close()


def drafts(root: Path) -> list[str]:
    """Return what is left of writers; a folder may vanish while this looks."""
    return [name for _, _, names in os.walk(root) for name in names if name.startswith(".pilotis-draft-")]


# WSGI


def test_keys_that_no_file_can_have(files: FileStore, server: Server, root: Path) -> None:
    """A request for our own files, for a link or across a file is refused, and does not break the app."""
    files.put("folder/a", b"a")
    (root / "link").symlink_to("/etc")
    for path in (".pilotis/secret", "link/passwd", "folder", "folder/a/b"):
        assert 403 == server.ask("GET", f"/files/{path}").status
    signed = [("folder", 409), ("folder/a/b", 409), ("link/x", 403), (".pilotis/secret", 400)]
    for key, status in signed:
        upload = files.signed_upload(key)
        assert status == server.ask(upload.method, upload.url, b"x").status
    for key, _ in signed:
        assert 404 == server.ask("GET", files.url(key)).status
    assert [] == drafts(root)


def test_a_file_is_served_whole(files: FileStore, server: Server) -> None:
    """A link answers with content, type, version and the headers that make a browser treat it as a foreign file."""
    info = files.put("a b/ä.html", CONTENT, content_type="text/html; charset=utf-8")
    answer = server.ask("GET", files.url("a b/ä.html"))
    assert (200, CONTENT) == (answer.status, answer.body)
    assert {
        "content-type": "text/html; charset=utf-8",
        "content-length": str(len(CONTENT)),
        "etag": f'"{info.etag}"',
        "accept-ranges": "bytes",
        "content-disposition": "inline",
        "content-security-policy": "default-src 'none'; sandbox",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "private, no-cache",
        "last-modified": "Thu, 01 Jan 2026 00:00:00 GMT",
    }.items() <= answer.headers.items()


def test_head_is_get_without_content(files: FileStore, server: Server) -> None:
    """HEAD has the headers of GET, ranges included, and no body."""
    files.put("a.bin", CONTENT)
    for headers in ({}, {"Range": "bytes=5-9"}):
        got, head = (server.ask(method, files.url("a.bin"), headers=headers) for method in ("GET", "HEAD"))
        assert b"" == head.body
        assert got.status == head.status
        for name in ("content-length", "content-type", "etag", "content-range"):
            assert got.headers.get(name) == head.headers.get(name)


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        ("bytes=2097150-", 2097150, 2097152),
        ("bytes=2097150-99999999", 2097150, 2097152),
        ("bytes=-3", 2097149, 2097152),
        ("bytes=-99999999", 0, 2097152),
    ],
)
def test_ranges(files: FileStore, server: Server, wanted: str, start: int, end: int) -> None:
    """One range of bytes is answered with 206 and that part."""
    files.put("a.bin", CONTENT)
    answer = server.ask("GET", files.url("a.bin"), headers={"Range": wanted})
    assert (206, CONTENT[start:end]) == (answer.status, answer.body)
    assert f"bytes {start}-{end - 1}/{len(CONTENT)}" == answer.headers["content-range"]


@pytest.mark.parametrize("wanted", ["bytes=2097152-", "bytes=9999999-99999999", "bytes=-0"])
def test_ranges_that_hold_nothing(files: FileStore, server: Server, wanted: str) -> None:
    """A range outside of the file is answered with 416 and the size."""
    files.put("a.bin", CONTENT)
    answer = server.ask("GET", files.url("a.bin"), headers={"Range": wanted})
    assert (416, f"bytes */{len(CONTENT)}") == (answer.status, answer.headers["content-range"])


@pytest.mark.parametrize("wanted", ["bytes=9-5", "bytes=-", "lines=1-2", "bytes=a-b", "bytes=0-1,5-6", "bytes=٣-٤"])
def test_what_is_no_range_is_ignored(files: FileStore, server: Server, wanted: str) -> None:
    """A header that is not one range of bytes is answered with the whole file."""
    files.put("a.bin", b"hello")
    answer = server.ask("GET", files.url("a.bin"), headers={"Range": wanted.encode().decode("latin-1")})
    assert (200, b"hello") == (answer.status, answer.body)


def test_a_range_of_another_version_is_ignored(files: FileStore, server: Server) -> None:
    """`If-Range` with the present version gives the range, with any other the whole file."""
    etag = files.put("a.bin", b"hello").etag
    url, wanted = files.url("a.bin"), {"Range": "bytes=1-2"}
    assert b"el" == server.ask("GET", url, headers={**wanted, "If-Range": f'"{etag}"'}).body
    assert b"hello" == server.ask("GET", url, headers={**wanted, "If-Range": '"other"'}).body


def test_what_the_client_has_is_not_sent_again(files: FileStore, server: Server) -> None:
    """`If-None-Match` with the present version is answered with 304, without content; with others, in full."""
    etag = files.put("a.bin", b"hello").etag
    url = files.url("a.bin")
    for known in (f'"{etag}"', f'W/"{etag}"', f'"x", "{etag}"', "*"):
        answer = server.ask("GET", url, headers={"If-None-Match": known})
        assert (304, b"", f'"{etag}"') == (answer.status, answer.body, answer.headers["etag"])
    assert 200 == server.ask("GET", url, headers={"If-None-Match": '"x", W/"y"'}).status


def test_downloads_have_a_name(files: FileStore, server: Server) -> None:
    """With `download_as` the file is an attachment, under a name of any letters, which cannot break out."""
    files.put("a.pdf", b"hello")
    answer = server.ask("GET", files.url("a.pdf", download_as='Größe; "50%".pdf'))
    expected = "attachment; filename=\"Gr__e; _50__.pdf\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%3B%20%2250%25%22.pdf"
    assert expected == answer.headers["content-disposition"]


def test_other_methods(files: FileStore, server: Server) -> None:
    """What is not GET, HEAD or PUT is answered with 405."""
    answer = server.ask("DELETE", files.url("a.pdf"))
    assert (405, "GET, HEAD, PUT") == (answer.status, answer.headers["allow"])


@pytest.mark.parametrize("path", ["/files/../x", "/files/a%00b", "/files/a%5Cb", "/files/", "/", "/files/%FF", "/x//y"])
def test_paths_that_are_no_keys(server: Server, path: str) -> None:
    """A path that cannot be a key is refused."""
    assert server.ask("GET", f"{path}?expires=99999999999&signature=x").status in (400, 404)


def test_an_upload_over_a_socket(files: FileStore, server: Server) -> None:
    """A signed upload stores the body; over its size it is refused, also where only the body tells."""
    upload = files.signed_upload("in/a.bin", content_type="application/x-thing", max_size=len(CONTENT))
    assert 201 == server.ask("PUT", upload.url, CONTENT, upload.headers).status
    assert CONTENT == files.read("in/a.bin")
    assert 413 == server.ask("PUT", upload.url, CONTENT + b"x", upload.headers).status
    assert CONTENT == files.read("in/a.bin")


def test_an_upload_that_stops_in_the_middle(files: FileStore, server: Server, root: Path) -> None:
    """A client that goes away before its body is complete leaves nothing."""
    url = urlsplit(files.signed_upload("in/a.bin").url)
    client = socket.create_connection(("127.0.0.1", server.port))
    client.sendall(f"PUT {url.path}?{url.query} HTTP/1.0\r\nContent-Length: 3000000\r\n\r\n".encode())
    client.sendall(b"x" * 1_500_000)
    until(lambda: bool(drafts(root)))
    client.close()
    until(lambda: not drafts(root))
    assert not files.exists("in/a.bin")


def test_an_upload_of_unknown_length(files: FileStore, server: Server) -> None:
    """Without a length, where the server does not tell the end of the body, it is refused with 411."""
    url = urlsplit(files.signed_upload("in/a.bin").url)
    client = socket.create_connection(("127.0.0.1", server.port))
    client.sendall(f"PUT {url.path}?{url.query} HTTP/1.0\r\n\r\n".encode())
    assert b" 411 " in client.recv(1000)
    client.close()


def test_wsgi_below_a_mount_point(files: FileStore) -> None:
    """Where a framework has taken the mount point off the path, keys are found all the same."""
    files.put("files/a.txt", b"hello")
    url = urlsplit(files.url("files/a.txt"))
    started: list[str] = []

    def start_response(status: str, headers: list[tuple[str, str]]) -> None:
        started.append(status)

    environ: dict[str, Any] = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "/files",
        "PATH_INFO": "/files/a.txt",
        "QUERY_STRING": url.query,
        "wsgi.input": None,
    }
    answer = files.wsgi()(environ, start_response)
    assert (["200 OK"], b"hello") == (started, b"".join(answer))


# ASGI


async def ask_asgi(app: Any, scope: dict[str, Any], *messages: dict[str, Any]) -> list[dict[str, Any]]:
    """Drive the protocol with these messages, and return what was sent."""
    incoming, sent = list(messages), list[dict[str, Any]]()

    async def receive() -> dict[str, Any]:
        return incoming.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def scope_of(method: str, url: str, *headers: tuple[bytes, bytes], root_path: str = "") -> dict[str, Any]:
    """Return the scope of a request."""
    parts = urlsplit(url)
    return {
        "type": "http",
        "method": method,
        "path": parts.path,
        "root_path": root_path,
        "query_string": parts.query.encode(),
        "headers": list(headers),
    }


async def test_asgi_sends_in_pieces(files: FileStore) -> None:
    """A large file is sent in several messages, with its length in the first, and an end."""
    await files.aput("a.bin", CONTENT)
    for root_path in ("", "/files"):
        start, *body = await ask_asgi(files.asgi(), scope_of("GET", await files.aurl("a.bin"), root_path=root_path))
        assert (200, True) == (start["status"], (b"content-length", str(len(CONTENT)).encode()) in start["headers"])
        assert CONTENT == b"".join(message["body"] for message in body)
        assert [True, True, False] == [message.get("more_body", False) for message in body]


async def test_asgi_upload_in_pieces(files: FileStore) -> None:
    """A body that comes in many messages is stored whole; over its size it is refused and nothing left."""
    upload = await files.asigned_upload("in/a.bin", max_size=len(CONTENT))
    pieces = [CONTENT[start : start + 65536] for start in range(0, len(CONTENT), 65536)]
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    end = {"type": "http.request", "body": b"x", "more_body": False}
    sent = await ask_asgi(files.asgi(), scope_of("PUT", upload.url), *messages, {**end, "body": b""})
    assert (201, CONTENT) == (sent[0]["status"], await files.aread("in/a.bin"))
    await files.adelete("in/a.bin")
    sent = await ask_asgi(files.asgi(), scope_of("PUT", upload.url), *messages, end)
    assert (413, False) == (sent[0]["status"], await files.aexists("in/a.bin"))


async def test_asgi_client_goes_away(files: FileStore, root: Path) -> None:
    """A client that disconnects in the middle of an upload leaves nothing, and gets no answer."""
    upload = await files.asigned_upload("in/a.bin")
    sent = await ask_asgi(
        files.asgi(),
        scope_of("PUT", upload.url),
        {"type": "http.request", "body": CONTENT, "more_body": True},
        {"type": "http.disconnect"},
    )
    assert [] == sent
    assert not await files.aexists("in/a.bin")
    assert [] == drafts(root)


async def test_asgi_body_shorter_than_announced(files: FileStore) -> None:
    """A body that ends before the announced length is refused with 400, and nothing stored."""
    upload = await files.asigned_upload("in/a.bin")
    scope = scope_of("PUT", upload.url, (b"content-length", b"10"))
    sent = await ask_asgi(files.asgi(), scope, {"type": "http.request", "body": b"short"})
    assert (400, False) == (sent[0]["status"], await files.aexists("in/a.bin"))


async def test_asgi_is_for_http(files: FileStore) -> None:
    """Another protocol is refused, as the specification asks."""
    with pytest.raises(NotImplementedError, match="websocket"):
        await ask_asgi(files.asgi(), {"type": "websocket"})


# The secret


def test_the_secret_is_kept_in_the_root(files: FileStore, root: Path, clock: ManualClock) -> None:
    """Links survive a restart: the secret is made once, and only its owner may read it."""
    links = files.links()
    secret = root / ".pilotis" / "secret"
    assert 0o600 == stat.S_IMODE(secret.stat().st_mode)
    options = LocalFilesOptions(root=str(root), public_url="https://shop.example/files")
    again = FileStore(LocalFiles(options), context=Context(clock=clock))
    assert files.url("a.txt") == again.url("a.txt")
    assert 0 == len(drafts(root))
    assert "/files" == links.base


def test_many_make_one_secret(root: Path) -> None:
    """Processes that make the secret at the same time end up with the same one."""
    stores = [FileStore(LocalFiles(LocalFilesOptions(root=str(root)))) for _ in range(8)]
    urls: list[str] = []
    clock = ManualClock()
    for store in stores:
        store.context.clock = clock

    def sign(store: FileStore) -> None:
        urls.append(store.url("a"))

    threads = [threading.Thread(target=sign, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (8, 1) == (len(urls), len(set(urls)))


def test_the_secret_of_the_options(root: Path, clock: ManualClock) -> None:
    """A secret that is given is used, is written nowhere, and other secrets make other links."""
    urls = set[str]()
    for secret in ("one", "two"):
        options = LocalFilesOptions(root=str(root), secret=Secret(secret))
        urls.add(FileStore(LocalFiles(options), context=Context(clock=clock)).url("a"))
        assert secret not in repr(options)
    assert 2 == len(urls)
    assert not root.exists()


def test_a_link_within_the_site(root: Path) -> None:
    """Without `public_url` links are paths below `/files`."""
    assert asyncio.run(FileStore(LocalFiles(LocalFilesOptions(root=str(root)))).aurl("a b")).startswith("/files/a%20b?")
