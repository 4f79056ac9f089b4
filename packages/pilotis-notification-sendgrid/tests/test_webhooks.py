"""What SendGrid reports: believed when it is signed, just now, with our key."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pilotis.errors import AuthenticationError, InvalidInputError
from pilotis.modules.notification import Notifier
from pilotis.providers import Content, DeliveryUpdate, OutgoingMessage, Receipt
from pilotis_notification_sendgrid import SendGridNotifications
from pilotis_notification_sendgrid.webhooks import updates_in
from pilotis_testing import Colour, ManualClock
from pilotis_testing.sendgrid import SendGridServer, SentMail

Make = Callable[..., SendGridNotifications]
Message = Callable[..., OutgoingMessage]

MAIL = SentMail("QqBPrXHPRVCMZ6ddQJqvPA", "ada@example.com", {}, {})


@pytest.fixture
def provider(make: Make, sendgrid_server: SendGridServer) -> SendGridNotifications:
    return make(webhook_public_key=sendgrid_server.public_key)


# What is believed


async def test_a_report_says_what_became_of_a_mail(
    provider: SendGridNotifications, sendgrid_server: SendGridServer, clock: ManualClock, colour: Colour
) -> None:
    """By the external id of its receipt, with the service's id of the report and all that it says."""
    event = sendgrid_server.event(MAIL, "bounce", reason="550 no such user", sg_event_id="e1")
    [update] = await provider.parse_webhook(*sendgrid_server.webhook(event))
    assert update == DeliveryUpdate(
        external_id="QqBPrXHPRVCMZ6ddQJqvPA",
        event="bounced",
        at=datetime.fromtimestamp(clock.time(), UTC),
        event_id="e1",
        to="ada@example.com",
        reason="550 no such user",
        raw=event,
    )


async def test_every_kind_has_its_word(
    provider: SendGridNotifications, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """In one vocabulary for all services; what tells nothing of a delivery is left out."""
    words = {
        "processed": None,
        "delivered": "delivered",
        "deferred": "deferred",
        "bounce": "bounced",
        "dropped": "rejected",
        "open": "opened",
        "click": "clicked",
        "spamreport": "complained",
        "unsubscribe": "unsubscribed",
        "group_unsubscribe": "unsubscribed",
        "group_resubscribe": None,
        "something new": None,
    }
    events = [sendgrid_server.event(MAIL, kind) for kind in words]
    updates = await provider.parse_webhook(*sendgrid_server.webhook(*events))
    assert [word for word in words.values() if word] == [update.event for update in updates]


async def test_reports_of_mails_of_one_call_are_told_apart(
    provider: SendGridNotifications, message: Message, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """They share a message id; their receipts and reports do not."""
    receipts = await provider.send([message("ada@example.com"), message("bob@example.com")])
    events = [sendgrid_server.event(mail, "delivered") for mail in sendgrid_server.sent]
    updates = await provider.parse_webhook(*sendgrid_server.webhook(*events))
    ids = [receipt.external_id for receipt in receipts if isinstance(receipt, Receipt)]
    assert ids == [update.external_id for update in updates]
    assert len(set(ids)) == 2


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0", "14c5d75ce93.dfd.64b469"),
        ("QqBPrXHPRVCMZ6ddQJqvPA.recvd-5f54b5b4c-8zqmr-1-64C0A1B2-1D.0", "QqBPrXHPRVCMZ6ddQJqvPA"),
        ("QqBPrXHPRVCMZ6ddQJqvPA.anything.else", "QqBPrXHPRVCMZ6ddQJqvPA"),
        ("QqBPrXHPRVCMZ6ddQJqvPA", "QqBPrXHPRVCMZ6ddQJqvPA"),
    ],
)
async def test_what_sendgrid_adds_to_message_ids_is_taken_off(
    provider: SendGridNotifications, sendgrid_server: SendGridServer, colour: Colour, theirs: str, ours: str
) -> None:
    """However it writes them."""
    event = sendgrid_server.event(MAIL, "open", sg_message_id=theirs)
    [update] = await provider.parse_webhook(*sendgrid_server.webhook(event))
    assert update.external_id == ours


