"""A server that takes mails as SendGrid does: checks them by its rules, answers as it does, and fails when told to.

Needs the extra `sendgrid`. Nothing is sent to anybody.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import ssl
import threading
import time
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from email.message import Message
from email.utils import formatdate
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from pilotis_testing.sendgrid_rules import MOST_BYTES, Problem, problem, problems_of

KEY = "SG.a-key-for-tests.0123456789"
TEMPLATE = "d-0123456789abcdef0123456789abcdef"
MAIL_SEND = "mail.send"
PATIENCE = 30.0

_INVALID_KEY = "The provided authorization grant is invalid, expired, or revoked"
_UNVERIFIED = (
    "The from address does not match a verified Sender Identity. Mail cannot be sent until this error is resolved."
)


class SentMail(NamedTuple):
    """One personalization of a request that was accepted."""

    message_id: str | None
    """None from the sandbox."""
    to: str
    body: dict[str, Any]
    """The whole request."""
    personalization: dict[str, Any]

    @property
    def texts(self) -> dict[str, str]:
        """What it says, by content type."""
        return {part["type"]: part["value"] for part in self.body.get("content", [])}


class _Answer(NamedTuple):
    status: int
    problems: Sequence[Problem] = ()
    headers: Mapping[str, str] = {}
    body: bytes | None = None


Fault = _Answer | Literal["silence", "cut", "accept and cut", "drip"]


class SendGridServer:
    """An API on a free port of this machine. Its attributes may be read and set while it runs."""

    def __init__(self) -> None:
        self.key = KEY
        self.scopes = [MAIL_SEND]
        self.scopes_fault: int | Literal["drip"] | None = None
        """The status that the question for scopes is answered with, if not as SendGrid does; or byte by byte."""
        self.templates = {TEMPLATE}
        self.senders: set[str] | None = None
        """The verified ones; None takes all."""
        self.clock: Callable[[], float] = time.time
        self.limit: int | None = None
        """How many mail requests are taken until `reset_at`, in seconds since 1970. None takes all."""
        self.reset_at = 0.0
        self.sent: list[SentMail] = []
        self.requests: list[dict[str, str]] = []
        """The headers of every mail request, those that failed too."""
        self._faults: deque[Fault] = deque()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._server = _Listener(("127.0.0.1", 0), _Handler)
        self._server.api = self

    @property
    def url(self) -> str:
        """For `base_url`."""
        scheme = "https" if isinstance(self._server.socket, ssl.SSLSocket) else "http"
        return f"{scheme}://127.0.0.1:{self._server.server_address[1]}"

    def speak_tls(self, certificate: Path, key: Path) -> None:
        """Take no other requests than those by TLS. To be called before it runs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    @contextlib.contextmanager
    def running(self) -> Generator[SendGridServer]:
        """Take requests for the length of a block."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._server.shutdown()
            thread.join()
            self.close()

    def close(self) -> None:
        """Give the port back. A server that was not run needs it too."""
        self._server.server_close()

    # Faults

    def fail(
        self,
        status: int,
        *problems: Problem,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        times: int = 1,
    ) -> None:
        """Answer the next mail requests with an error; `body` goes before the problems, whatever it is."""
        self._fault(_Answer(status, problems, headers or {}, body), times)

    def fall_silent(self, times: int = 1) -> None:
        """Accept the next mail requests, and never answer."""
        self._fault("silence", times)

    def cut(self, times: int = 1, *, accepting: bool = False) -> None:
        """Read the next mail requests and hang up; `accepting` has their mails sent all the same."""
        self._fault("accept and cut" if accepting else "cut", times)

    def drip(self, times: int = 1) -> None:
        """Accept the next mail requests, and answer them byte by byte: in half a minute in all."""
        self._fault("drip", times)

    def _fault(self, fault: Fault, times: int) -> None:
        self._faults.extend(fault for _ in range(times))

    # Webhooks

    @cached_property
    def _signer(self) -> Any:
        from cryptography.hazmat.primitives.asymmetric import ec

        return ec.generate_private_key(ec.SECP256R1())

    @cached_property
    def public_key(self) -> str:
        """What `webhook_public_key` is set to."""
        from cryptography.hazmat.primitives import serialization as form

        encoded = self._signer.public_key().public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
        return b64encode(encoded).decode()

    def event(self, mail: SentMail, kind: str, **fields: Any) -> dict[str, Any]:
        """Return what SendGrid reports about a mail."""
        return {
            "email": mail.to,
            "event": kind,
            "timestamp": int(self.clock()),
            "sg_event_id": secrets.token_urlsafe(16),
            "sg_message_id": f"{mail.message_id}.recvd-5f54b5b4c-8zqmr-1-64C0A1B2-1D.0",
            **mail.personalization.get("custom_args", {}),
            **fields,
        }

    def webhook(self, *events: Mapping[str, Any], at: float | None = None) -> tuple[dict[str, str], bytes]:
        """Return headers and body of a webhook request, signed `at` a time in seconds since 1970."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        body = json.dumps(events, separators=(",", ":")).encode() + b"\r\n"
        timestamp = str(int(self.clock() if at is None else at))
        signature = self._signer.sign(timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))
        headers = {
            "X-Twilio-Email-Event-Webhook-Signature": b64encode(signature).decode(),
            "X-Twilio-Email-Event-Webhook-Timestamp": timestamp,
        }
        return headers, body

    # Requests

    def answer_scopes(self, headers: Message) -> tuple[_Answer, dict[str, Any] | None]:
        """Answer the question what a key may do."""
        if isinstance(self.scopes_fault, int):
            return _Answer(self.scopes_fault), None
        if not self._knows(headers):
            return _Answer(401, [problem(_INVALID_KEY)]), None
        return _Answer(200), {"scopes": self.scopes}

    def answer_mail(self, headers: Message, data: bytes) -> Fault:
        """Take a mail, or say why not."""
        with self._lock:
            self.requests.append(dict(headers))
            fault = self._faults.popleft() if self._faults else None
            if fault is None or fault in ("silence", "accept and cut", "drip"):
                answer = self._refusal(headers, data) or self._accepted(json.loads(data))
                return fault or answer
            return fault

    def _knows(self, headers: Message) -> bool:
        return headers.get("Authorization") == f"Bearer {self.key}"

    def _refusal(self, headers: Message, data: bytes) -> _Answer | None:
        if not self._knows(headers):
            return _Answer(401, [problem(_INVALID_KEY)])
        if MAIL_SEND not in self.scopes:
            return _Answer(403, [problem("access forbidden")])
        if (throttled := self._throttled()) is not None:
            return throttled
        if headers.get("Content-Type") != "application/json":
            return _Answer(415, [problem("Content-Type should be application/json.")])
        if "Accept" not in headers:
            return _Answer(406, [problem("Missing Accept header.")])
        return self._refusal_of_body(data)

    def _refusal_of_body(self, data: bytes) -> _Answer | None:
        if len(data) > MOST_BYTES:
            return _Answer(413, [problem("The JSON payload you have included in your request is too large.")])
        try:
            body = json.loads(data)
        except ValueError:
            return _Answer(400, [problem("Bad Request")])
        if found := problems_of(body, self.clock(), self.templates):
            return _Answer(400, found)
        if self.senders is not None and body["from"]["email"] not in self.senders:
            return _Answer(403, [problem(_UNVERIFIED, "from")])
        return None

    def _throttled(self) -> _Answer | None:
        if self.limit is None:
            return None
        if self.limit > 0:
            self.limit -= 1
            return None
        headers = {
            "X-RateLimit-Limit": "600",
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": str(int(self.reset_at)),
        }
        return _Answer(429, [problem("too many requests")], headers)

    def _accepted(self, body: dict[str, Any]) -> _Answer:
        sandbox = body.get("mail_settings", {}).get("sandbox_mode", {}).get("enable", False)
        message_id = None if sandbox else secrets.token_urlsafe(16)
        self.sent += [SentMail(message_id, one["to"][0]["email"], body, one) for one in body["personalizations"]]
        return _Answer(200) if message_id is None else _Answer(202, headers={"X-Message-Id": message_id})

    def wait_for_the_end(self, seconds: float = PATIENCE) -> bool:
        """Keep a request waiting until the server ends, at most so many seconds. Return whether it did."""
        return self._over.wait(seconds)


