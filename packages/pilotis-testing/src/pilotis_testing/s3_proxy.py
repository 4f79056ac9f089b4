"""A proxy before moto's S3 that checks what moto does not, and makes trouble when it is asked to.

moto takes any signature, any policy and any digest for good. What stands behind this proxy answers as S3 does: expired
and altered requests are refused, and so are bodies that are not what their digests say.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Generator, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, NamedTuple, Self, cast
from xml.sax.saxutils import escape

from pilotis_testing.s3_checks import (
    CHUNKED,
    Call,
    Keys,
    Refusal,
    check_digests,
    check_form,
    check_signed,
    is_signed,
)
from pilotis_testing.s3_troubles import HELD_SECONDS, CutError, Trouble, garbled, going_out, wait

PIECE = 65_536

_HOP = {"connection", "content-length", "date", "expect", "host", "keep-alive", "server", "transfer-encoding"}
_ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
_ROLE = re.compile(
    r"<AccessKeyId>(.*?)</AccessKeyId>.*?<SecretAccessKey>(.*?)</SecretAccessKey>.*?<SessionToken>(.*?)</SessionToken>",
    re.DOTALL,
)
_ASKED = re.compile(r"<Object>\s*<Key>(.*?)</Key>.*?</Object>", re.DOTALL)


class Seen(NamedTuple):
    """A request that came whole and was answered, even if the answer was cut off."""

    operation: str
    key: str
    status: int
    headers: Message


class S3Proxy:
    """Listens on a port of this machine while its `with` block lasts; one thread for each connection."""

    def __init__(self, server: int) -> None:
        """Stand before the S3 that listens on the port `server` of this machine."""
        self.server = server
        self.known: dict[str, Keys] = {}
        """Whose signatures are good, by the id of the key. Roles that are assumed through the proxy are added."""
        self.protected: set[str] = set()
        """Keys that nobody is allowed to delete."""
        self.links_ahead = 0.0
        """How many seconds links and forms are judged later than now."""
        self.clock_ahead = 0.0
        """How many seconds the clock of this server is ahead of that of the machine."""
        self.seen: list[Seen] = []
        self._arrived: Counter[str] = Counter()
        self._under_way = 0
        self._troubles: defaultdict[str, deque[Trouble]] = defaultdict(deque)
        self._lock = threading.Lock()
        self.creating = threading.Lock()
        """Held while it is decided whether a key is free: moto looks first, and stores then."""
        self._http = _Listener(("127.0.0.1", 0), _handler(self))

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._http.server_address[1]}"

    @property
    def now(self) -> float:
        """The time, for this server, in seconds since 1970."""
        return time.time() + self.clock_ahead

    @property
    def connections(self) -> int:
        """How many clients keep a connection open."""
        return self._http.connections

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True, name="s3-proxy").start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._http.hang_up()

    def forget(self) -> None:
        """Take back all that a test has asked for, and forget what was seen."""
        with self._lock:
            self._troubles.clear()
            self._arrived.clear()
            self.seen.clear()
        self.protected.clear()
        self.links_ahead = self.clock_ahead = 0.0

    def trouble(self, operation: str, *troubles: Trouble | None) -> None:
        """Have one of these happen to each next request of an operation, such as "UploadPart"; None: nothing."""
        with self._lock:
            self._troubles[operation].extend(trouble or Trouble() for trouble in troubles)

    def count(self, operation: str) -> int:
        """Return how many requests of an operation were seen."""
        with self._lock:
            return sum(seen.operation == operation for seen in self.seen)

    def arrived(self, operation: str) -> int:
        """Return how many requests of an operation have come, also those that are not answered yet."""
        with self._lock:
            return self._arrived[operation]

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way: a client that was killed leaves requests that are still passed on."""
        with self._lock:
            return self._under_way == 0

    @contextlib.contextmanager
    def busy(self) -> Generator[None]:
        """Have something under way for the length of a block."""
        with self._lock:
            self._under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1

    def statuses(self, operation: str) -> list[int]:
        """Return what the requests of an operation were answered with."""
        with self._lock:
            return [seen.status for seen in self.seen if seen.operation == operation]

    def next_trouble(self, operation: str) -> Trouble:
        with self._lock:
            self._arrived[operation] += 1
            waiting = self._troubles[operation]
            return waiting.popleft() if waiting else Trouble()

    def note(self, seen: Seen) -> None:
        with self._lock:
            self.seen.append(seen)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._open: set[socket.socket] = set()

    @property
    def connections(self) -> int:
        return len(self._open)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""

    def hang_up(self) -> None:
        for request in list(self._open):
            self.shutdown_request(request)


def _handler(proxy: S3Proxy) -> type[_Handler]:
    return type("Handler", (_Handler,), {"proxy": proxy})


