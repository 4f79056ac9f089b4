"""The server that takes mails as SendGrid does refuses what SendGrid would, in its words."""

from __future__ import annotations

import http.client
import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from pilotis_testing.sendgrid import TEMPLATE, SendGridServer
from pilotis_testing.sendgrid_rules import MOST_BYTES

ADA = {"email": "ada@example.com"}


class Answer(NamedTuple):
    status: int
    fields: list[str | None]
    """What the errors in it are about."""
    headers: dict[str, str]


@pytest.fixture
def post(sendgrid_server: SendGridServer) -> Callable[..., Answer]:
    """Send a mail as bytes, or as anything that JSON has; headers that are None are left out."""

    def send(mail: Any, path: str = "/v3/mail/send", **headers: str | None) -> Answer:
        usual = {
            "Authorization": f"Bearer {sendgrid_server.key}",
            "Content-Type": "application/json",
            "Accept": "application/json",
        }
        given = usual | {name.replace("_", "-"): value for name, value in headers.items()}
        body = mail if isinstance(mail, bytes) else json.dumps(mail).encode()
        connection = http.client.HTTPConnection(urlsplit(sendgrid_server.url).netloc, timeout=30)
        connection.request("POST", path, body, {name: value for name, value in given.items() if value is not None})
        answer = connection.getresponse()
        told = json.loads(answer.read() or b"{}")
        connection.close()
        return Answer(answer.status, [one["field"] for one in told.get("errors", [])], dict(answer.getheaders()))

    return send


def mail(**fields: Any) -> dict[str, Any]:
    """Return a mail that is as it should be, but for some fields; those that are None are left out."""
    usual = {
        "personalizations": [{"to": [ADA]}],
        "from": {"email": "shop@example.com"},
        "subject": "Hi",
        "content": [{"type": "text/plain", "value": "Hello"}],
    }
    return {name: value for name, value in (usual | fields).items() if value is not None}


def people(count: int, kind: str = "to") -> list[dict[str, Any]]:
    return [{kind: [{"email": f"{kind}+{number}@example.com"}]} for number in range(count)]


def test_a_good_mail_is_accepted(post: Callable[..., Answer], sendgrid_server: SendGridServer) -> None:
    """With the message id that it has from then on."""
    answer = post(mail())
    [sent] = sendgrid_server.sent
    assert (202, sent.message_id) == (answer.status, answer.headers["X-Message-Id"])
    assert ({"text/plain": "Hello"}, "ada@example.com") == (sent.texts, sent.to)


