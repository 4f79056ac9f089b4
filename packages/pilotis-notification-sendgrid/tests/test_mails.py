"""What SendGrid is given: every part of a message in its place, and many messages in few calls."""

from __future__ import annotations

import re
from base64 import b64decode
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pilotis.errors import InvalidInputError
from pilotis.modules.notification import Notifier
from pilotis.providers import Attachment, Content, OutgoingMessage, Receipt
from pilotis_notification_sendgrid import SendGridNotifications
from pilotis_testing import Colour, ManualClock
from pilotis_testing.sendgrid import TEMPLATE, SendGridServer

Make = Callable[..., SendGridNotifications]
Message = Callable[..., OutgoingMessage]


# One mail


async def test_a_mail_with_everything(
    make: Make, message: Message, sendgrid_server: SendGridServer, clock: ManualClock, colour: Colour
) -> None:
    """Names, texts in SendGrid's order, files, copies, headers, figures, a time: all arrive as they were given."""
    logo = Attachment("logo.png", b"\x89PNG", "image/png", content_id="logo")
    invoice = Attachment("Rechnung ü.pdf", b"%PDF", "application/pdf")
    extras = {
        "cc": ["Bob <bob@example.com>"],
        "bcc": ["eve@example.com"],
        "reply_to": '"Help, please" <help@example.com>',
        "categories": ["orders", "receipts"],
        "custom_args": {"order": "42"},
        "headers": {"X-Priority": "1"},
        "send_at": int(clock.time()) + 3600,
        "unsubscribe_group": 7,
        "ip_pool": "receipts",
    }
    sent = message(
        "Ada Lovelace <ada@example.com>",
        sender="Shop <orders@example.com>",
        content=Content(subject="Grüße", text="plain", html="<p>html</p>"),
        attachments=(logo, invoice),
        provider_data=extras,
    )
    [receipt] = await make().send([sent])
    [mail] = sendgrid_server.sent
    assert receipt == Receipt(external_id=mail.message_id)
    assert mail.personalization == {
        "to": [{"email": "ada@example.com", "name": "Ada Lovelace"}],
        "cc": [{"email": "bob@example.com", "name": "Bob"}],
        "bcc": [{"email": "eve@example.com"}],
        "subject": "Grüße",
        "custom_args": {"order": "42", "pilotis_id": sent.id},
        "headers": {"X-Priority": "1"},
        "send_at": int(clock.time()) + 3600,
    }
    assert mail.body["from"] == {"email": "orders@example.com", "name": "Shop"}
    assert mail.body["reply_to"] == {"email": "help@example.com", "name": "Help, please"}
    assert list(mail.texts.items()) == [("text/plain", "plain"), ("text/html", "<p>html</p>")]
    assert (mail.body["categories"], mail.body["asm"]) == (["orders", "receipts"], {"group_id": 7})
    assert mail.body["ip_pool_name"] == "receipts"
    files = mail.body["attachments"]
    assert [b64decode(file.pop("content")) for file in files] == [b"\x89PNG", b"%PDF"]
    assert files == [
        {"filename": "logo.png", "type": "image/png", "disposition": "inline", "content_id": "logo"},
        {"filename": "Rechnung ü.pdf", "type": "application/pdf", "disposition": "attachment"},
    ]


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("Ada Lovelace <a@example.com>", "Ada Lovelace"),
        (r'"Ada \"The Countess\" L." <a@example.com>', 'Ada "The Countess" L.'),
        (r'"a\\b" <a@example.com>', r"a\b"),
        ("Lovelace, Ada <a@example.com>", "Lovelace, Ada"),
        ("<a@example.com>", None),
        ("a@example.com", None),
    ],
)
async def test_a_name_is_the_one_that_is_meant(
    make: Make,
    message: Message,
    *,
    sendgrid_server: SendGridServer,
    colour: Colour,
    address: str,
    name: str | None,
) -> None:
    """Quotes around it, and before what they hide, belong to the address and not to the name."""
    await make().send([message(address)])
    [mail] = sendgrid_server.sent
    assert mail.personalization["to"][0].get("name") == name