class _Handler(BaseHTTPRequestHandler):
    proxy: ClassVar[S3Proxy]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = PIECE  # head and body in one packet: a client that waits for the second one waits for 40 ms

    def do_GET(self) -> None:
        self._serve()

    do_DELETE = do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def handle_expect_100(self) -> bool:
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(self.proxy.now if timestamp is None else timestamp)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: tests ask `seen`."""

    def _serve(self) -> None:
        # The operation is in the head, so a body can be cut before it is whole.
        call = Call(self.command, self.path, self.headers, b"")
        trouble = self.proxy.next_trouble(call.operation)
        with self.proxy.busy():
            try:
                self._take(call, trouble)
            except CutError:
                self.close_connection = True

    def _take(self, call: Call, trouble: Trouble) -> None:
        wait(trouble.deaf)
        body = self._body(trouble.cut_request)
        wait(trouble.hold)
        self._answer(call._replace(body=garbled(body) if trouble.garble else body), trouble)
        self.wfile.flush()

    def _body(self, cut: int | None) -> bytes:
        if self.headers["Transfer-Encoding"] == "chunked":
            body = b"".join(self._chunks())
        else:
            size = int(self.headers["Content-Length"] or 0)
            body = self.rfile.read(size if cut is None else min(cut, size))
            if cut is not None or len(body) < size:
                raise CutError  # it is not seen: it never came
        return body

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _answer(self, call: Call, trouble: Trouble) -> None:
        try:
            if trouble.status:
                raise Refusal(trouble.status, trouble.code, "as the test asked for", trouble.headers)
            body = self._checked(call)
            answer = self._pass_on(call, body)
        except Refusal as refusal:
            self._note(call, refusal.status)
            self._refuse(refusal)
            return
        with contextlib.closing(answer):
            self._note(call, answer.status)
            self._send(call, answer, trouble)

    def _note(self, call: Call, status: int) -> None:
        """Before the answer goes out, so that whoever has it finds the note."""
        self.proxy.note(Seen(call.operation, call.key, status, call.headers))

    def _checked(self, call: Call) -> bytes:
        """Return the body to be passed on, if the request is in order."""
        now = self.proxy.now
        later = now + self.proxy.links_ahead
        if call.headers["Host"] != self.proxy.host:
            raise Refusal(400, "InvalidRequest", f"this is {self.proxy.host}")
        if call.operation == "PostObject":
            check_form(call, self.proxy.known, later)
            return call.body
        if is_signed(call):
            check_signed(call, self.proxy.known, now, later)
        else:
            self._check_public(call)
        return check_digests(call)

    def _check_public(self, call: Call) -> None:
        if call.operation not in ("GetObject", "HeadObject"):
            raise Refusal(403, "AccessDenied")
        answer = self._ask(call._replace(method="GET", target=f"{call.path}?acl"), b"")
        with contextlib.closing(answer):
            if _ALL_USERS.encode() not in answer.read():
                raise Refusal(403, "AccessDenied")

    def _pass_on(self, call: Call, body: bytes) -> http.client.HTTPResponse:
        if call.operation == "DeleteObjects" and self.proxy.protected:
            return cast("http.client.HTTPResponse", self._delete(call, body))
        if "If-None-Match" not in call.headers:
            return self._ask(call, body)
        with self.proxy.creating:
            return self._ask(call, body)

    def _ask(self, call: Call, body: bytes) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy.server, timeout=HELD_SECONDS)
        is_unchunked = call.headers["x-amz-content-sha256"] == CHUNKED
        headers = {
            name: value
            for name, value in call.headers.items()
            if name.lower() not in _HOP and not (is_unchunked and name.lower() in _CHUNKING)
        }
        headers["Connection"] = "close"
        connection.request(call.method, call.target, body, headers)
        return connection.getresponse()  # the connection closes with the answer

    def _delete(self, call: Call, body: bytes) -> _Made:
        """Have the server delete what is not protected, and tell an error for each of the others."""
        text = body.decode()
        refused = [key for key in _ASKED.findall(text) if key in {escape(name) for name in self.proxy.protected}]
        kept = _ASKED.sub(lambda found: "" if found[1] in refused else found[0], text)
        result = b"<DeleteResult></DeleteResult>"
        if _ASKED.search(kept):
            with contextlib.closing(self._ask(call, kept.encode())) as answer:
                result = answer.read()
        errors = "".join(
            f"<Error><Key>{key}</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            for key in refused
        )
        return _Made(result.replace(b"</DeleteResult>", f"{errors}</DeleteResult>".encode()))

    def _send(self, call: Call, answer: http.client.HTTPResponse, trouble: Trouble) -> None:
        if trouble.cut_answer == -1:
            raise CutError
        size = answer.getheader("Content-Length")
        pieces: Iterator[bytes] = iter(lambda: answer.read(PIECE), b"")
        if size is None or call.operation == "AssumeRole" or trouble.alter:
            whole = self._whole(b"".join(pieces), trouble)
            pieces, size = iter([whole]), str(len(whole))
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", size)
        self.end_headers()
        if call.method != "HEAD":
            for piece in going_out(pieces, trouble):
                self.wfile.write(piece)
                self.wfile.flush()

    def _whole(self, body: bytes, trouble: Trouble) -> bytes:
        if found := _ROLE.search(body.decode(errors="replace")):
            self.proxy.known[found[1]] = Keys(found[2], found[3])
        return garbled(body) if trouble.alter else body

    def _refuse(self, refusal: Refusal) -> None:
        text = f"<Error><Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message></Error>".encode()
        self.send_response(refusal.status)
        for name, value in {"Content-Type": "application/xml", **refusal.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)


_CHUNKING = {"content-encoding", "x-amz-decoded-content-length", "x-amz-trailer", "x-amz-content-sha256"}


class _Made:
    """An answer that was not the server's own."""

    status = 200

    def __init__(self, body: bytes) -> None:
        self._body = body

    def read(self, size: int | None = None) -> bytes:
        body, self._body = self._body, b""
        return body

    def getheader(self, name: str) -> str | None:
        return None

    def getheaders(self) -> list[tuple[str, str]]:
        return [("Content-Type", "application/xml")]

    def close(self) -> None:
        """There is nothing to close."""
