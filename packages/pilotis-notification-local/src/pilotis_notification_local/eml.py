"""Messages as files that any mail program opens."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8, EmailPolicy
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import msgspec
from pilotis.providers import Attachment, OutgoingMessage, address_parts, bare_address

NO_SENDER = "pilotis@localhost"

# Files of this system end their lines as it does. Mail programs take both.
_ASCII_HEADERS = SMTP.clone(linesep="\n")
_UNICODE_HEADERS = SMTPUTF8.clone(linesep="\n")


def write_eml(message: OutgoingMessage, path: Path, sent_at: float) -> None:
    """Write a message to `path`: whole, or not at all. `sent_at` is in seconds since 1970."""
    data = as_mail(message, sent_at).as_bytes()
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def as_mail(message: OutgoingMessage, sent_at: float) -> EmailMessage:
    """Return a message as a mail. What other channels have in place of a mail address stands in `X-Pilotis-To`."""
    mail = EmailMessage(policy=_policy(message))
    _address(mail, message)
    mail["Date"] = format_datetime(datetime.fromtimestamp(sent_at, UTC))
    mail["Message-ID"] = f"<{message.id}@pilotis.localhost>"
    mail["X-Pilotis-Channel"] = message.channel
    if message.subject is not None:
        mail["Subject"] = message.subject
    if message.template is not None:
        mail["X-Pilotis-Template"] = message.template
    _fill(mail, message)
    for file in message.attachments:
        if not _is_shown(file, message):
            _attach(mail, file)
    return mail


def _policy(message: OutgoingMessage) -> EmailPolicy[Any]:
    """Headers are ASCII, which every program reads, unless an address itself is not: no encoding has a place there."""
    addresses = f"{bare_address(message.to)}{bare_address(message.sender or '')}"
    return _ASCII_HEADERS if addresses.isascii() else _UNICODE_HEADERS


def _address(mail: EmailMessage, message: OutgoingMessage) -> None:
    is_mail = message.channel == "email"
    mail["From"] = _person(message.sender if message.sender and is_mail else NO_SENDER)
    if is_mail:
        mail["To"] = _person(message.to)
    else:
        mail["X-Pilotis-To"] = message.to


def _person(text: str) -> Address:
    """Return an address in its parts: a name may hold what would mean something in a header."""
    name, bare = address_parts(text)
    local, _, domain = bare.rpartition("@")
    return Address(name, local, domain)


def _fill(mail: EmailMessage, message: OutgoingMessage) -> None:
    if message.html is None:
        mail.set_content(_text(message))
        return
    if message.text is None:
        _show(mail, message, message.html)
        return
    mail.set_content(message.text)
    mail.make_alternative()
    part = EmailMessage(policy=mail.policy)
    _show(part, message, message.html)
    mail.attach(part)


def _show(part: EmailMessage, message: OutgoingMessage, html: str) -> None:
    part.set_content(html, subtype="html")
    for file in message.attachments:
        if _is_shown(file, message):
            cid = f"<{file.content_id}>"
            part.add_related(file.content, *_content_type(file), cid=cid, filename=file.filename, disposition="inline")


def _text(message: OutgoingMessage) -> str:
    """Return the text, or for a template that only a real provider could fill in, what it would be filled in with."""
    if message.content is not None:
        return message.text or ""
    return msgspec.json.format(msgspec.json.encode(message.data), indent=2).decode()


def _is_shown(file: Attachment, message: OutgoingMessage) -> bool:
    return file.content_id is not None and message.html is not None


def _attach(mail: EmailMessage, file: Attachment) -> None:
    mail.add_attachment(file.content, *_content_type(file), filename=file.filename)


def _content_type(file: Attachment) -> tuple[str, str]:
    main, _, sub = (file.content_type or "application/octet-stream").partition("/")
    return main, sub
