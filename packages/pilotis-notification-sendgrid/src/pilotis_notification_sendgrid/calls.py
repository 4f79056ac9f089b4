"""Calls of SendGrid's own library, without what it shares between them.

Its client keeps the headers of all calls in one dictionary, waits for ever, follows redirections with the key in hand,
and logs key, recipients and contents at DEBUG. So each call has a client of its own, a time limit for all of it and no
redirections, and what the library logs is dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from email.message import Message
from typing import IO, Any, NoReturn
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

import msgspec
import python_http_client.client
from sendgrid import SendGridAPIClient  # pyright: ignore[reportMissingTypeStubs]

from pilotis_notification_sendgrid.deadlines import TimedHttp, TimedHttps
from pilotis_notification_sendgrid.options import SendGridOptions

logging.getLogger(python_http_client.client.__name__).addFilter(lambda _: False)


class Answer(msgspec.Struct, frozen=True):
    """What SendGrid answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def post_mail(options: SendGridOptions, body: dict[str, Any]) -> Answer:
    """Hand a mail in. Blocks. Raises what the library raises: its own `HTTPError` for any answer that is an error."""
    return _answered(_client(options, "mail", "send").post(request_body=body))


def get_scopes(options: SendGridOptions) -> Answer:
    """Ask what the key may do. Blocks, and raises as `post_mail` does."""
    return _answered(_client(options, "scopes").get())


def _client(options: SendGridOptions, *path: str) -> Any:
    api: Any = SendGridAPIClient(str(options.api_key), host=options.place)
    timeout: Any = options.call_timeout  # declared as whole seconds; the socket takes parts of one
    return _Client(options.place, api.client.request_headers, version=3, url_path=list(path), timeout=timeout)


def _answered(response: Any) -> Answer:
    return Answer(response.status_code, response.headers, response.body)


class _Client(python_http_client.client.Client):  # pyright: ignore[reportUntypedBaseClass]
    def _make_request(self, opener: OpenerDirector, request: Request, timeout: float | None = None) -> Any:
        library: Any = super()
        return library._make_request(build_opener(TimedHttp, TimedHttps, _NoRedirections), request, timeout)


class _NoRedirections(HTTPRedirectHandler):
    """Stands in for the handler that would follow, and take the key along."""

    def http_error_302(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message) -> NoReturn:  # type: ignore[override]
        raise HTTPError(req.full_url, code, msg, headers, fp)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302  # type: ignore[assignment]