def test_the_sandbox_accepts_and_has_no_message_id(post: Callable[..., Answer]) -> None:
    """It answers 200."""
    answer = post(mail(mail_settings={"sandbox_mode": {"enable": True}}))
    assert 200 == answer.status
    assert "X-Message-Id" not in answer.headers


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"personalizations": None}, "personalizations"),
        ({"personalizations": people(1001)}, "personalizations"),
        ({"personalizations": [{"to": [ADA]}, {"to": [ADA]}]}, "personalizations"),
        ({"personalizations": [{"to": [ADA], "cc": [{"email": "ADA@example.com"}]}]}, "personalizations"),
        (
            {"personalizations": [one | cc for one, cc in zip(people(501), people(501, "cc"), strict=True)]},
            "personalizations",
        ),
        ({"personalizations": [{"cc": [ADA]}]}, "personalizations.0.to"),
        ({"personalizations": [{"to": [{"email": "ada"}]}]}, "personalizations.0.to.0.email"),
        ({"personalizations": [{"to": [{"email": "ada@example.com\r\nX: y"}]}]}, "personalizations.0.to.0.email"),
        ({"personalizations": [{"to": [ADA | {"name": 7}]}]}, "personalizations.0.to.0.name"),
        ({"personalizations": [{"to": [ADA], "copy": []}]}, "personalizations.0.copy"),
        ({"personalizations": [{"to": [ADA], "subject": ""}]}, "personalizations.0.subject"),
        ({"personalizations": [{"to": [ADA], "headers": {"To": "x"}}]}, "personalizations.0.headers.To"),
        ({"personalizations": [{"to": [ADA], "headers": {"X": "1\n2"}}]}, "personalizations.0.headers.X"),
        ({"personalizations": [{"to": [ADA], "custom_args": {"a": 1}}]}, "personalizations.0.custom_args"),
        ({"custom_args": {"a": "x" * 10_000}}, "personalizations.0.custom_args"),
        ({"personalizations": [{"to": [ADA], "send_at": "now"}]}, "personalizations.0.send_at"),
        ({"send_at": 99_999_999_999}, "send_at"),
        (
            {"personalizations": [{"to": [ADA], "dynamic_template_data": {"a": 1}}]},
            "personalizations.0.dynamic_template_data",
        ),
        ({"from": None}, "from"),
        ({"from": {"email": "shop"}}, "from.email"),
        ({"reply_to": {"email": "help"}}, "reply_to.email"),
        ({"subject": None}, "subject"),
        ({"subject": "a\r\nBcc: eve@example.com"}, "subject"),
        ({"content": None}, "content"),
        ({"content": [{"type": "text/plain", "value": ""}]}, "content.0.value"),
        ({"content": [{"type": "text/html", "value": "a"}, {"type": "text/plain", "value": "a"}]}, "content"),
        ({"attachments": [{"filename": "a", "content": "no Base64"}]}, "attachments.0.content"),
        ({"attachments": [{"filename": "a", "content": ""}]}, "attachments.0.content"),
        ({"attachments": [{"filename": "", "content": "YQ=="}]}, "attachments.0.filename"),
        ({"attachments": [{"filename": "a", "content": "YQ==", "disposition": "in"}]}, "attachments.0.disposition"),
        ({"attachments": [{"filename": "a", "content": "YQ==", "disposition": "inline"}]}, "attachments.0.content_id"),
        ({"template_id": "d-nobody"}, "template_id"),
        ({"categories": [f"{number}" for number in range(11)]}, "categories"),
        ({"categories": ["a", "a"]}, "categories"),
        ({"categories": ["a" * 256]}, "categories.0"),
        ({"asm": {"group_id": "7"}}, "asm.group_id"),
        ({"ip_pool_name": "a"}, "ip_pool_name"),
        ({"mail_settings": {"sandbox_mode": {"enable": "yes"}}}, "mail_settings.sandbox_mode.enable"),
        ({"sandbox": True}, "sandbox"),
    ],
)
def test_what_breaks_a_rule_is_refused(
    post: Callable[..., Answer], sendgrid_server: SendGridServer, fields: dict[str, Any], expected: str
) -> None:
    """Naming the field, and nothing is sent."""
    answer = post(mail(**fields))
    assert (400, {expected}) == (answer.status, set(answer.fields))
    assert [] == sendgrid_server.sent


def test_a_template_stands_for_subject_and_content(post: Callable[..., Answer]) -> None:
    """And is filled in for each recipient."""
    one = {"to": [ADA], "dynamic_template_data": {"name": "Ada"}}
    assert 202 == post(mail(template_id=TEMPLATE, subject=None, content=None, personalizations=[one])).status


def test_subjects_of_all_recipients_stand_for_one(post: Callable[..., Answer]) -> None:
    """Of all, not of some."""
    assert 202 == post(mail(subject=None, personalizations=[{"to": [ADA], "subject": "Hi"}])).status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer SG.other"}, 401),
        ({"Authorization": None}, 401),
        ({"Content_Type": "text/plain"}, 415),
        ({"Accept": None}, 406),
        ({"path": "/v3/mail/sent"}, 404),
    ],
)
def test_how_it_is_asked_matters(
    post: Callable[..., Answer], sendgrid_server: SendGridServer, headers: dict[str, Any], status: int
) -> None:
    """The key, the content type, what is accepted, the path."""
    assert status == post(mail(), **headers).status
    assert [] == sendgrid_server.sent


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"mail"'])
def test_what_is_no_mail_is_a_bad_request(post: Callable[..., Answer], body: bytes) -> None:
    """Without a field."""
    assert (400, [None]) == post(body)[:2]


def test_what_is_too_large_is_refused(post: Callable[..., Answer]) -> None:
    """30 MiB with everything."""
    file = {"filename": "a", "content": b64encode(b"x" * MOST_BYTES).decode()}
    assert 413 == post(mail(attachments=[file])).status


def test_a_limit_is_kept(post: Callable[..., Answer], sendgrid_server: SendGridServer) -> None:
    """And told in headers when it is reached."""
    sendgrid_server.limit, sendgrid_server.reset_at = 1, 1767225660.0
    assert 202 == post(mail()).status
    answer = post(mail())
    assert (429, "0", "1767225660") == (
        answer.status,
        answer.headers["X-RateLimit-Remaining"],
        answer.headers["X-RateLimit-Reset"],
    )


def test_a_key_without_the_scope_and_an_unverified_sender(
    post: Callable[..., Answer], sendgrid_server: SendGridServer
) -> None:
    """Both are forbidden; the sender is named."""
    sendgrid_server.senders = {"orders@example.com"}
    assert (403, ["from"]) == post(mail())[:2]
    sendgrid_server.scopes = []
    assert (403, [None]) == post(mail())[:2]
