"""From messages to calls of the API: https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import msgspec
from pilotis.errors import InvalidInputError
from pilotis.providers import Attachment, Content, OutgoingMessage, address_parts, bare_address

from pilotis_notification_sendgrid.extras import MOST_RECIPIENTS, Extras, read_extras

MOST_BYTES = 30 * 1024 * 1024
NO_SUBJECT = "(no subject)"
"""SendGrid demands a subject."""
ID_ARGUMENT = "pilotis_id"
"""The custom argument that holds a notification's id, so that webhooks tell it."""
PART_ARGUMENT = "pilotis_part"
"""The custom argument that tells the mails of one call apart, which have one message id."""
PART_MARK = "#"
"""Between the message id of a call and the part, in what we call the mails of one call."""

_DYNAMIC = "d-"


class Mail(msgspec.Struct, frozen=True):
    """A message that can be sent, and where it stood among those that were given."""

    index: int
    message: OutgoingMessage
    extras: Extras
    sender: str

    @property
    def recipients(self) -> list[str]:
        """The bare addresses of all, in small letters."""
        return [bare_address(address).lower() for address in (self.message.to, *self.extras.recipients)]

    @property
    def shared(self) -> Hashable:
        """What mails of one call have in common."""
        message, extras = self.message, self.extras
        content = None if message.content is None else (message.content.text, message.content.html)
        apart = (extras.reply_to, extras.categories, extras.unsubscribe_group, extras.ip_pool)
        return (message.channel, self.sender, content, message.template, message.attachments, apart)


def as_mail(index: int, message: OutgoingMessage, default_sender: str | None) -> Mail:
    """Return a message as a mail. Raises `InvalidInputError` for one that SendGrid would refuse, as far as we know."""
    sender = message.sender or default_sender
    if sender is None:
        raise InvalidInputError("sender: expected one here, in [notification], or in the options of SendGrid")
    if message.content is None and not (message.template or "").startswith(_DYNAMIC):
        raise InvalidInputError(
            f"template: expected the id of a dynamic template, which begins with {_DYNAMIC!r}, got {message.template!r}"
        )
    for place, file in enumerate(message.attachments):
        if not file.content:
            raise InvalidInputError(f"attachments[{place}].content: SendGrid takes no empty files")
    _check_size(message)
    mail = Mail(index, message, read_extras(message.provider_data), sender)
    _check_recipients(mail.recipients)
    return mail


def _check_size(message: OutgoingMessage) -> None:
    files = sum(4 * math.ceil(len(file.content) / 3) for file in message.attachments)  # as Base64 writes them
    texts = sum(len(text.encode()) for text in (message.text, message.html) if text)
    if files + texts > MOST_BYTES:
        raise InvalidInputError(
            f"attachments: SendGrid takes {MOST_BYTES} bytes in all, files in Base64, which adds a third; "
            f"got {files + texts}"
        )


def _check_recipients(recipients: list[str]) -> None:
    if len(recipients) > MOST_RECIPIENTS:
        raise InvalidInputError(f"provider_data: expected {MOST_RECIPIENTS} recipients at most, got {len(recipients)}")
    if len(set(recipients)) != len(recipients):
        raise InvalidInputError("provider_data: expected each address once among to, cc and bcc")


# Calls


def calls_for(mails: Sequence[Mail]) -> list[list[Mail]]:
    """Return mails by calls: those that share everything but their recipients go together, as far as one call takes."""
    groups: dict[Hashable, list[Mail]] = {}
    for mail in mails:
        groups.setdefault(mail.shared, []).append(mail)
    return [call for group in groups.values() for call in _filled(group)]


def _filled(group: Sequence[Mail]) -> Iterator[list[Mail]]:
    """Fill calls, each with up to a thousand addresses, none of them twice."""
    calls: list[_Filling] = []
    for mail in group:
        addresses = set(mail.recipients)
        call = next((call for call in calls if call.has_room_for(addresses)), None)
        if call is None:
            calls.append(call := _Filling())
        call.mails.append(mail)
        call.addresses |= addresses
    return (call.mails for call in calls)


class _Filling:
    """A call that is being filled."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []
        self.addresses: set[str] = set()

    def has_room_for(self, addresses: set[str]) -> bool:
        return self.addresses.isdisjoint(addresses) and len(self.addresses) + len(addresses) <= MOST_RECIPIENTS


def body_of(call: Sequence[Mail], *, sandbox: bool) -> dict[str, Any]:
    """Return the body of a call."""
    message, extras = call[0].message, call[0].extras
    return _without_nothing(
        {
            "from": _person(call[0].sender),
            "personalizations": [_personalization(mail, part, len(call)) for part, mail in enumerate(call)],
            "content": _contents(message.content),
            "template_id": message.template if message.content is None else None,
            "attachments": [_file(file) for file in message.attachments],
            "reply_to": None if extras.reply_to is None else _person(extras.reply_to),
            "categories": list(extras.categories),
            "asm": None if extras.unsubscribe_group is None else {"group_id": extras.unsubscribe_group},
            "ip_pool_name": extras.ip_pool,
            "mail_settings": {"sandbox_mode": {"enable": True}} if sandbox else None,
        }
    )


def _personalization(mail: Mail, part: int, parts: int) -> dict[str, Any]:
    message, extras = mail.message, mail.extras
    ours = {ID_ARGUMENT: message.id} | ({PART_ARGUMENT: str(part)} if parts > 1 else {})
    return _without_nothing(
        {
            "to": [_person(message.to)],
            "cc": [_person(address) for address in extras.cc],
            "bcc": [_person(address) for address in extras.bcc],
            "subject": None if message.content is None else message.content.subject or NO_SUBJECT,
            "dynamic_template_data": message.data if message.content is None else None,
            "custom_args": extras.custom_args | ours,
            "headers": extras.headers,
            "send_at": extras.sent_at,
        }
    )


def _contents(content: Content | None) -> list[dict[str, str]]:
    """Return the texts there are, the plain one first, as SendGrid demands."""
    if content is None:
        return []
    texts = (("text/plain", content.text), ("text/html", content.html))
    return [{"type": kind, "value": text} for kind, text in texts if text]


def _person(address: str) -> dict[str, str]:
    name, bare = address_parts(address)
    return {"email": bare} | ({"name": name} if name else {})


def _file(file: Attachment) -> dict[str, Any]:
    shown = (
        {"disposition": "inline", "content_id": file.content_id} if file.content_id else {"disposition": "attachment"}
    )
    return {
        "content": b64encode(file.content).decode(),
        "filename": file.filename,
        "type": file.content_type or "application/octet-stream",
    } | shown


def _without_nothing(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, [], {})}