async def test_a_plain_mail_has_nothing_else(
    make: Make, message: Message, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """What was not asked for is not in the request; a subject is, because SendGrid demands one."""
    await make().send([message(content=Content(text="Hello"))])
    [mail] = sendgrid_server.sent
    assert mail.body.keys() == {"from", "personalizations", "content"}
    assert mail.personalization["subject"] == "(no subject)"


async def test_a_template_of_sendgrids_own(
    make: Make, message: Message, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """Its id and the data; it has a subject and a content itself."""
    await make().send([message(content=None, template=TEMPLATE, data={"order": {"number": 42}})])
    [mail] = sendgrid_server.sent
    assert mail.body.keys() == {"from", "personalizations", "template_id"}
    assert mail.body["template_id"] == TEMPLATE
    assert mail.personalization["dynamic_template_data"] == {"order": {"number": 42}}


async def test_a_time_with_a_zone(
    make: Make, message: Message, sendgrid_server: SendGridServer, clock: ManualClock, colour: Colour
) -> None:
    """As the composer writes datetimes: in text."""
    later = datetime.fromtimestamp(clock.time() + 60, UTC)
    await make().send([message(provider_data={"send_at": later.isoformat()})])
    [mail] = sendgrid_server.sent
    assert mail.personalization["send_at"] == int(clock.time()) + 60


async def test_the_sandbox_sends_nothing(
    make: Make, message: Message, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """SendGrid is told so, and the receipt says so."""
    assert await make(sandbox=True).send([message()]) == [Receipt(status="simulated")]
    [mail] = sendgrid_server.sent
    assert mail.body["mail_settings"] == {"sandbox_mode": {"enable": True}}


# Many mails


async def test_mails_that_share_their_content_share_a_call(
    make: Make, message: Message, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """A thousand of them; each has a receipt of its own, all of which begin with the message id of the call."""
    mails = [message(f"ada+{number}@example.com") for number in range(1000)]
    receipts = await make().send(mails)
    assert len(sendgrid_server.requests) == 1
    [message_id] = {mail.message_id for mail in sendgrid_server.sent}
    assert [Receipt(external_id=f"{message_id}#{part}") for part in range(1000)] == receipts
    assert [mail.to for mail in mails] == [mail.to for mail in sendgrid_server.sent]
    ids = [mail.personalization["custom_args"]["pilotis_id"] for mail in sendgrid_server.sent]
    assert [mail.id for mail in mails] == ids


async def test_subjects_data_and_copies_may_differ_within_a_call(
    make: Make, message: Message, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """SendGrid takes them for each recipient."""
    templated = [message(f"{name}@example.com", content=None, template=TEMPLATE, data={"name": name}) for name in "ab"]
    written = [
        message(
            f"{name}@example.com",
            content=Content(subject=name, text="Hi"),
            provider_data={"cc": [f"c{name}@example.com"]},
        )
        for name in "cd"
    ]
    await make().send([*templated, *written])
    assert len(sendgrid_server.requests) == 2
    found = {mail.to: mail.personalization for mail in sendgrid_server.sent}
    assert [found[f"{name}@example.com"]["dynamic_template_data"] for name in "ab"] == [{"name": "a"}, {"name": "b"}]
    assert [found[f"{name}@example.com"]["subject"] for name in "cd"] == ["c", "d"]


@pytest.mark.parametrize(
    "fields",
    [
        {"content": Content(subject="Order 42", text="Something else")},
        {"sender": "other@example.com"},
        {"attachments": (Attachment("a.txt", b"a", "text/plain"),)},
        {"provider_data": {"categories": ["other"]}},
        {"provider_data": {"reply_to": "other@example.com"}},
        {"to": "ADA@example.com"},
    ],
)
async def test_mails_that_differ_go_apart(
    make: Make, message: Message, sendgrid_server: SendGridServer, colour: Colour, fields: dict[str, Any]
) -> None:
    """In what all mails of a call share; and no call may have an address twice."""
    first, second = message(), message(**({"to": "bob@example.com"} | fields))
    receipts = await make().send([first, second])
    assert all(isinstance(receipt, Receipt) for receipt in receipts)
    assert len(sendgrid_server.requests) == 2


async def test_copies_count_as_recipients(
    make: Make, message: Message, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """A thousand to a call, in all."""
    mails = [
        message(f"ada+{number}@example.com", provider_data={"cc": [f"bob+{number}@example.com"]})
        for number in range(501)
    ]
    await make().send(mails)
    assert [1, 500] == sorted(Counter(mail.message_id for mail in sendgrid_server.sent).values())


# What is refused


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"provider_data": {"ccc": []}}, "provider_data: SendGrid knows no 'ccc'; did you mean 'cc'"),
        ({"provider_data": {"cc": "bob@example.com"}}, r"provider_data\.cc"),
        ({"provider_data": {"cc": ["nobody"]}}, r"provider_data\.cc\[0\]: expected one mail address"),
        ({"provider_data": {"bcc": ["a@example.com\r\nX: y"]}}, r"provider_data\.bcc\[0\]: expected a single line"),
        ({"provider_data": {"cc": ["Ada <ADA@example.com>"]}}, "each address once"),
        ({"provider_data": {"reply_to": "x\n@example.com"}}, r"provider_data\.reply_to: expected a single line"),
        ({"provider_data": {"categories": ["a", "a"]}}, r"provider_data\.categories: expected up to 10 different"),
        ({"provider_data": {"categories": list("abcdefghijk")}}, r"provider_data\.categories: .* got 11"),
        ({"provider_data": {"custom_args": {"pilotis_id": "1"}}}, r"provider_data\.custom_args: names that begin"),
        ({"provider_data": {"custom_args": {"a": 1}}}, r"provider_data\.custom_args"),
        ({"provider_data": {"headers": {"X-A": "1\r\nBcc: eve@example.com"}}}, r"headers\.X-A: expected a single line"),
        ({"provider_data": {"headers": {"X-A\n": "1"}}}, r"provider_data\.headers: expected a single line"),
        ({"provider_data": {"headers": {"Reply-To": "a"}}}, "'Reply-To' is written by SendGrid"),
        ({"provider_data": {"send_at": "2026-01-01T00:00:00"}}, r"provider_data\.send_at: expected a time with a zone"),
        ({"provider_data": {"cc": [f"{n}@example.com" for n in range(1000)]}}, "1000 recipients at most, got 1001"),
        ({"content": None, "template": "welcome"}, "template: expected the id of a dynamic template"),
        ({"attachments": (Attachment("a.txt", b"", "text/plain"),)}, r"attachments\[0\]\.content: .* no empty files"),
        ({"attachments": (Attachment("a", b"a" * 24 * 1024 * 1024),)}, "attachments: SendGrid takes 31457280 bytes"),
    ],
)
async def test_what_cannot_be_sent_is_refused(
    make: Make,
    message: Message,
    *,
    sendgrid_server: SendGridServer,
    colour: Colour,
    fields: dict[str, Any],
    place: str,
) -> None:
    """By us, naming the place, without a call; the others are sent."""
    refused, sent = await make().send([message(**fields), message("bob@example.com")])
    with pytest.raises(InvalidInputError, match=place):
        raise refused if isinstance(refused, Exception) else AssertionError(refused)
    assert isinstance(sent, Receipt)
    assert ["bob@example.com"] == [mail.to for mail in sendgrid_server.sent]


LINES: list[tuple[str, Callable[[str], dict[str, Any]]]] = [
    ("to", lambda mark: {"to": f"Ada{mark}Lovelace <ada@example.com>"}),
    ("sender", lambda mark: {"sender": f"Shop{mark} <shop@example.com>"}),
    ("content.subject", lambda mark: {"content": Content(subject=f"Order{mark}42", text="Hi")}),
    ("template", lambda mark: {"content": None, "template": f"d-1{mark}"}),
    ("attachments[0].filename", lambda mark: {"attachments": [Attachment(f"a{mark}.txt", b"a")]}),
    ("attachments[0].content_type", lambda mark: {"attachments": [Attachment("a", b"a", f"text/plain{mark}")]}),
    ("attachments[0].content_id", lambda mark: {"attachments": [Attachment("a", b"a", None, f"logo{mark}")]}),
    ("provider_data.cc[0]", lambda mark: {"provider_data": {"cc": [f"Bob{mark} <bob@example.com>"]}}),
    ("provider_data.bcc[0]", lambda mark: {"provider_data": {"bcc": [f"Bob{mark} <bob@example.com>"]}}),
    ("provider_data.reply_to", lambda mark: {"provider_data": {"reply_to": f"Help{mark} <help@example.com>"}}),
    ("provider_data.categories[0]", lambda mark: {"provider_data": {"categories": [f"orders{mark}"]}}),
    ("provider_data.headers.X-A", lambda mark: {"provider_data": {"headers": {"X-A": f"1{mark}Bcc: e@e.com"}}}),
    ("provider_data.headers", lambda mark: {"provider_data": {"headers": {f"X{mark}A": "1"}}}),
    ("provider_data.custom_args", lambda mark: {"provider_data": {"custom_args": {f"a{mark}": "1"}}}),
    ("provider_data.ip_pool", lambda mark: {"provider_data": {"ip_pool": f"receipts{mark}"}}),
]
"""Where a line of a header may come from, and how a mark gets into it."""


@pytest.mark.parametrize(("place", "fields"), LINES, ids=[place for place, _ in LINES])
async def test_a_line_break_never_leaves(
    notifier: Notifier,
    sendgrid_server: SendGridServer,
    colour: Colour,
    place: str,
    fields: Callable[[str], dict[str, Any]],
) -> None:
    """Of any kind that there is, in anything that may stand in a header: it is refused by its place."""
    voice = colour.voice(notifier)
    for mark in ("\r", "\n", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"):
        mail: dict[str, Any] = {"to": "ada@example.com", "channel": "email", "content": Content(text="Hi")}
        with pytest.raises(InvalidInputError, match=rf"^{re.escape(place)}: expected"):
            await voice.send(**mail | fields(mark))
    assert ([], []) == (sendgrid_server.requests, await voice.find())


async def test_a_mail_needs_a_sender(make: Make, message: Message, colour: Colour) -> None:
    """From the caller, the module's settings, or the provider's."""
    [refused] = await make(sender=None).send([message()])
    assert isinstance(refused, InvalidInputError)
    assert "sender: expected one" in str(refused)


async def test_a_refusal_is_told_before_anything_is_recorded(notifier: Notifier, colour: Colour) -> None:
    """To whoever sends; a dry run tells it too."""
    voice = colour.voice(notifier)
    for dry_run in (False, True):
        with pytest.raises(InvalidInputError, match="knows no 'copies'"):
            await voice.send(
                "ada@example.com",
                channel="email",
                content=Content(text="Hi"),
                provider_data={"copies": 2},
                dry_run=dry_run,
            )
    assert [] == await voice.find()