class _Listener(ThreadingHTTPServer):
    api: SendGridServer
    request_queue_size = 128
    block_on_close = False


class _Handler(BaseHTTPRequestHandler):
    @property
    def _api(self) -> SendGridServer:
        return cast("_Listener", self.server).api

    def do_GET(self) -> None:
        if self.path == "/v3/scopes" and self._api.scopes_fault == "drip":
            self._drip()
        elif self.path == "/v3/scopes":
            self._say(*self._api.answer_scopes(self.headers))
        else:
            self._say(_Answer(404, [problem("not found")]))

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/v3/mail/send":
            self._say(_Answer(404, [problem("not found")]))
            return
        answer = self._api.answer_mail(self.headers, data)
        if isinstance(answer, _Answer):
            self._say(answer)
        elif answer == "silence":
            self._api.wait_for_the_end()
        elif answer == "drip":
            self._drip()

    def _say(self, answer: _Answer, content: dict[str, Any] | None = None) -> None:
        told = {"errors": list(answer.problems)} if answer.problems else content
        body = answer.body or (b"" if told is None else json.dumps(told).encode())
        self.send_response_only(answer.status)
        date = formatdate(self._api.clock(), usegmt=True)
        fields = {"Server": "nginx", "Date": date, "Content-Length": str(len(body)), **answer.headers}
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _drip(self) -> None:
        answer = b"HTTP/1.1 202 Accepted\r\nX-Drip: %s\r\n\r\n" % (b"." * 1000)
        with contextlib.suppress(OSError):  # they hung up
            for place in range(len(answer)):
                if self._api.wait_for_the_end(PATIENCE / len(answer)):
                    break
                self.wfile.write(answer[place : place + 1])

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: what is sent to whom is nobody else's business."""
