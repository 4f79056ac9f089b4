"""The local provider: its outbox, its files, its log, its options."""

from __future__ import annotations

import email
import email.policy
import logging
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pilotis.discovery import resolve
from pilotis.errors import NotificationFailedError
from pilotis.modules.notification import Attachment, Content, Notifier
from pilotis.providers import Context, OutgoingMessage, Receipt
from pilotis_notification_local import LocalNotification, LocalNotificationOptions
from pilotis_notification_local.eml import as_mail
from pilotis_testing import Colour, ManualClock

HELLO = Content(subject="Grüße", text="Hallo Welt 👋\n", html="<p>Hallo <img src='cid:logo'></p>")


@pytest.fixture
def mails(tmp_path: Path) -> Path:
    return tmp_path / "out" / "mails"


@pytest.fixture
def notifier(mails: Path, clock: ManualClock) -> Iterator[Notifier]:
    provider = LocalNotification(LocalNotificationOptions(outbox_dir=mails))
    provider.name = "local"
    notifier = Notifier(provider, context=Context(clock=clock))
    yield notifier
    notifier.close()


def read_all(mails: Path) -> list[EmailMessage]:
    return [
        email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in sorted(mails.iterdir())
    ]


async def test_a_mail_is_read_back(notifier: Notifier, mails: Path, colour: Colour) -> None:
    """By Python's own parser: addresses, subject, both bodies, files."""
    logo, invoice = Attachment("logo.png", b"\x89PNG", None, "logo"), Attachment("Rechnung Ü.pdf", b"%PDF\x00\r\n")
    await colour.voice(notifier).send(
        "Ada Löwe <ada@example.com>",
        channel="email",
        content=HELLO,
        sender="Shop <shop@example.com>",
        attachments=[logo, invoice],
    )
    [mail] = read_all(mails)
    assert (mail["To"], mail["From"]) == ("Ada Löwe <ada@example.com>", "Shop <shop@example.com>")
    assert (mail["Subject"], mail["Date"]) == ("Grüße", "Thu, 01 Jan 2026 00:00:00 +0000")
    plain, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert (plain.get_content(), html.get_content()) == (HELLO.text, f"{HELLO.html}\n")
    assert [file.get_filename() for file in mail.iter_attachments()] == ["Rechnung Ü.pdf"]
    parts = {part.get_content_type(): part for part in mail.walk()}
    assert parts["application/pdf"].get_content() == invoice.content
    assert (parts["image/png"].get_content(), parts["image/png"]["Content-ID"]) == (logo.content, "<logo>")
    assert mail.defects == []


async def test_headers_are_ascii_unless_an_address_is_not(notifier: Notifier, mails: Path, colour: Colour) -> None:
    """So that every mail program reads them."""
    voice = colour.voice(notifier)
    await voice.send("Löwe <ada@example.com>", channel="email", content=HELLO)
    await voice.send("löwe@bücher.example", channel="email", content=HELLO)
    raw = [path.read_bytes().partition(b"\n\n")[0] for path in sorted(mails.iterdir())]
    assert [head.isascii() for head in raw] == [True, False]
    assert [mail["To"] for mail in read_all(mails)] == ["Löwe <ada@example.com>", "löwe@bücher.example"]


async def test_html_alone_with_a_picture(notifier: Notifier, mails: Path, colour: Colour) -> None:
    """No empty text part is made up."""
    logo = Attachment("logo.png", b"\x89PNG", None, "logo")
    content = Content(html="<img src='cid:logo'>")
    await colour.voice(notifier).send("ada@example.com", channel="email", content=content, attachments=[logo])
    [mail] = read_all(mails)
    assert [part.get_content_type() for part in mail.walk()] == ["multipart/related", "text/html", "image/png"]
    assert mail.get_body(("plain",)) is None


@pytest.mark.parametrize("html", ["<p>Grüße</p>", "世界 " * 300, "a\x85b\u2028c", "ö\rb"])
async def test_html_alone_in_any_script(notifier: Notifier, mails: Path, colour: Colour, html: str) -> None:
    """However long its lines, and whatever ends them."""
    await colour.voice(notifier).send("ada@example.com", channel="email", content=Content(html=html))
    [mail] = read_all(mails)
    assert mail.get_content() == html.replace("\r", "\n") + "\n"
    assert mail.defects == []


@pytest.mark.parametrize(
    "name",
    [
        "Lovelace, Ada",
        "Ada (the Countess)",
        'The "Countess',
        "ada@home",
        ".",
        "a;b:c",
        "[x]",
        "Löwe, A.",
        "\\",
        "ö" * 20,
    ],
)
async def test_a_name_may_hold_anything(notifier: Notifier, mails: Path, colour: Colour, name: str) -> None:
    """Nobody else gets the mail for it: it is one address, under that name."""
    who = f"{name} <ada@example.com>"
    await colour.voice(notifier).send(who, channel="email", sender=who, content=HELLO)
    [mail] = read_all(mails)
    for header in (mail["To"], mail["From"]):
        assert [(name, "ada@example.com")] == [(one.display_name, one.addr_spec) for one in header.addresses]


