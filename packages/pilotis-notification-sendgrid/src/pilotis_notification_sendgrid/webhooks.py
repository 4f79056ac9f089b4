"""Event webhooks: https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event.

The signature is ECDSA over the time it was made at, followed by the raw body.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from pilotis.errors import AuthenticationError, InvalidInputError
from pilotis.providers import DeliveryUpdate
from sendgrid.helpers.eventwebhook import (  # pyright: ignore[reportMissingTypeStubs]
    EventWebhook,
    EventWebhookHeader,
)

from pilotis_notification_sendgrid.mails import PART_ARGUMENT, PART_MARK

EVENTS = {
    "delivered": "delivered",
    "deferred": "deferred",
    "bounce": "bounced",
    "dropped": "rejected",
    "open": "opened",
    "click": "clicked",
    "spamreport": "complained",
    "unsubscribe": "unsubscribed",
    "group_unsubscribe": "unsubscribed",
}

_ADDED = re.compile(r"\.(?:filter|recvd).*")
"""What SendGrid puts behind the message id. Where neither word is in it, all from the first dot."""


def verify(public_key: str, headers: Mapping[str, str], body: bytes, now: float, tolerance: float) -> None:
    """Raise `AuthenticationError` unless the body was signed with the key, at most `tolerance` seconds from `now`.

    `now` is in seconds since 1970. Headers may be written in any case.
    """
    given = {name.lower(): value for name, value in headers.items()}
    signature = given.get(EventWebhookHeader.SIGNATURE.lower())
    timestamp = given.get(EventWebhookHeader.TIMESTAMP.lower())
    if not signature or not timestamp:
        names = f"{EventWebhookHeader.SIGNATURE} and {EventWebhookHeader.TIMESTAMP}"
        raise AuthenticationError(f"the webhook is not signed: expected the headers {names}")
    if not _is_signed(public_key, signature, timestamp, body):
        raise AuthenticationError("the signature of the webhook does not fit its body and webhook_public_key")
    if not (timestamp.isdecimal() and abs(now - int(timestamp)) <= tolerance):
        raise AuthenticationError(f"the webhook was not signed within {tolerance:g} s from now: it may be a repetition")


def _is_signed(public_key: str, signature: str, timestamp: str, body: bytes) -> bool:
    webhook: Any = EventWebhook(public_key)
    try:
        return bool(webhook.verify_signature(body.decode(), signature, timestamp))
    except ValueError:  # no Base64, or no text
        return False


def updates_in(body: bytes) -> list[DeliveryUpdate]:
    """Return what a body reports. Raises `InvalidInputError` for one that cannot be read."""
    try:
        events = msgspec.json.decode(body, type=Sequence[dict[str, Any]])
        return [_update(event) for event in events if event.get("event") in EVENTS]
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, OverflowError, OSError, RecursionError) as error:
        raise InvalidInputError("body: expected a JSON array of events, each with a timestamp") from error


def _update(event: dict[str, Any]) -> DeliveryUpdate:
    return msgspec.convert(
        {
            "external_id": _external_id(event),
            "event": EVENTS[event["event"]],
            "at": datetime.fromtimestamp(int(event["timestamp"]), UTC),
            "event_id": event.get("sg_event_id"),
            "to": event.get("email"),
            "reason": event.get("reason") or event.get("response"),
            "raw": event,
        },
        DeliveryUpdate,
    )


def _external_id(event: dict[str, Any]) -> str | None:
    """Return what `Receipt.external_id` was: SendGrid adds to its message id, and we to those of mails of one call."""
    message_id = event.get("sg_message_id")
    if message_id is None:
        return None
    own = message_id[: found.start()] if (found := _ADDED.search(message_id)) else message_id.partition(".")[0]
    return own if PART_ARGUMENT not in event else external_id(own, event[PART_ARGUMENT])


def external_id(message_id: str, part: object) -> str:
    """Return what one of several mails of a call is called."""
    return f"{message_id}{PART_MARK}{part}"