async def test_headers_may_be_written_in_any_case(
    provider: SendGridNotifications, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """As ASGI servers hand them over."""
    headers, body = sendgrid_server.webhook(sendgrid_server.event(MAIL, "open"))
    assert await provider.parse_webhook({name.lower(): value for name, value in headers.items()}, body)


async def test_an_app_reads_webhooks_of_its_mails(
    make: Make, notifier: Notifier, sendgrid_server: SendGridServer, clock: ManualClock, colour: Colour
) -> None:
    """From the mail to the report, by the names in the settings."""
    own = Notifier(make(webhook_public_key=sendgrid_server.public_key), context=notifier.context)
    voice = colour.voice(own)
    sent = await voice.send("ada@example.com", channel="email", content=Content(subject="Hi", text="Hi"))
    report = sendgrid_server.event(sendgrid_server.sent[0], "delivered")
    [update] = await voice.webhook(own.provider_name, *sendgrid_server.webhook(report))
    assert (sent.external_id, "delivered", sent.id) == (update.external_id, update.event, update.raw["pilotis_id"])
    await voice.close()


# What is not


async def refused(provider: SendGridNotifications, headers: dict[str, str], body: bytes, why: str) -> None:
    with pytest.raises(AuthenticationError, match=why):
        await provider.parse_webhook(headers, body)


async def test_an_altered_body_is_refused(
    provider: SendGridNotifications, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """By one byte, though it reads the same."""
    headers, body = sendgrid_server.webhook(sendgrid_server.event(MAIL, "open"))
    await refused(provider, headers, body.rstrip(), "does not fit its body")
    await refused(provider, headers, body.replace(b"open", b"drop"), "does not fit its body")
    await refused(provider, headers, body + b"\xff", "does not fit its body")


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("X-Twilio-Email-Event-Webhook-Signature", "", "is not signed"),
        ("X-Twilio-Email-Event-Webhook-Timestamp", "", "is not signed"),
        ("X-Twilio-Email-Event-Webhook-Signature", "no Base64!", "does not fit"),
        ("X-Twilio-Email-Event-Webhook-Signature", "ü", "does not fit"),
        ("X-Twilio-Email-Event-Webhook-Signature", "AAAA", "does not fit"),
        ("X-Twilio-Email-Event-Webhook-Timestamp", "1767225601", "does not fit"),
        ("X-Twilio-Email-Event-Webhook-Timestamp", "now", "does not fit"),
        ("X-Twilio-Email-Event-Webhook-Timestamp", "\ud800", "does not fit"),
    ],
)
async def test_altered_headers_are_refused(
    provider: SendGridNotifications,
    sendgrid_server: SendGridServer,
    *,
    colour: Colour,
    name: str,
    value: str,
    why: str,
) -> None:
    """Missing, no signature at all, another time: all the same to whoever tries."""
    headers, body = sendgrid_server.webhook(sendgrid_server.event(MAIL, "open"))
    await refused(provider, headers | {name: value}, body, why)


async def test_a_signature_with_another_key_is_refused(
    provider: SendGridNotifications, sendgrid_server: SendGridServer, clock: ManualClock, colour: Colour
) -> None:
    """Of another account."""
    other = SendGridServer()
    other.clock = clock.time
    await refused(provider, *other.webhook(other.event(MAIL, "open")), "does not fit its body")
    other.close()


async def test_a_repetition_is_refused(
    provider: SendGridNotifications, sendgrid_server: SendGridServer, clock: ManualClock, colour: Colour
) -> None:
    """As soon as the tolerance is over; and so is one from the future."""
    event = sendgrid_server.event(MAIL, "open")
    headers, body = sendgrid_server.webhook(event)
    clock.advance(300)
    assert await provider.parse_webhook(headers, body)
    clock.advance(1)
    await refused(provider, headers, body, "not signed within 300 s")
    await refused(provider, *sendgrid_server.webhook(event, at=clock.time() + 301), "not signed within 300 s")


async def test_without_a_key_nothing_is_believed(make: Make, sendgrid_server: SendGridServer, colour: Colour) -> None:
    """The option is named."""
    with pytest.raises(AuthenticationError, match="webhook_public_key: expected one"):
        await make().parse_webhook(*sendgrid_server.webhook(sendgrid_server.event(MAIL, "open")))


@pytest.mark.parametrize(
    "event",
    [
        {"event": "open"},
        {"event": "open", "timestamp": "soon"},
        {"event": "open", "timestamp": 1e40},
        {"event": "open", "timestamp": 10**18},
        {"event": "open", "timestamp": 1767225600, "email": 7},
        {"event": "open", "timestamp": 1767225600, "sg_message_id": 7},
        {"event": ["open"], "timestamp": 1767225600},
        7,
    ],
)
async def test_a_body_that_cannot_be_read(
    provider: SendGridNotifications, sendgrid_server: SendGridServer, colour: Colour, event: Any
) -> None:
    """Though it is signed."""
    with pytest.raises(InvalidInputError, match="body: expected a JSON array of events"):
        await provider.parse_webhook(*sendgrid_server.webhook(event))


def test_a_body_as_deep_as_a_well() -> None:
    """It is one of those that cannot be read."""
    with pytest.raises(InvalidInputError, match="body: expected a JSON array of events"):
        updates_in(b'[{"event":"open","timestamp":1,"more":' + b"[" * 100_000 + b"]" * 100_000 + b"}]")