async def test_a_message_that_no_file_can_hold_is_a_failure_of_its_own(mails: Path, colour: Colour) -> None:
    """As one with an address that nobody checked: the others of the call are written, and kept in the outbox."""
    provider = LocalNotification(LocalNotificationOptions(outbox_dir=mails))
    await provider.open()
    given = [
        OutgoingMessage(id=f"{number}", channel="email", to=to, content=HELLO)
        for number, to in enumerate(["ada@example.com", "ada\r\n@example.com", "bob@example.com"])
    ]
    assert [Receipt, ValueError, Receipt] == [type(one) for one in await provider.send(given)]
    assert ["ada@example.com", "bob@example.com"] == [mail["To"] for mail in read_all(mails)]
    assert given[::2] == provider.outbox
    await provider.close()


async def test_other_channels_are_files_too(notifier: Notifier, mails: Path, colour: Colour) -> None:
    """The recipient stands in a header of its own; a provider's template shows its data."""
    voice = colour.voice(notifier)
    await voice.send("+46 70 123", channel="sms", content=Content(text="Hi"))
    await voice.send("+46 70 123", channel="sms", template="welcome", data={"name": "Ada"})
    first, second = read_all(mails)
    assert (first["X-Pilotis-To"], first["X-Pilotis-Channel"], first["To"]) == ("+46 70 123", "sms", None)
    assert (second["X-Pilotis-Template"], msgspec.json.decode(second.get_content())) == ("welcome", {"name": "Ada"})


@given(
    subject=st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=200),
    text=st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1),
    files=st.lists(st.binary(), max_size=3),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_anything_is_read_back(subject: str, text: str, files: list[bytes]) -> None:
    """Subject, text and files survive the way through a file."""
    attachments = tuple(Attachment(f"{n}.bin", data, "application/octet-stream") for n, data in enumerate(files))
    message = OutgoingMessage(
        id="n1",
        channel="email",
        to="ada@example.com",
        content=Content(subject=subject, text=text),
        attachments=attachments,
    )
    mail: EmailMessage = email.message_from_bytes(as_mail(message, 0).as_bytes(), policy=email.policy.default)
    body = mail.get_body(("plain",))
    assert body is not None
    assert mail["Subject"] == subject
    assert body.get_content().removesuffix("\n") == text.removesuffix("\n")
    assert [part.get_content() for part in mail.iter_attachments()] == files


async def test_a_file_that_cannot_be_written_is_a_failure(notifier: Notifier, mails: Path, colour: Colour) -> None:
    """The message is not in the outbox, and no half file is left."""
    voice = colour.voice(notifier)
    await voice.open()
    mails.rmdir()
    mails.write_text("in the way")
    with pytest.raises(NotificationFailedError, match="local: "):
        await voice.send("ada@example.com", channel="email", content=HELLO)
    assert notifier.outbox == []


async def test_no_temporary_file_is_left(notifier: Notifier, mails: Path, colour: Colour) -> None:
    """Each message is one file, named in the order of sending."""
    voice = colour.voice(notifier)
    for number in range(3):
        await voice.send("ada@example.com", channel="email", content=Content(text=f"{number}"))
    assert [path.suffix for path in sorted(mails.iterdir())] == [".eml"] * 3
    assert [mail.get_content() for mail in read_all(mails)] == ["0\n", "1\n", "2\n"]


async def test_the_outbox_is_bounded(colour: Colour) -> None:
    """The oldest messages go."""
    notifier = Notifier(LocalNotification(LocalNotificationOptions(max_outbox=2)))
    voice = colour.voice(notifier)
    for number in range(3):
        await voice.send("ada@example.com", channel="email", content=Content(text=f"{number}"))
    assert [message.text for message in notifier.outbox] == ["1", "2"]
    await voice.close()


async def test_a_line_per_message_is_logged(
    notifier: Notifier, colour: Colour, caplog: pytest.LogCaptureFixture
) -> None:
    """With the id, the channel, the template, and the domain of the recipient."""
    caplog.set_level(logging.INFO, "pilotis.notification.local")
    sent = await colour.voice(notifier).send("ada@example.com", channel="email", template="welcome")
    assert caplog.messages == [f"notification {sent.id} to ***@example.com by email, template welcome"]


def test_options_are_checked() -> None:
    """An outbox holds at least one message."""
    with pytest.raises(ValueError, match="max_outbox: expected 1 or more"):
        LocalNotificationOptions(max_outbox=0)
    make: Any = LocalNotificationOptions
    with pytest.raises(TypeError, match="outbox"):
        make(outbox="mails")


def test_it_is_found_by_its_name() -> None:
    """`provider = "local"` in the settings."""
    assert resolve("notification", "local") is LocalNotification


def test_the_outbox_of_a_stand_in_is_the_outbox(notifier: Notifier) -> None:
    """Where another notifier answers every verb for a while, as in `app.override`."""
    other = Notifier(LocalNotification())
    notifier.substitute(other)
    notifier.send("ada@example.com", channel="email", content=HELLO)
    assert notifier.outbox == other.outbox
    assert len(notifier.outbox) == 1
    notifier.substitute(None)
    assert notifier.outbox == []
    other.close()
